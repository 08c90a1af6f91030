"""Ablation: what is put in a unit's place, what the numbers are, and that batches do not matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.tools.architectures import ARCHITECTURES, Case, make_case, tokens
from tests.tools.interventions.test_units_and_text import save_dictionary
from tools.ablation import Ablation, Reference, ablate
from tools.dictionaries import load_dictionary
from tools.errors import InterventionError, NeuroglossError, SubjectError, UnitError
from tools.estimates import rank_correlation, ratio
from tools.interventions import Edit, Where, change, run, set_unit
from tools.planted import build, documents, load_truth, planted_spec
from tools.subject import Subject, load_subject
from tools.types import Site, UnitId

TEXTS = ["Ann saw the red ball in the park.", "Bob ate the green apple at home.", "A girl took the book on Monday."]
UNITS = ["mlp:1:7", "head:1:2", "sae:res:4", "dir:way"]


def units(*names: str) -> list[UnitId]:
    return [UnitId.parse(name) for name in names]


@pytest.fixture(scope="module")
def gpt2(tiny_gpt2_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    subject = load_subject(str(tiny_gpt2_folder), device="cpu")
    folder = save_dictionary(tmp_path_factory.mktemp("dictionaries") / "res")
    subject.attach("res", load_dictionary(folder, "res"))
    subject.add_direction("way", Site(2, "resid_pre"), torch.linspace(-1, 1, 32))
    return subject


@pytest.fixture(scope="module")
def texts(gpt2: Subject) -> list[list[int]]:
    return [gpt2.encode(text) for text in TEXTS]


@pytest.fixture(scope="module")
def reference(gpt2: Subject) -> Reference:
    return Reference.of(gpt2, [f"{text} {other}" for text in TEXTS for other in TEXTS], "made up")


def by_hand(subject: Subject, texts: list[list[int]], *edits: Edit) -> tuple[float, float]:
    """KL and change of loss in float64, each text run alone."""
    kl, loss, counted, followed = 0.0, 0.0, 0, 0
    for text in texts:
        ids = torch.tensor([text])
        plain, other = (run(subject, ids, None, given).logits for given in ((), edits))
        assert plain is not None
        assert other is not None
        p, q = (x[0].double().log_softmax(-1) for x in (plain, other))
        kl += float((p.exp() * (p - q)).sum(-1)[1:].sum())
        picked = torch.arange(1, len(text) - 1), ids[0, 2:]
        loss += float((p[picked] - q[picked]).sum())
        counted, followed = counted + len(text) - 1, followed + len(text) - 2
    return kl / counted, loss / followed


@pytest.mark.parametrize("name", UNITS)
def test_zero_is_an_activation_of_zero_from_the_second_position_on(
    gpt2: Subject, texts: list[list[int]], name: str
) -> None:
    (unit,) = units(name)
    found = ablate(gpt2, [[unit]], texts, "zero").effects[0]
    kl, loss = by_hand(gpt2, texts, set_unit(gpt2, unit, 0.0, Where(since=1)))
    assert found.loss_change is not None
    assert kl > 1e-9
    np.testing.assert_allclose([found.kl, found.loss_change], [kl, loss], rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("kind", ["mean", "resample"])
def test_a_mean_is_that_of_its_position_and_a_sample_that_of_another_text(
    gpt2: Subject, texts: list[list[int]], reference: Reference, kind: Any
) -> None:
    site, text = Site(1, "head_z"), texts[:1]
    read = [run(gpt2, torch.tensor([c]), read=[site], logits=False)[site][0, :, 2] for c in reference.contexts]
    width = len(text[0])
    if kind == "mean":
        candidates = [torch.stack([r[p] for r in read if len(r) > p]).mean(0) for p in range(width)]
        fills = [torch.stack(candidates)]
    else:
        others = [i for i, c in enumerate(reference.contexts) if list(c[:width]) != text[0] and len(c) >= width]
        fills = [read[i][:width] for i in others]
    found = ablate(gpt2, [units("head:1:2")], text, kind, reference, seed=3)
    expected = [
        by_hand(gpt2, text, change(site, lambda old, f=fill: f[1:, None].expand_as(old[None])[0]
                                   if old.ndim == 2 else f[1:].reshape(old.shape), Where(channels=2, since=1),
                                   name="x"))[0]
        for fill in fills
    ]  # fmt: skip
    assert min(abs(found.effects[0].kl - one) for one in expected) < 1e-6 + 1e-4 * found.effects[0].kl
    assert found.reference == {"digest": reference.digest, "contexts": 9, "source": "made up"}


def test_positions_that_no_reference_reaches_have_the_overall_mean(gpt2: Subject, texts: list[list[int]]) -> None:
    short = Reference((tuple(texts[1][:4]), tuple(texts[2][:3])))
    site = Site(1, "mlp_act")
    read = [run(gpt2, torch.tensor([c]), read=[site], logits=False)[site][0, :, 7] for c in short.contexts]
    overall = float(torch.cat([r[1:] for r in read]).mean())
    means = [(read[0][p] + read[1][p]) / 2 if p < 3 else read[0][3] if p == 3 else overall for p in range(20)]
    fill = torch.tensor([float(m) for m in means])
    found = ablate(gpt2, [units("mlp:1:7")], texts[:1], "mean", short).effects[0]
    edit = change(site, lambda old: fill[1 : 1 + old.shape[0]].reshape(old.shape), Where(channels=7, since=1), name="x")
    np.testing.assert_allclose(found.kl, by_hand(gpt2, texts[:1], edit)[0], rtol=1e-3)


def flat(found: Ablation) -> np.ndarray:
    return np.array([[one.kl, one.loss_change, one.peak.kl] for one in found.effects])


@pytest.mark.parametrize("kind", ["zero", "mean", "resample"])
def test_what_shares_a_batch_does_not_matter(
    gpt2: Subject, texts: list[list[int]], reference: Reference, kind: Any
) -> None:
    sets = [units(name) for name in UNITS] + [units(*UNITS), units("mlp:0:1", "mlp:2:3")]
    sequences = [*texts[:2], texts[2][:5]]
    together = ablate(gpt2, sets, sequences, kind, reference)
    for number, one in enumerate(sets):
        alone = ablate(gpt2, [one], sequences, kind, reference)
        np.testing.assert_allclose(flat(together)[number], flat(alone)[0], atol=1e-5)


def test_units_of_a_dictionary_go_together(gpt2: Subject, texts: list[list[int]]) -> None:
    """All latents at zero leave the decoder's bias and the error, whatever their decoder rows have in common."""
    dictionary = gpt2.dictionaries["res"]
    site = Site(1, "resid_post")

    def rid(old: torch.Tensor) -> torch.Tensor:
        latents = dictionary.encode(old)
        return old - dictionary.decode(latents, old) + dictionary.decode(torch.zeros_like(latents), old)

    every = [UnitId("sae:res", i) for i in range(24)]
    found = ablate(gpt2, [every], texts, "zero").effects[0]
    expected, _ = by_hand(gpt2, texts, change(site, rid, Where(since=1), name="x"))
    np.testing.assert_allclose(found.kl, expected, rtol=1e-4)


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_resampling_from_the_text_itself_would_change_nothing(name: str, tiny_gpt2_folder: Path) -> None:
    """On every architecture: contexts that end alike have the same values before their last token."""
    case: Case = make_case(name, tiny_gpt2_folder)
    ids = tokens(1)[0].tolist()
    if not case.subject.causal or case.subject.model.get_output_embeddings() is None:
        with pytest.raises(NeuroglossError):
            ablate(case.subject, [units("head:1:2")], [ids], "resample", Reference((tuple(ids),)))
        return
    neurons = [UnitId("mlp:1", i) for i in range(40)]
    sets = [units("head:1:2")] + ([neurons] if case.reference.hidden else [])
    again = Reference(((*ids, 5), (*ids, 6)))
    with pytest.raises(InterventionError, match="no other reference context"):
        ablate(case.subject, sets, [ids], "resample", again)
    other = Reference(((*ids[:-1], ids[-1] + 1),))
    found = ablate(case.subject, sets, [[*ids[:-1], ids[-1]]], "resample", other)
    for one in found.effects:
        assert abs(one.kl * (len(ids) - 1) - one.peak.kl) < 1e-5  # the last position alone differs
    zero = ablate(case.subject, sets, [ids], "zero")
    assert all(one.kl > 1e-9 for one in zero.effects)


