"""Fixtures shared by all rooms: the real small model, where it is at hand, and tiny models made on the spot."""

from __future__ import annotations

import os

# One thread a process, also in those that tests start: pytest runs several at once, and the threads of small matrix
# products wait for each other. Read when torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

if TYPE_CHECKING:
    from explainers.llm.kit import LlmKit
    from explainers.llm.types import MemoryAccount
    from tests.serving import ProgrammableServer
    from tools.subject import Subject

SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
TEXTS = [
    f"{who} {verb} the {what} {where}.\n"
    for who in ("Ann", "Bob", "The old cat", "A girl", "My friend")
    for verb in ("saw", "likes", "found", "ate", "took")
    for what in ("red ball", "small house", "green apple", "book")
    for where in ("in the park", "at home", "on Monday", "after 12 days")
]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the real model and the real stories."""
    if not (SHARED / "stories260k" / "model.safetensors").is_file():
        pytest.skip(f"the real model is not beside the project ({SHARED.name}/stories260k)")
    return SHARED


@pytest.fixture(scope="session")
def stories(shared_data: Path) -> Subject:
    from tools.subject import load_subject

    return load_subject(str(shared_data / "stories260k"), device="cpu")


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE of 400 tokens, with a beginning-of-sequence token that encoding adds."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", pad_token="<pad>")


@pytest.fixture(scope="session")
def tiny_gpt2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random GPT-2 (3 layers, d_model 32, 4 heads, 64 neurons) with its tokenizer, as a Hugging Face folder."""
    folder = tmp_path_factory.mktemp("models") / "tiny-gpt2"
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=400, n_positions=64, n_embd=32, n_layer=3, n_head=4, n_inner=64, bos_token_id=0, eos_token_id=0
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama (2 layers, d_model 32, 4 heads sharing 2 key/value heads, 48 neurons), as a folder."""
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=400, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_t5_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random T5 (3 encoder and 2 decoder layers, d_model 32), which is an encoder-decoder model, as a folder."""
    from transformers import T5Config, T5ForConditionalGeneration

    folder = tmp_path_factory.mktemp("models") / "tiny-t5"
    torch.manual_seed(6)
    config = T5Config(
        vocab_size=400, d_model=32, d_kv=8, d_ff=48, num_layers=3, num_decoder_layers=2, num_heads=4,
        decoder_start_token_id=1, pad_token_id=1, eos_token_id=0,
    )  # fmt: skip
    T5ForConditionalGeneration(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_corpus_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 short, distinct documents as JSONL."""
    import json

    path = tmp_path_factory.mktemp("corpus") / "tiny.jsonl"
    rows = [{"id": f"d{i:03}", "text": f"{i} " + TEXTS[i] + TEXTS[(7 * i + 3) % 400]} for i in range(400)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def llm_server() -> Iterator[ProgrammableServer]:
    """A server that answers as a competent explainer; see `tests.serving` for what else it can be made to do."""
    from tests.serving import ProgrammableServer

    with ProgrammableServer() as server:
        yield server


@pytest.fixture
def llm_account() -> Iterator[MemoryAccount]:
    """An account that the calls of a test are charged to."""
    from explainers.llm.accounts import charged_to
    from explainers.llm.types import MemoryAccount

    account = MemoryAccount()
    with charged_to(account):
        yield account


@pytest.fixture
def llm_kit(llm_server: ProgrammableServer, llm_account: MemoryAccount) -> Iterator[LlmKit]:
    """The package's prompts and likeness in words, over a client of `llm_server`; calls go to `llm_account`."""
    from explainers.llm.client import LlmClient
    from explainers.llm.endpoints import parse_endpoint
    from explainers.llm.kit import LlmKit
    from explainers.llm.likeness import likeness_for
    from explainers.llm.prompts import Prompts

    endpoint = parse_endpoint(f"vllm:{llm_server.model}@{llm_server.url}")
    with LlmClient([endpoint], timeout=10.0) as llm:
        yield LlmKit(llm, Prompts(), likeness_for(None))
