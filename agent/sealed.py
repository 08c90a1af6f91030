"""Testing a claim on the sealed score split, and what the outcome says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from agent.bench import Bench
from agent.desk import Desk
from agent.interchange import interchange_test
from agent.output_half import output_verdict
from agent.state import Json
from agent.triage import Tail
from explainers.llm.types import AnswerError
from explainers.pattern.heads import Role, asserted_role
from explainers.predictors import predictor_of
from explainers.rules.evaluate import RulePredictor
from explainers.rules.language import parse_rule
from explainers.types import Explanation, Predictor, TextSource
from scorers.diagnostics import DIAGNOSTICS, Claim, Setting
from scorers.edges import METRIC as EDGE_METRIC
from scorers.edges import score_edges
from scorers.sequential import score_early
from scorers.simulation import SCORERS, score_simulation
from scorers.types import DoubleArray, Score, ScoreSet
from scorers.verdict import Judgement, Verdict, VerdictRule, judge
from scorers.windowed import score_windows
from tools.index import SplitView
from tools.types import FloatArray, IntArray, Split, UnitId

#: Attention mass that a head's role claims at least, and how many times an even share of attention.
EDGE_MASS, EDGE_LIFT = 0.3, 2.0


class InUnitsOf:
    """A predictor in the measure of the unit that it is tested on: what is just active for the one is for the other."""

    def __init__(self, predictor: Predictor, factor: float) -> None:
        """Args:
        predictor: Of the description.
        factor: Threshold of the unit that is tested over that of the unit that was described.
        """
        self.name = predictor.name
        self.costly = bool(getattr(predictor, "costly", False))
        self.protocol: Json = dict(getattr(predictor, "protocol", {}))
        self._predictor, self._factor = predictor, factor

    def predict(self, texts: TextSource, contexts: IntArray, positions: IntArray) -> FloatArray:
        """Predicted magnitude at each (context, position); shape [n]."""
        predicted = self._predictor.predict(texts, contexts, positions)
        return predicted if self._factor == 1 else np.asarray(predicted * self._factor, dtype=np.float32)


def score(
    desk: Desk, unit: UnitId, tail: Tail, explanation: Explanation, view: SplitView, *, described: Tail | None = None
) -> list[Score]:
    """Scores of a description on sealed examples.

    Its predictions (a rule's, or what its explainer makes of it) against the unit's activations, by the campaign's
    scorer, or on windows of the text where a language model predicts. Beside a description in words that has a rule
    too, the rule's score, which no verdict rests on. Where it gives a head a role (`details['roles']`), the attention
    mass on the edges of the first. Then the interchange of its rule, and the campaign's diagnostics.

    Args:
        desk: Of the investigation.
        unit: The unit that the description is tested on.
        tail: Its tail.
        explanation: The description.
        view: The sealed split.
        described: The tail that the description was made of, when its threshold is another.
    """
    bench = desk.bench
    scores: list[Score] = []
    predictor = predictor_of(bench.explainer, explanation)
    seed = bench.seed(unit, f"score {tail.polarity}")
    if predictor is not None:
        factor = 1.0 if described is None else tail.threshold / described.threshold
        given: dict[str, Any] = {"null_units": bench.null_units(unit), "resamples": bench.spec.resamples, "seed": seed}
        costly = getattr(predictor, "costly", False)
        beside = None  # the rule that comes with words
        if costly and explanation.rule is not None:
            beside = InUnitsOf(RulePredictor(parse_rule(explanation.rule)), factor)
        scorer: Callable[..., ScoreSet] = SCORERS.get(bench.spec.scorer)
        if bench.spec.scoring == "sequential":
            scorer, given["rule"] = score_early, VerdictRule(alpha=bench.spec.alpha)
        elif costly:
            scorer, given["kit"], given["common_seed"] = score_windows, bench.kit, bench.spec.seed
            given["rule"] = beside
        with desk.charged(tail.polarity, predictor.name.partition(":")[0]):
            scores += scorer(InUnitsOf(predictor, factor), view, unit, tail.polarity, tail.threshold, **given)
        if costly and scores and scores[0].unparseable == 1:
            # Missing answers count as wrong, but a verdict needs some answer: without any, it would be made up.
            raise AnswerError(f"{predictor.name} gave no usable answer about the sealed texts, so nothing was tested.")
        if beside is not None:
            scores += _beside(bench, unit, tail, beside, view)
    role = asserted_role(explanation.details)
    if unit.kind == "head" and role is not None:
        scores.append(edge_score(bench, unit, role, tail.threshold, view, seed=seed))
    if bench.spec.interchange:
        own = bench.seed(unit, f"interchange {tail.polarity}")
        scores += interchange_test(bench, unit, tail, explanation, view, seed=own)
    if bench.kit is not None and bench.spec.diagnostics:
        claim = Claim(unit, tail.polarity, tail.threshold, explanation)
        setting = Setting(
            view, bench.kit, bench.subject, tuple(bench.null_units(unit)), bench.spec.resamples, seed,
            common_seed=bench.spec.seed,
        )  # fmt: skip
        for name in bench.spec.diagnostics:
            with desk.charged(tail.polarity, name):
                scores += DIAGNOSTICS.get(name)(claim, setting)
    return scores


def _beside(bench: Bench, unit: UnitId, tail: Tail, rule: Predictor, view: SplitView) -> list[Score]:
    """The scores of the rule that comes with words, on the whole sealed sample; none of them decides anything, and
    their names say whose they are: 'rule_f1' and so on."""
    found = score_simulation(
        rule, view, unit, tail.polarity, tail.threshold, null_units=bench.null_units(unit),
        resamples=bench.spec.resamples, seed=bench.seed(unit, f"score {tail.polarity}"),
    )  # fmt: skip
    return [replace(score, metric=f"rule_{score.metric}", headline=False) for score in found]


def edge_score(bench: Bench, unit: UnitId, role: Role, threshold: float, view: SplitView, *, seed: int) -> Score:
    """The attention mass that a head puts on the edges of a role, against the other heads of its layer.

    A role that it has where it writes is tested at destinations where it does, one by one. For a role over all tokens a
    context counts with its mean mass at each of its destinations: the score's value is a mean and its interval comes
    from resampling whole documents, so nothing is lost by averaging within contexts.
    """
    if role.where_it_writes:
        found = bench.edge_masses(unit, role.kind, view, threshold)
        contexts = bench.busy(unit, view, threshold)
        masses, uniform = found.mass.astype(np.float64), found.uniform.astype(np.float64)
        documents = np.array([view.texts.document(contexts[i]) for i in found.contexts], dtype=np.int64)
    else:
        masses, uniform, documents = _over_all_tokens(bench, unit, role.name, view)
    return score_edges(
        masses[unit.index],
        documents,
        other_heads=np.delete(masses, unit.index, axis=0),
        uniform=uniform,
        split=Split(view.split),
        edge=role.name,
        resamples=bench.spec.resamples,
        seed=seed,
    )


def _over_all_tokens(
    bench: Bench, unit: UnitId, edge: str, view: SplitView
) -> tuple[DoubleArray, DoubleArray, IntArray]:
    """Mean masses of each context at each of its destinations: by head, of uniform attention, and documents."""
    by_context = bench.edges_by_context(int(unit.where), view)
    counts = np.array([profiles[0].destinations[edge] for profiles in by_context], dtype=np.int64)

    def spread(means: Sequence[float]) -> DoubleArray:
        return np.repeat(np.array(means, dtype=np.float64), counts)

    heads = [spread([getattr(profiles[head], edge) for profiles in by_context]) for head in range(len(by_context[0]))]
    documents = np.array([view.texts.document(context) for context in bench.spread(view)], dtype=np.int64)
    uniform = spread([profiles[0].baseline[edge] for profiles in by_context])
    return np.array(heads), uniform, np.repeat(documents, counts)


def verdict(claim: Json, scores: Sequence[Score], alpha: float, no_output: str | None = None) -> Json:
    """What the scores say about each half of a claim: 'input', 'output' and the reasons of both.

    Args:
        claim: 'details' of the description.
        scores: Of its test; with q-values once the campaign closes, which then decide in place of the p-values.
        alpha: Level.
        no_output: Why the output half was not tested, where it was not.
    """
    own = input_verdict(claim["details"], scores, alpha)
    output = output_verdict(claim["details"], scores, alpha, no_output)
    return {
        "input": str(own.verdict),
        "output": str(output.verdict),
        "reasons": list(own.reasons),
        "output_reasons": list(output.reasons),
    }


def input_verdict(details: Json, scores: Sequence[Score], alpha: float) -> Judgement:
    """What the scores say about the input half.

    A head with a role claims first of all where it attends, so the edge test decides about its input half, and the
    rule's score stands beside it. Elsewhere the rule's score decides. A description that found no pattern asserts
    nothing that could be tested.
    """
    # Beside words, their rule has the same metrics; it decides nothing.
    rule = judge([score for score in scores if score.headline], VerdictRule(alpha=alpha))
    edges = [judge_edges(one, alpha) for one in scores if one.metric == EDGE_METRIC]
    if edges:
        beside = f"beside it, its rule is {rule.verdict}: {'; '.join(rule.reasons)}"
        return Judgement(edges[0].verdict, (*edges[0].reasons, beside))
    if details.get("literals") == 0:
        return Judgement(Verdict.UNTESTED, ("it found no pattern, so it asserts nothing to test",))
    return rule


def judge_edges(score: Score, alpha: float) -> Judgement:
    """Whether a head attends as it is said to: at least `EDGE_MASS` on such edges, and `EDGE_LIFT` times an even share.

    Supported when the lower end of the 95 % interval is above both and the mass differs from even attention; refuted
    when the whole interval is below one of them.
    """
    even = next((null for null in score.nulls if null.name == "uniform"), None)
    if score.value is None:
        return Judgement(Verdict.UNTESTED, (f"{score.metric} is undefined: {score.reason}",))
    if score.low is None or score.high is None or even is None:
        return Judgement(Verdict.INCONCLUSIVE, (f"{score.metric} has no interval: the sample is a single document",))
    least = max(EDGE_MASS, EDGE_LIFT * even.mean)
    told = (
        f"{score.predictor} mass {score.value:.2f} [{score.low:.2f}, {score.high:.2f}], even attention {even.mean:.2f}"
    )
    if score.high < least:
        return Judgement(Verdict.REFUTED, (f"{told}: lies below {least:.2f}",))
    if score.low < least:
        return Judgement(Verdict.INCONCLUSIVE, (f"{told}: the interval reaches below {least:.2f}",))
    name, p = ("q", score.q_value) if score.q_value is not None else ("p", even.p_value)
    if p > alpha:
        return Judgement(Verdict.INCONCLUSIVE, (f"{told}: {name} = {p:.3g} against even attention",))
    return Judgement(Verdict.SUPPORTED, (f"{told}: stays above {least:.2f}",))