def test_planted_decoys_do_nothing_and_units_with_effects_do_what_the_truth_says() -> None:
    spec = planted_spec("planted")
    subject = load_subject("planted", device="cpu")
    truth = load_truth(build(spec))
    texts = [subject.encode(document.text) for document in documents(spec, fresh=5, n=24)]
    inert = [one for one in truth.values() if one.inert and one.unit.startswith(("mlp", "sae"))][:20]
    acting = [one for one in truth.values() if one.effect and one.unit.startswith("mlp") and one.polarity == "+"]
    firing = [one for one in acting if any(one.active(subject.pieces(text))[1:].any() for text in texts)][:20]
    assert len(inert) == len(firing) == 20
    found = ablate(subject, [units(one.unit) for one in (*inert, *firing)], texts, "zero", k=60)
    assert all(one.peak.kl < 1e-3 for one in found.effects[:20])
    for one, planted in zip(found.effects[20:], firing, strict=True):
        assert planted.effect is not None
        moved = one.lowered if planted.effect.sign > 0 else one.raised
        top = {piece for piece, _ in moved[: len(planted.effect.tokens)]}
        assert len(top & set(planted.effect.tokens)) >= 0.8 * len(planted.effect.tokens), planted.key


def test_a_reference_set_is_kept_and_known_by_its_tokens(tmp_path: Path, reference: Reference) -> None:
    reference.save(tmp_path / "r.json")
    assert Reference.load(tmp_path / "r.json") == reference
    assert Reference.load(tmp_path / "r.json").digest == reference.digest
    assert Reference((*reference.contexts, (1, 2))).digest != reference.digest
    (tmp_path / "r.json").write_text("[]")
    with pytest.raises(InterventionError, match="holds no reference set"):
        Reference.load(tmp_path / "r.json")


