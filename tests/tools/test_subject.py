"""Loading subjects, their tokens, fingerprints and captures."""

from __future__ import annotations

import json
import shutil
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tools.subject import Subject, load_subject
from tools.types import Site


@pytest.fixture(scope="module")
def gpt2(tiny_gpt2_folder: Path) -> Subject:
    return load_subject(str(tiny_gpt2_folder), device="cpu")


@pytest.fixture
def copied(tiny_gpt2_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_gpt2_folder, tmp_path / "model"))


def hook_count(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_shape_of_a_subject(gpt2: Subject) -> None:
    assert (gpt2.n_layers, gpt2.d_model, gpt2.n_heads, gpt2.d_head, gpt2.context) == (3, 32, 4, 8, 64)
    assert gpt2.n_neurons(2) == 64
    assert gpt2.dtype == torch.float32
    assert gpt2.causal
    assert gpt2.bos_id == 0


def test_encoding_begins_with_bos_and_is_cut_off(gpt2: Subject) -> None:
    ids = gpt2.encode("Ann saw the red ball.")
    assert ids[0] == gpt2.bos_id
    assert gpt2.encode("Ann saw the red ball.", max_tokens=3) == ids[:3]


def test_pieces_of_bytes_join_to_the_text(gpt2: Subject) -> None:
    text = "Ann saw\n\tthe  red ball, twice."
    ids = gpt2.encode(text)
    assert gpt2.pieces(ids)[0] == "<s>"
    assert "".join(gpt2.pieces(ids[1:])) == text
    broken = gpt2.pieces(gpt2.encode("é")[1:])
    assert broken == ["\\xc3", "\\xa9"]
    assert gpt2.pieces([399 + 5]) == ["<unused 404>"]


def test_pieces_of_sentencepiece_keep_spaces(stories: Subject) -> None:
    ids = stories.encode("Once upon a time\n“Hi”")
    assert "".join(stories.pieces(ids)) == "<s> Once upon a time\n“Hi”"


def test_pieces_of_wordpiece(tmp_path: Path) -> None:
    from tools.tokens import Pieces

    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "play", "##ing"]))
    pieces = Pieces(hf.BertTokenizer(str(tmp_path / "vocab.txt")))
    assert pieces([2, 5, 6, 3]) == ["[CLS]", " play", "ing", "[SEP]"]


def test_context_of_an_encoder_begins_and_ends_with_special_tokens(tmp_path: Path) -> None:
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "play", "##ing"]))
    torch.manual_seed(0)
    config = hf.BertConfig(vocab_size=7, hidden_size=16, num_attention_heads=2, num_hidden_layers=2,
                           intermediate_size=20, max_position_embeddings=16)  # fmt: skip
    folder = tmp_path / "bert"
    hf.BertForMaskedLM(config).save_pretrained(folder)
    hf.BertTokenizer(str(vocabulary)).save_pretrained(folder)
    subject = load_subject(str(folder), device="cpu")
    assert subject.prefix == [2]
    assert subject.encode("playing") == [2, 5, 6, 3]
    assert not subject.causal


def test_same_folder_has_the_same_fingerprint_and_shards_do_not_matter(tiny_gpt2_folder: Path, tmp_path: Path) -> None:
    subject = load_subject(str(tiny_gpt2_folder), device="cpu")
    shutil.copytree(tiny_gpt2_folder, tmp_path / "sharded")
    (tmp_path / "sharded" / "model.safetensors").unlink()
    subject.model.save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    assert (tmp_path / "sharded" / "model.safetensors.index.json").is_file()
    assert load_subject(str(tmp_path / "sharded"), device="cpu").fingerprint == subject.fingerprint


def test_changed_weight_changes_the_fingerprint(copied: Path) -> None:
    before = load_subject(str(copied), device="cpu").fingerprint
    weights = load_file(copied / "model.safetensors")
    weights["transformer.wpe.weight"][0, 0] += 1e-3
    save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
    assert load_subject(str(copied), device="cpu").fingerprint != before


