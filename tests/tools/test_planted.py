"""Planted subjects do exactly what their truth says, on fresh text, in both architectures."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tools.errors import SubjectError
from tools.heads import edge_profiles
from tools.planted import INERT, PlantedSpec, UnitTruth, build, documents, load_truth, near_misses, planted_spec
from tools.subject import Subject, load_subject
from tools.types import Site, UnitId
from tools.units import unit_activations

TEXTS = 100
"""Fresh texts."""
OTHERS = ("planted:arch=llama", "planted:seed=7,size=large", "planted:seed=3,size=large,arch=llama")
ROWS = 64
"""Contexts in a forward pass in which units are set to zero."""


@dataclass(frozen=True)
class Planted:
    folder: Path
    subject: Subject
    truth: dict[str, UnitTruth]
    spec: PlantedSpec
    contexts: list[list[int]]
    """Fresh texts and, for every unit with a rule, some texts in which it just holds or just fails."""
    activations: dict[str, list[np.ndarray]]
    """By unit, for each context."""

    def pieces(self, context: int) -> list[str]:
        return self.subject.pieces(self.contexts[context])

    def magnitudes(self, truth: UnitTruth) -> list[np.ndarray]:
        """Activations on the truth's tail, for each context, position 0 left out."""
        sign = 1.0 if truth.polarity == "+" else -1.0
        return [np.maximum(sign * values[1:], 0.0) for values in self.activations[truth.unit]]