def test_mistakes_are_told(gpt2: Subject, texts: list[list[int]], tiny_gpt2_folder: Path) -> None:
    def told(error: type[Exception], words: str, *given: Any) -> None:
        with pytest.raises(error, match=words):
            ablate(gpt2, *given)

    told(UnitError, "units 0-63", [units("mlp:1:64")], texts, "zero")
    told(InterventionError, "reference", [units("mlp:1:3")], texts, "mean")
    told(InterventionError, "nothing to ablate", [[]], texts, "zero")
    told(InterventionError, "next token", [units("mlp:1:3")], [[0, 5]], "zero")
    told(InterventionError, "no kind", [units("mlp:1:3")], texts, "gone")
    gpt2.add_direction("inside", Site(1, "resid_pre"), torch.ones(32))
    headless = make_case("bert-headless", tiny_gpt2_folder).subject
    with pytest.raises(SubjectError, match="no logits"):
        ablate(headless, [units("mlp:1:3")], texts, "zero")


def test_ratios_and_rank_correlations_are_those_of_the_books() -> None:
    value, error = ratio(np.array([1.0, 3.0, 5.0]), np.array([1.0, 2.0, 2.0]))
    residual = np.array([1.0, 3.0, 5.0]) - 1.8 * np.array([1.0, 2.0, 2.0])
    assert value == pytest.approx(1.8)
    assert error == pytest.approx(np.sqrt((residual**2).sum() / 2 * 3) / 5)
    assert np.isnan(ratio(np.array([1.0]), np.array([2.0]))[1])
    assert rank_correlation(np.array([1, 2, 3, 4]), np.array([10, 20, 20, 40])) == pytest.approx(0.9486832980505138)
    assert rank_correlation(np.array([1, 1, 1]), np.array([1, 2, 3])) is None