def test_shuffled_twin_keeps_each_weights_values_in_another_order(tiny_gpt2_folder: Path) -> None:
    plain = load_subject(str(tiny_gpt2_folder), device="cpu")
    twin = load_subject(str(tiny_gpt2_folder), device="cpu", shuffle_seed=1)
    again = load_subject(str(tiny_gpt2_folder), device="cpu", shuffle_seed=1)
    other = load_subject(str(tiny_gpt2_folder), device="cpu", shuffle_seed=2)
    assert len({plain.fingerprint, twin.fingerprint, other.fingerprint}) == 3
    assert again.fingerprint == twin.fingerprint
    for (name, a), b, c in zip(
        plain.model.named_parameters(), twin.model.parameters(), again.model.parameters(), strict=True
    ):
        assert torch.equal(a.flatten().sort().values, b.flatten().sort().values)
        assert torch.equal(b, c)
        if a.unique().numel() > 2:
            assert not torch.equal(a, b), name
    assert twin.model.get_output_embeddings().weight is twin.model.get_input_embeddings().weight


def test_half_precision_checkpoint_computes_in_float32_on_a_cpu(tiny_gpt2_folder: Path, copied: Path) -> None:
    model = hf.GPT2LMHeadModel.from_pretrained(tiny_gpt2_folder, dtype=torch.float16)
    model.save_pretrained(copied)
    assert json.loads((copied / "config.json").read_text())["dtype"] == "float16"
    subject = load_subject(str(copied), device="cpu")
    assert subject.dtype == torch.float32
    assert load_subject(str(copied), device="cpu", dtype="bfloat16").dtype == torch.bfloat16


def test_structure_is_found_in_bfloat16_and_with_weights_of_zero(tiny_gpt2_folder: Path, copied: Path) -> None:
    weights = load_file(copied / "model.safetensors")
    for name, tensor in weights.items():
        if ".attn.c_proj" in name or ".h.1.mlp." in name:
            tensor.zero_()
    save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
    expected = load_subject(str(tiny_gpt2_folder), device="cpu").sites.plans
    assert load_subject(str(copied), device="cpu", dtype="bfloat16").sites.plans == expected


def test_capture_stops_after_the_deepest_site(gpt2: Subject) -> None:
    calls: Counter[str] = Counter()
    handles = [
        module.register_forward_hook(lambda _m, _i, _o, name=name: calls.update([name]))
        for name, module in gpt2.model.named_modules()
    ]
    ids = torch.tensor([[0, 5, 6, 7]])
    try:
        gpt2.capture(ids, None, [Site(0, "resid_post"), Site(1, "head_z")])
        assert calls["transformer.h.0"] == 1
        assert calls["transformer.h.1.attn.c_attn"] == 1
        assert not any(name.startswith(("transformer.h.1.mlp", "transformer.h.2", "lm_head")) for name in calls)
        calls.clear()
        assert gpt2.capture(ids, None, [Site(0, "resid_pre")], logits=True).logits is not None
        assert calls["transformer.h.2"] == calls["lm_head"] == 1
        calls.clear()
        assert len(gpt2.capture(ids, None, [])) == 0
        assert not calls
    finally:
        for handle in handles:
            handle.remove()


def test_hooks_are_gone_after_a_capture(gpt2: Subject) -> None:
    before = hook_count(gpt2.model)
    gpt2.capture(torch.tensor([[0, 5, 6]]), None, [Site(1, "attn_pattern"), Site(2, "mlp_act")], logits=True)
    assert hook_count(gpt2.model) == before


