"""DecoderLens on a tiny random T5 and BART."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as hf

from tests.conftest import tiny_tokenizer
from tools.errors import SubjectError
from tools.lenses.decoder import decoder_lens


def model_of(kind: str) -> Any:
    torch.manual_seed(6)
    if kind == "t5":
        config = hf.T5Config(vocab_size=400, d_model=32, d_kv=8, d_ff=48, num_layers=3, num_decoder_layers=2,
                             num_heads=4, decoder_start_token_id=1, pad_token_id=1, eos_token_id=0)  # fmt: skip
        return hf.T5ForConditionalGeneration(config).eval()
    config = hf.BartConfig(vocab_size=400, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
                           decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, pad_token_id=1,
                           bos_token_id=0, eos_token_id=0, decoder_start_token_id=1, max_position_embeddings=64,
                           forced_eos_token_id=None)  # fmt: skip
    return hf.BartForConditionalGeneration(config).eval()


@pytest.mark.parametrize(("kind", "layers"), [("t5", 4), ("bart", 3)])
def test_last_layer_is_the_ordinary_output(kind: str, layers: int) -> None:
    model, tokenizer = model_of(kind), tiny_tokenizer()
    found = decoder_lens(model, tokenizer, "Ann saw the red ball", max_new_tokens=8)
    ids = tokenizer("Ann saw the red ball", return_tensors="pt")["input_ids"]
    ordinary = model.generate(input_ids=ids, max_new_tokens=8, do_sample=False, num_beams=1)[0, 1:].tolist()
    assert [reading.layer for reading in found.readings] == list(range(layers))
    assert list(found.readings[-1].tokens) == ordinary[: len(found.readings[-1].tokens)]
    start = torch.tensor([[1]])
    logits = model(input_ids=ids, decoder_input_ids=start).logits[0, 0]
    best = logits.softmax(-1).topk(5)
    assert [p for _, p in found.readings[-1].first] == pytest.approx(best.values.tolist(), abs=1e-6)
    assert "".join(found.source).startswith("<s>")


def test_earlier_layers_pass_the_final_norm_and_not_the_last_block() -> None:
    """The embedding's reading is the decoder's on LN_final of the embedding, computed from T5's own modules."""
    model, tokenizer = model_of("t5"), tiny_tokenizer()
    model.encoder.final_layer_norm.weight.data = torch.linspace(0.5, 2.0, 32)
    found = decoder_lens(model, tokenizer, "Bob likes books", max_new_tokens=4)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    ids = tokenizer("Bob likes books", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        states = model.encoder(input_ids=ids, output_hidden_states=True).hidden_states
        for layer in (0, 1, 2):
            shown = model.encoder.final_layer_norm(states[layer])
            logits = model(
                encoder_outputs=hf.modeling_outputs.BaseModelOutput(last_hidden_state=shown),
                decoder_input_ids=torch.tensor([[1, *found.readings[-1].tokens]]),
            ).logits[0]
            logs = logits[:-1].log_softmax(-1)
            tokens = torch.tensor(found.readings[-1].tokens)
            assert found.readings[layer].ordinary == pytest.approx(
                float(logs.gather(-1, tokens[:, None]).mean()), abs=1e-5
            )
            best = float(logits[0].softmax(-1).max())
            assert found.readings[layer].first[0][1] == pytest.approx(best, abs=1e-6)
    assert found.readings[0].ordinary != pytest.approx(found.readings[-1].ordinary, abs=1e-3)


def test_decoders_are_sent_to_the_logit_lens() -> None:
    config = hf.GPT2Config(vocab_size=400, n_embd=16, n_layer=1, n_head=2, n_positions=16)
    with pytest.raises(SubjectError, match="logit lens"):
        decoder_lens(hf.GPT2LMHeadModel(config), tiny_tokenizer(), "x")
