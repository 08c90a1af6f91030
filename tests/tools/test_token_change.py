from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tools.dictionaries import load_dictionary
from tools.errors import UnitError
from tools.lenses import write_lens
from tools.subject import Subject, load_subject
from tools.token_change import token_change
from tools.types import Site, UnitId
from tools.units import unit_activations

CONTEXTS = [[0, *range(20, 50)], [0, *range(60, 80)], [0, 7], [0]]


@pytest.fixture(scope="module")
def gpt2(tiny_gpt2_folder: Path) -> Subject:
    subject = load_subject(str(tiny_gpt2_folder), device="cpu")
    for layer, kind in ((1, "resid_pre"), (1, "resid_mid"), (1, "resid_post"), (1, "mlp_out"), (1, "attn_out")):
        subject.add_direction(kind, Site(layer, kind), torch.linspace(-1, 1, 32))
    return subject


@pytest.fixture(scope="module")
def llama(tiny_llama_folder: Path) -> Subject:
    return load_subject(str(tiny_llama_folder), device="cpu")


def logits(subject: Subject, context: list[int]) -> torch.Tensor:
    found = subject.capture(torch.tensor([context]), None, [], logits=True).logits
    assert found is not None
    return found[0].float()


def by_hand(subject: Subject, unit: UnitId, value: float) -> torch.Tensor:
    """The mean change of the logits when neuron's inputs of the output projection are overwritten, one text a time."""
    module = subject.sites.module(int(unit.where), subject.sites.plans[0].taps["mlp_act"].path)
    changes = []
    for context in (c for c in CONTEXTS if len(c) > 1):
        plain = logits(subject, context)

        def overwrite(_: object, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
            tensor = args[0].clone()
            tensor[:, 1:, unit.index] = value
            return (tensor,)

        handle = module.register_forward_pre_hook(overwrite)
        changes.append((logits(subject, context) - plain)[1:])
        handle.remove()
    mean = torch.cat(changes).mean(0)[: len(subject.tokenizer)]
    return mean - mean.mean()


@pytest.mark.parametrize("value", [3.0, -3.0])
@pytest.mark.parametrize("model", ["gpt2", "llama"])
def test_a_neuron_s_change_is_that_of_overwriting_it(model: str, value: float, request: pytest.FixtureRequest) -> None:
    subject: Subject = request.getfixturevalue(model)
    unit = UnitId("mlp:0", 5)
    expected = by_hand(subject, unit, value)
    found = token_change(subject, unit, CONTEXTS, value, k=6)
    assert found is not None
    high, low = expected.topk(6), expected.topk(6, largest=False)
    np.testing.assert_allclose([v for _, v in found.promoted], high.values, atol=1e-5)
    np.testing.assert_allclose([v for _, v in found.suppressed], low.values, atol=1e-5)
    assert [p for p, _ in found.promoted] == subject.pieces(high.indices.tolist())
    assert [p for p, _ in found.suppressed] == subject.pieces(low.indices.tolist())


def test_the_last_write_changes_the_logits_as_the_lens_of_weights_says(gpt2: Subject) -> None:
    """Behind the last block only the final norm is left, which a small change passes almost linearly."""
    gpt2.add_direction("last", Site(2, "resid_post"), torch.randn(32, generator=torch.Generator().manual_seed(3)))
    unit = UnitId.parse("dir:last")
    now = unit_activations(gpt2, [unit], [CONTEXTS[0]])[0][0, 1:]
    found = token_change(gpt2, unit, [CONTEXTS[0]], float(now.max()) + 50.0, k=20)
    lens = write_lens(gpt2, unit, k=20)
    assert found is not None
    assert lens is not None
    assert len({p for p, _ in found.promoted} & {p for p, _ in lens.promoted}) >= 15


def test_a_stream_between_attention_and_mlp_is_changed_where_attention_adds_to_it(gpt2: Subject) -> None:
    ids = torch.tensor([CONTEXTS[0]])
    unit = UnitId.parse("dir:resid_mid")
    site = Site(1, "resid_mid")
    plain = gpt2.capture(ids, None, [site])[site][0].float()
    vector = gpt2.directions["resid_mid"].vector
    wanted = plain + (4.0 - plain @ vector)[:, None] * vector
    wanted[0] = plain[0]
    block = gpt2.sites.blocks[1]
    stream: list[torch.Tensor] = []
    handle = block.ln_2.register_forward_pre_hook(lambda m, args: stream.append(args[0][0].float()))  # type: ignore[union-attr]
    try:
        assert token_change(gpt2, unit, [CONTEXTS[0]], 4.0) is not None
    finally:
        handle.remove()
    torch.testing.assert_close(stream[-1], wanted, atol=1e-5, rtol=1e-4)


def test_padding_and_the_first_position_do_not_count(gpt2: Subject) -> None:
    unit = UnitId("mlp:2", 1)
    alone = token_change(gpt2, unit, [CONTEXTS[0]], 2.0, k=5)
    beside = token_change(gpt2, unit, [CONTEXTS[0], [0]], 2.0, k=5)
    assert alone == beside
    short = token_change(gpt2, unit, [CONTEXTS[2]], 2.0, k=5)
    mixed = token_change(gpt2, unit, [CONTEXTS[2], CONTEXTS[2], [0, 7]], 2.0, k=5)
    assert short is not None
    assert mixed is not None
    np.testing.assert_allclose([v for _, v in short.promoted], [v for _, v in mixed.promoted], atol=1e-6)


def test_units_and_texts_that_cannot_be_used_are_told(gpt2: Subject) -> None:
    with pytest.raises(UnitError, match="beyond"):
        token_change(gpt2, UnitId("mlp:0", 64), CONTEXTS, 1.0)
    with pytest.raises(UnitError, match="at least 2 tokens"):
        token_change(gpt2, UnitId("mlp:0", 1), [[0], []], 1.0)


def test_no_hook_is_left_behind(gpt2: Subject) -> None:
    before = logits(gpt2, CONTEXTS[0])
    token_change(gpt2, UnitId("head:0", 1), CONTEXTS, 5.0)
    torch.testing.assert_close(logits(gpt2, CONTEXTS[0]), before, atol=0.0, rtol=0.0)


@pytest.mark.parametrize("kind", ["standard", "normalised", "transcoder"])
def test_a_latent_s_change_is_its_decoder_row_and_leaves_the_rest(gpt2: Subject, kind: str, tmp_path: Path) -> None:
    config: dict[str, Any] = {
        "architecture": "transcoder" if kind == "transcoder" else "standard",
        "d_in": 32,
        "d_sae": 48,
        "apply_b_dec_to_input": kind != "transcoder",
        "normalize_activations": "layer_norm" if kind == "normalised" else "none",
        "metadata": {"hook_name": "blocks.1.hook_resid_post"},
    }
    generator = torch.Generator().manual_seed(1)
    shapes = {"W_enc": (32, 48), "b_enc": (48,), "W_dec": (48, 32), "b_dec": (32,)}
    if kind == "transcoder":
        hooks = {"hook_name": "blocks.1.hook_resid_mid", "hook_name_out": "blocks.1.hook_mlp_out"}
        config |= {"d_out": 32, "metadata": hooks}
    (tmp_path / "cfg.json").write_text(json.dumps(config))
    save_file({k: torch.randn(s, generator=generator) for k, s in shapes.items()}, tmp_path / "sae_weights.safetensors")
    gpt2.attach(kind, load_dictionary(str(tmp_path), kind))
    dictionary = gpt2.dictionaries[kind]
    context, value, latent = CONTEXTS[0], 2.0, 7
    x = gpt2.capture(torch.tensor([context]), None, [dictionary.site])[dictionary.site][0].float()
    z = dictionary.encode(x)[:, latent]
    scale = x.std(-1) if kind == "normalised" else torch.ones_like(z)
    added = ((value - z) * scale)[:, None] * dictionary.W_dec[latent]
    added[0] = 0
    block = gpt2.sites.blocks[1]
    plain = logits(gpt2, context)
    place = block.get_submodule("mlp") if kind == "transcoder" else block

    def add(_: object, __: object, output: Any) -> Any:
        return output + added if isinstance(output, torch.Tensor) else (output[0] + added, *output[1:])

    handle = place.register_forward_hook(add)
    mean = (logits(gpt2, context) - plain)[1:].mean(0)[: len(gpt2.tokenizer)]
    handle.remove()
    found = token_change(gpt2, UnitId(f"sae:{kind}", latent), [context], value, k=8)
    assert found is not None
    np.testing.assert_allclose([v for _, v in found.promoted], (mean - mean.mean()).topk(8).values, atol=1e-4)
