"""A language model of random weights that chats: small, made on the spot, and served by a real vLLM."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CONTEXT = 16_384
"""Tokens. Prompts are long in tokens where there are but 512 different ones."""
LOUDER = 2.5
_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def make_chat_model(folder: Path, seed: int = 0) -> Path:
    """A Llama of 2 layers (d_model 128, 4 heads sharing 2 key/value heads) with a byte-level BPE of 512 tokens, trained
    on the project's own prompts, and a template for turns of system, user and assistant; as a Hugging Face folder."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=["<|end|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    prompts = resources.files("explainers.llm") / "prompts"
    tokenizer.train_from_iterator(
        (file.read_text(encoding="utf-8") for file in sorted(prompts.iterdir(), key=lambda f: f.name)), trainer
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|pad|>", chat_template=_TEMPLATE
    )
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(fast), hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=CONTEXT, bos_token_id=0, eos_token_id=0, pad_token_id=1,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        # Random weights seldom end a text. With louder quotation marks some answers are done before their limit.
        quoting = [number for text, number in fast.get_vocab().items() if '"' in text]
        model.lm_head.weight[quoting] *= LOUDER
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder
