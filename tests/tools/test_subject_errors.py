"""The messages when a subject, or what is attached to it, does not fit; and attaching what does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file
from torch import nn

from tools.errors import DictionaryError, SubjectError, UnitError
from tools.subject import Subject, load_subject
from tools.types import Site


@pytest.fixture(scope="module")
def gpt2(tiny_gpt2_folder: Path) -> Subject:
    return load_subject(str(tiny_gpt2_folder), device="cpu")


@pytest.fixture
def copied(tiny_gpt2_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_gpt2_folder, tmp_path / "model"))


def write_dictionary(folder: Path, d_in: int, hook: str) -> Path:
    folder.mkdir(parents=True)
    config = {"architecture": "standard", "d_in": d_in, "d_sae": 8, "hook_name": hook, "activation_fn": "relu"}
    (folder / "cfg.json").write_text(json.dumps(config))
    weights = {"W_enc": torch.randn(d_in, 8), "b_enc": torch.zeros(8), "W_dec": torch.randn(8, d_in),
               "b_dec": torch.zeros(d_in)}  # fmt: skip
    save_file(weights, folder / "sae_weights.safetensors")
    return folder


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("/no/such/folder", "There is no folder '/no/such/folder'"),
        ("./nowhere", "There is no folder"),
        ("", "There is no folder ''"),
    ],
)
def test_missing_folder(name: str, says: str) -> None:
    with pytest.raises(SubjectError, match=says):
        load_subject(name)


def test_hub_id_while_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(SubjectError, match="HF_HUB_OFFLINE is set"):
        load_subject("someone/some-model")


@pytest.mark.parametrize(
    ("error", "says"),
    [("GatedRepoError", "gated. Accept its terms"), ("RepositoryNotFoundError", "neither a folder nor a model")],
)
def test_hub_refusals(monkeypatch: pytest.MonkeyPatch, error: str, says: str) -> None:
    import httpx
    import huggingface_hub

    def refuse(*_: Any, **__: Any) -> str:
        response = httpx.Response(403, request=httpx.Request("GET", "https://huggingface.co/x"))
        raise getattr(huggingface_hub.errors, error)("refused", response=response)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(SubjectError, match=says):
        load_subject("someone/some-model")


def test_folder_without_config(tmp_path: Path) -> None:
    with pytest.raises(SubjectError, match=r"has no config\.json"):
        load_subject(str(tmp_path))


def test_a_file_is_not_a_folder(tiny_gpt2_folder: Path) -> None:
    with pytest.raises(SubjectError, match="is a file"):
        load_subject(str(tiny_gpt2_folder / "config.json"))


def test_pickled_weights_are_refused(copied: Path) -> None:
    (copied / "model.safetensors").unlink()
    (copied / "pytorch_model.bin").write_bytes(b"never read")
    with pytest.raises(SubjectError, match=r"only pickled weights \(pytorch_model.bin\).*save_pretrained"):
        load_subject(str(copied))


def test_no_weights_at_all(copied: Path) -> None:
    (copied / "model.safetensors").unlink()
    with pytest.raises(SubjectError, match=r"has no model\.safetensors"):
        load_subject(str(copied))


def test_truncated_weights(copied: Path) -> None:
    data = (copied / "model.safetensors").read_bytes()
    (copied / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(SubjectError, match="cannot be loaded"):
        load_subject(str(copied))


def test_missing_weights_are_not_made_up(copied: Path) -> None:
    weights = load_file(copied / "model.safetensors")
    del weights["transformer.h.1.mlp.c_fc.weight"]
    save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SubjectError, match=r"lacks 1 of the weights .* transformer\.h\.1\.mlp\.c_fc\.weight"):
        load_subject(str(copied))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"architectures": ["NoSuchModel"]}, "is a NoSuchModel, which transformers"),
        ({"architectures": []}, "does not name its model class"),
        ({"model_type": "nothing-known"}, r"config\.json that cannot be used"),
    ],
)
def test_unknown_architecture(copied: Path, change: dict[str, Any], says: str) -> None:
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(SubjectError, match=says):
        load_subject(str(copied))


def test_malformed_config(copied: Path) -> None:
    (copied / "config.json").write_text("{")
    with pytest.raises(SubjectError, match="not valid JSON"):
        load_subject(str(copied))


def test_missing_tokenizer(copied: Path) -> None:
    for path in copied.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(SubjectError, match="tokenizer"):
        load_subject(str(copied))


def test_tokenizer_of_another_model(copied: Path) -> None:
    config = hf.GPT2Config(vocab_size=50, n_positions=8, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    hf.GPT2LMHeadModel(config).save_pretrained(copied)
    with pytest.raises(SubjectError, match=r"does not fit its model: [0-9]+ tokens, but 50 embeddings"):
        load_subject(str(copied))


@pytest.mark.parametrize(
    ("options", "says"),
    [({"device": "abacus"}, "is not a device"), ({"device": "cuda:99"}, "no device"), ({"dtype": "int3"}, "a dtype")],
)
def test_wrong_device_or_dtype(tiny_gpt2_folder: Path, options: dict[str, str], says: str) -> None:
    with pytest.raises(SubjectError, match=says):
        load_subject(str(tiny_gpt2_folder), **options)  # type: ignore[arg-type]


def test_model_that_does_not_run_is_refused(gpt2: Subject) -> None:
    config = hf.GPT2Config(vocab_size=400, n_positions=16, n_embd=16, n_layer=2, n_head=2)
    model = hf.GPT2LMHeadModel(config).eval()
    model.transformer.h[1].mlp.c_proj = nn.Linear(3, 16)
    with pytest.raises(SubjectError, match=r"Cannot map 'broken' .* does not run .*RuntimeError"):
        Subject("broken", model, gpt2.tokenizer, "0" * 16)


def test_encoder_decoder_is_refused(gpt2: Subject) -> None:
    config = hf.T5Config(vocab_size=400, d_model=16, d_kv=4, d_ff=20, num_layers=2, num_heads=4)
    with pytest.raises(SubjectError, match="encoder-decoder"):
        Subject("t5", hf.T5ForConditionalGeneration(config).eval(), gpt2.tokenizer, "0" * 16)


def test_unmappable_model_says_what_was_looked_for_and_found(gpt2: Subject) -> None:
    config = hf.MambaConfig(vocab_size=400, hidden_size=16, num_hidden_layers=2, state_size=4)
    with pytest.raises(SubjectError, match=r"looked .* 2 blocks \(MambaBlock\)|looked for .* found"):
        Subject("mamba", hf.MambaForCausalLM(config).eval(), gpt2.tokenizer, "0" * 16)


def test_layers_that_share_weights_are_refused(gpt2: Subject) -> None:
    config = hf.AlbertConfig(vocab_size=400, embedding_size=16, hidden_size=16, num_hidden_layers=3,
                             num_attention_heads=2, intermediate_size=20, max_position_embeddings=32)  # fmt: skip
    with pytest.raises(SubjectError, match="run 3 times"):
        Subject("albert", hf.AlbertForMaskedLM(config).eval(), gpt2.tokenizer, "0" * 16)


def test_site_beyond_the_model(gpt2: Subject) -> None:
    with pytest.raises(UnitError, match=r"'resid_post\.7' is beyond the subject .* layers 0-2"):
        gpt2.capture(torch.tensor([[0, 1]]), None, [Site(7, "resid_post")])


def test_context_too_long(gpt2: Subject) -> None:
    with pytest.raises(SubjectError, match=r"65 tokens is too long .* takes 64"):
        gpt2.capture(torch.zeros(1, 65, dtype=torch.int64), None, [Site(0, "resid_pre")])


def test_token_beyond_the_vocabulary(gpt2: Subject) -> None:
    with pytest.raises(SubjectError, match="Token 400 is beyond the vocabulary"):
        gpt2.capture(torch.tensor([[0, 400]]), None, [Site(0, "resid_pre")])


def test_logits_of_a_model_without_head(gpt2: Subject) -> None:
    config = hf.GPT2Config(vocab_size=400, n_positions=16, n_embd=16, n_layer=2, n_head=2)
    subject = Subject("headless", hf.GPT2Model(config).eval(), gpt2.tokenizer, "0" * 16)
    with pytest.raises(SubjectError, match="has no logits"):
        subject.capture(torch.tensor([[0, 1]]), None, [], logits=True)


def test_dictionaries_in_the_model_folder_are_attached(copied: Path, tmp_path: Path) -> None:
    write_dictionary(copied / "dictionaries" / "res1", 32, "blocks.1.hook_resid_post")
    other = write_dictionary(tmp_path / "other", 32, "blocks.0.attn.hook_z")
    subject = load_subject(str(copied), device="cpu", dictionaries={"z": str(other)})
    assert sorted(subject.dictionaries) == ["res1", "z"]
    assert subject.dictionaries["res1"].site == Site(1, "resid_post")


@pytest.mark.parametrize(
    ("width", "hook", "says"),
    [(48, "blocks.1.hook_resid_post", "48.*32"), (32, "blocks.5.hook_resid_post", "layers 0-2"),
     (32, "blocks.1.mlp.hook_post", "32.*64")],
)  # fmt: skip
def test_dictionary_that_does_not_fit(tiny_gpt2_folder: Path, tmp_path: Path, width: int, hook: str, says: str) -> None:
    folder = write_dictionary(tmp_path / "sae", width, hook)
    with pytest.raises(DictionaryError, match=says):
        load_subject(str(tiny_gpt2_folder), device="cpu", dictionaries={"bad": str(folder)})


def test_direction_that_does_not_fit(gpt2: Subject) -> None:
    site = Site(1, "resid_post")
    with pytest.raises(UnitError, match="has 3 components"):
        gpt2.add_direction("d", site, [1.0, 2.0, 3.0])
    with pytest.raises(UnitError, match="length 0"):
        gpt2.add_direction("d", site, torch.zeros(32))
    with pytest.raises(UnitError, match="no colon"):
        gpt2.add_direction("a:b", site, torch.ones(32))