@pytest.fixture(
    scope="module", params=["planted", *(pytest.param(text, marks=pytest.mark.slow) for text in OTHERS)], ids=str
)
def planted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Planted:
    spec = planted_spec(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        subject = load_subject(spec.text, device="cpu")
        folder = build(spec)
    truth = load_truth(folder)
    texts = [document.text for document in documents(spec, fresh=11, n=TEXTS)]
    ruled = [one for one in truth.values() if one.cases]
    texts += [text for i, one in enumerate(ruled) for text in near_misses(one, spec, 1 + (i % 3 == 0), seed=3)]
    contexts = [subject.encode(text) for text in texts]
    groups = defaultdict(list)
    for name in sorted({one.unit for one in truth.values()}):
        groups[UnitId.parse(name).group].append(UnitId.parse(name))
    activations: dict[str, list[np.ndarray]] = {}
    for units in groups.values():
        values = unit_activations(subject, units, contexts)
        activations |= {str(unit): [one[row] for one in values] for row, unit in enumerate(units)}
    return Planted(folder, subject, truth, spec, contexts, activations)


def test_every_unit_with_a_rule_is_as_active_as_its_truth_says_wherever_it_says(planted: Planted) -> None:
    pieces = [planted.pieces(i) for i in range(len(planted.contexts))]
    wrong = []
    for truth in planted.truth.values():
        if not truth.has_rule:
            continue
        found = np.concatenate(planted.magnitudes(truth))
        expected = np.concatenate([truth.expected(one)[1:] for one in pieces])
        if np.abs(found - expected).max() > truth.tolerance:
            wrong.append(f"{truth.key} ({truth.family}) is off by {np.abs(found - expected).max():.3g}")
        if truth.cases:
            assert ((found > 0.5 * truth.level) == (expected > 0.5 * truth.level)).all(), truth.key
        else:
            assert found.max() <= 1e-9, truth.key
    assert not wrong, "\n".join(wrong)


def test_a_tail_that_no_truth_claims_is_empty(planted: Planted) -> None:
    for truth in planted.truth.values():
        kind = truth.unit.partition(":")[0]
        if truth.has_rule and kind == "mlp" and truth.level > 1:
            sign = -1.0 if truth.polarity == "+" else 1.0
            other = max(float((sign * values[1:]).max()) for values in planted.activations[truth.unit])
            assert other < 0.05 * truth.level, truth.key


Job = tuple[UnitTruth, int, int]
"""A unit, a context, a position."""


def zeroed(planted: Planted, jobs: list[Job]) -> Iterator[tuple[Job, torch.Tensor, torch.Tensor]]:
    """The logits at each position as they are, and with the unit set to zero there."""
    jobs = sorted(jobs, key=lambda job: job[2])
    for start in range(0, len(jobs), ROWS):
        yield from _zeroed_batch(planted.subject, jobs[start : start + ROWS], planted.contexts)


def _zeroed_batch(
    subject: Subject, rows: list[Job], contexts: list[list[int]]
) -> Iterator[tuple[Job, torch.Tensor, torch.Tensor]]:
    ids, mask = subject.pad([contexts[context][: position + 1] for _, context, position in rows])
    units = [(row, position, UnitId.parse(truth.unit)) for row, (truth, _, position) in enumerate(rows)]
    dictionary = subject.dictionaries["planted"]

    def silencer(layer: int, kind: str, width: int) -> Callable[..., Any]:
        def silence(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            x = inputs[0].clone()
            for row, position, unit in units:
                if unit.group == f"{kind}:{layer}":
                    x[row, position, unit.index * width : (unit.index + 1) * width] = 0.0
            return (x, *inputs[1:])

        return silence

    def subtract(module: torch.nn.Module, inputs: object, output: Any) -> Any:
        stream = output[0] if isinstance(output, tuple) else output
        latents, stream = dictionary.encode(stream), stream.clone()
        for row, position, unit in units:
            if unit.kind == "sae":
                stream[row, position] -= latents[row, position, unit.index] * dictionary.W_dec[unit.index]
        return (stream, *output[1:]) if isinstance(output, tuple) else stream

    hooks = [subject.sites.blocks[dictionary.site.layer].register_forward_hook(subtract)]
    for layer in range(subject.n_layers):
        plan = subject.plan(layer)
        for kind, path, width in (("mlp", plan.mlp_out, 1), ("head", plan.attention_out, subject.d_head)):
            module = subject.sites.module(layer, path)
            hooks.append(module.register_forward_pre_hook(silencer(layer, kind, width)))
    with torch.no_grad():
        without = subject.model(input_ids=ids, attention_mask=mask).logits
        for hook in hooks:
            hook.remove()
        whole = subject.model(input_ids=ids, attention_mask=mask).logits
    for row, job in enumerate(rows):
        yield job, whole[row, job[2]], without[row, job[2]]


def test_every_claimed_effect_on_the_logits_is_there_and_what_is_inert_has_none(planted: Planted) -> None:
    ids = {piece: i for i, piece in enumerate(planted.subject.pieces(range(planted.subject.vocabulary)))}
    jobs = []
    for truth in planted.truth.values():
        if not truth.cases or (truth.effect is None and not truth.inert):
            continue
        strongest = [
            (float(values.max(initial=0)), context) for context, values in enumerate(planted.magnitudes(truth))
        ]
        strongest.sort(reverse=True)
        assert strongest[0][0] > 0.5 * truth.level, f"{truth.key} is on nowhere"
        context = strongest[0][1]
        jobs.append((truth, context, 1 + int(planted.magnitudes(truth)[context].argmax())))
    assert len(jobs) > 250
    wrong = []
    for (truth, _, _), whole, without in zeroed(planted, jobs):
        change = whole - without
        if truth.inert:
            if float(change.abs().max()) > INERT:
                wrong.append(f"{truth.key} ({truth.family}) is not inert: {float(change.abs().max()):.3g}")
        elif truth.effect is not None:
            chosen = change[[ids[token] for token in truth.effect.tokens]].mean() - change.mean()
            if truth.effect.sign * float(chosen) < truth.effect.least:
                wrong.append(f"{truth.key} ({truth.family}): {float(chosen):.3g} not {truth.effect}")
    assert not wrong, "\n".join(wrong)


def test_there_are_at_least_300_units_in_ten_families_of_every_kind(planted: Planted) -> None:
    families = Counter(truth.family for truth in planted.truth.values())
    assert len({truth.unit for truth in planted.truth.values()}) >= 300
    assert len(families) >= 10
    assert {truth.unit.partition(":")[0] for truth in planted.truth.values()} == {"mlp", "head", "sae"}
    assert all(truth.key == key for key, truth in planted.truth.items())
    assert {truth.unit for truth in planted.truth.values() if truth.polarity == "-"}


def test_the_circuit_predicts_the_name_that_is_not_repeated(planted: Planted) -> None:
    subject = planted.subject
    ids = {piece: i for i, piece in enumerate(subject.pieces(range(subject.vocabulary)))}
    names = ["Anna", "Ben", "Clara", "Peter", "Maria", "Xaver"]
    for first in names:
        for second in names:
            if first == second:
                continue
            for giver, other in ((first, second), (second, first)):
                text = f"when {first} and {second} met , {giver} gave a hammer to"
                logits = subject.model(input_ids=torch.tensor([subject.encode(text)])).logits[0, -1]
                assert int(logits.argmax()) == ids[f" {other}"], text
                assert float(logits.softmax(-1)[ids[f" {other}"]]) > 0.9


def test_without_its_inhibition_the_circuit_prefers_the_name_that_stood_there_twice(planted: Planted) -> None:
    subject = planted.subject
    ids = {piece: i for i, piece in enumerate(subject.pieces(range(subject.vocabulary)))}
    context = subject.encode("when Anna and Ben met , Anna gave a hammer to")
    bench = Planted(planted.folder, subject, planted.truth, planted.spec, [context], {})
    ((_, whole, without),) = zeroed(bench, [(planted.truth["head:1:2+"], 0, len(context) - 1)])
    ben, anna = ids[" Ben"], ids[" Anna"]
    assert float(whole[ben] - whole[anna]) > 10.0
    assert float(without[anna] - without[ben]) > 5.0


def test_the_induction_head_makes_what_came_after_an_earlier_occurrence_more_likely(planted: Planted) -> None:
    ids = {piece: i for i, piece in enumerate(planted.subject.pieces(range(planted.subject.vocabulary)))}
    context = planted.subject.encode("the red dog rested . Anna sold a cow . a red")
    bench = Planted(planted.folder, planted.subject, planted.truth, planted.spec, [context], {})
    ((_, whole, without),) = zeroed(bench, [(planted.truth["head:1:0+"], 0, len(context) - 1)])
    change = whole - without
    assert int(change.argmax()) == ids[" dog"]
    assert float(change[ids[" dog"]] - change.mean()) > 5.0


def test_heads_attend_where_their_families_say(planted: Planted) -> None:
    contexts = planted.contexts[:60]
    first, second = (edge_profiles(planted.subject, layer, contexts) for layer in (0, 1))
    assert first[0].previous > 0.95
    assert first[1].best_offset == 2
    assert first[2].best_offset == 3
    assert first[3].duplicate > 0.95
    assert second[0].induction > 0.95


def test_random_units_follow_no_set_of_tokens_and_dense_ones_are_on_often(planted: Planted) -> None:
    tokens = np.concatenate([planted.contexts[i][1:] for i in range(TEXTS)])
    for truth in planted.truth.values():
        if truth.family not in ("noise", "dense"):
            continue
        values = np.concatenate(planted.magnitudes(truth)[:TEXTS])
        active = values > 0.5 * np.quantile(values, 0.9995)
        if truth.family == "dense":
            assert active.mean() > 0.25, truth.key
            continue
        assert truth.noise
        assert best_token_set_f1(tokens, active) < 0.7, truth.key


def best_token_set_f1(tokens: np.ndarray, active: np.ndarray) -> float:
    """The F1 of the best set of current tokens, found on the data themselves."""
    totals, hits = Counter(tokens.tolist()), Counter(tokens[active].tolist())
    order = sorted(hits, key=lambda token: -hits[token] / totals[token])
    best = chosen = hit = 0.0
    for token in order:
        chosen, hit = chosen + totals[token], hit + hits[token]
        best = max(best, 2 * hit / (chosen + active.sum()))
    return best


def test_a_twin_correlates_with_the_unit_that_it_copies(planted: Planted) -> None:
    twins = [truth for truth in planted.truth.values() if truth.twin]
    assert len(twins) >= 10
    for truth in twins:
        assert truth.twin is not None
        a, b = (np.concatenate([v[1:] for v in planted.activations[unit]]) for unit in (truth.unit, truth.twin))
        assert np.corrcoef(a, b)[0, 1] >= 0.98
        assert UnitId.parse(truth.unit).index > UnitId.parse(truth.twin).index


def test_the_folder_is_an_ordinary_one_for_transformers(planted: Planted) -> None:
    model = AutoModelForCausalLM.from_pretrained(planted.folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(planted.folder)
    text = "when Anna and Ben met , Anna gave a hammer to"
    ids = tokenizer(text, return_tensors="pt")
    assert ids["input_ids"][0].tolist() == planted.subject.encode(text)
    with torch.no_grad():
        predicted = int(model(input_ids=ids["input_ids"]).logits[0, -1].argmax())
    assert tokenizer.decode([predicted]).strip() == "Ben"


def test_what_goes_into_the_norms_hardly_varies(planted: Planted) -> None:
    ids, mask = planted.subject.pad(planted.contexts[:30])
    stream = planted.subject.capture(ids, mask, [Site(2, "resid_post")])[Site(2, "resid_post")]
    norms = stream[mask.bool()].norm(dim=-1)
    assert float(norms.std() / norms.mean()) < 0.01


@pytest.mark.slow
def test_the_same_spec_gives_the_same_subject_and_another_seed_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for place, text in (("a", "planted"), ("b", "planted:seed=0"), ("c", "planted:seed=1")):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / place))
        subject = load_subject(text, device="cpu")
        assert sorted(subject.dictionaries) == ["planted"]
        found.append((subject.fingerprint, subject.name, load_truth(build(planted_spec(text)))))
    assert found[0] == found[1]
    assert found[0][1] == "planted-s0-small-gpt2"
    assert found[2][0] != found[0][0]
    assert found[2][2] != found[0][2]


def test_a_cache_that_cannot_be_written_to_is_an_error_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(SubjectError, match="XDG_CACHE_HOME"):
        build(PlantedSpec())


def test_a_wrong_option_is_refused_when_the_subject_is_loaded() -> None:
    with pytest.raises(SubjectError, match="size is one of small, large"):
        load_subject("planted:size=huge")