def test_hooks_are_gone_after_an_exception_inside_the_model(gpt2: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    before = hook_count(gpt2.model)
    kernel = gpt2.model.config._attn_implementation

    def fail(*_: Any) -> Tensor:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(gpt2.model.transformer.h[1].mlp, "forward", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        gpt2.capture(torch.tensor([[0, 5, 6]]), None, [Site(0, "attn_pattern"), Site(2, "resid_post")])
    assert hook_count(gpt2.model) == before
    assert gpt2.model.config._attn_implementation == kernel
    monkeypatch.undo()
    assert len(gpt2.capture(torch.tensor([[0, 5, 6]]), None, [Site(2, "resid_post")])) == 1


def test_pattern_of_a_fused_kernel_is_computed_and_the_kernel_restored(gpt2: Subject) -> None:
    gpt2.model.set_attn_implementation("sdpa")
    ids = torch.tensor([[0, 5, 6, 9]])
    site, pattern = Site(2, "resid_post"), Site(1, "attn_pattern")
    fused = gpt2.capture(ids, None, [site])[site]
    explicit = gpt2.capture(ids, None, [site, pattern])
    assert gpt2.model.config._attn_implementation == "sdpa"
    torch.testing.assert_close(fused, explicit[site], rtol=1e-5, atol=1e-5)
    assert float(explicit[pattern].triu(1).abs().max()) == 0.0


def test_left_padding_does_not_shift_positions(gpt2: Subject) -> None:
    """Without position ids made from the mask, GPT-2 would number the padding."""
    sequence = [0, 5, 6, 7]
    site = Site(0, "resid_pre")
    alone = gpt2.capture(torch.tensor([sequence]), None, [site])[site][0]
    ids, mask = gpt2.pad([sequence, [0, 9, 10, 11, 12, 13, 14]], side="left")
    torch.testing.assert_close(gpt2.capture(ids, mask, [site])[site][0, 3:], alone, rtol=1e-5, atol=1e-5)
    naive = gpt2.model.transformer.wte(ids) + gpt2.model.transformer.wpe(torch.arange(7))
    assert not torch.allclose(naive[0, 3:], alone, atol=1e-3)


def test_last_residual_stream_is_before_the_final_norm(gpt2: Subject) -> None:
    ids = torch.tensor([[0, 5, 6, 7]])
    site = Site(2, "resid_post")
    captured = gpt2.capture(ids, None, [site], logits=True)
    model = gpt2.model
    assert captured.logits is not None
    with torch.no_grad():
        normed = model.transformer.ln_f(captured[site])
        torch.testing.assert_close(model.lm_head(normed), captured.logits, rtol=1e-5, atol=1e-5)
        last = model(input_ids=ids, output_hidden_states=True).hidden_states[-1]
    torch.testing.assert_close(last, normed, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(last, captured[site], atol=1e-2)


def test_captured_streams_are_not_changed_by_later_modules(gpt2: Subject) -> None:
    """Some models add to the residual stream in place."""
    handle = gpt2.model.transformer.h[1].ln_1.register_forward_pre_hook(lambda _m, args: (args[0].mul_(3.0),))
    ids, site = torch.tensor([[0, 5, 6]]), Site(0, "resid_post")
    try:
        changed = gpt2.capture(ids, None, [site, Site(2, "resid_post")])[site]
    finally:
        handle.remove()
    torch.testing.assert_close(changed, gpt2.capture(ids, None, [site])[site])


def test_threads_may_share_a_subject(gpt2: Subject) -> None:
    sites = [Site(2, "resid_post"), Site(0, "mlp_act"), Site(1, "attn_pattern")]
    inputs = [torch.randint(0, 400, (1, 5 + i), generator=torch.Generator().manual_seed(i)) for i in range(8)]
    expected = [gpt2.capture(ids, None, sites) for ids in inputs]
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(5):
            got = gpt2.capture(inputs[i], None, sites)
            if any(not torch.equal(got[s], expected[i][s]) for s in sites):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_loading_prints_nothing(tiny_gpt2_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_subject(str(tiny_gpt2_folder), device="cpu").encode("Ann saw " * 200)
    assert capfd.readouterr() == ("", "")
