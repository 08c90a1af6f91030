"""Claims about planted units, for `benchmarks.error_control.cost`: the truth, tables, and what is true of others.

The units are those of a planted subject (`docs/planted.md`), their activations those of its index, and the positions
asked for those of the sealed score split, as in a campaign.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.error_control.cost import Claim
from benchmarks.planted.references import PairTableExplainer, RandomExplainer, TokenTableExplainer, TruthPredictor
from benchmarks.planted.run import sampled
from explainers.predictors import predictor_of
from explainers.types import Evidence, Explainer, NullRecorder
from tools.corpora import load_corpus
from tools.index import build_index
from tools.planted import build, load_truth, planted_spec
from tools.subject import load_subject
from tools.types import Split, UnitId

NULL_UNITS = 32


def planted_claims(text: str, home: Path, *, per_family: int | None = None) -> Iterator[Claim]:
    """Five descriptions of each planted tail that has a rule: the truth, two tables, a random rule, another's truth.

    Args:
        text: the planted subject, `planted[:options]`.
        home: folder for the index.
        per_family: only so many tails of each family.
    """
    spec = planted_spec(text)
    known = load_truth(build(spec))
    truths = [truth for truth in sampled(list(known.values()), per_family) if truth.has_rule and truth.cases]
    subject = load_subject(spec.text, device="cpu")
    units = list(dict.fromkeys(UnitId.parse(truth.unit) for truth in known.values()))
    index = build_index(subject, load_corpus(spec.text), units, home)
    explore, refine = index.view(Split.EXPLORE), index.view(Split.REFINE)
    keeper = index.keeper(lambda opening: None)
    rng = np.random.default_rng(0)
    makers: dict[str, Explainer] = {
        "token table": TokenTableExplainer(), "pair table": PairTableExplainer(), "random": RandomExplainer(),
    }  # fmt: skip
    for number, truth in enumerate(truths):
        unit, polarity = UnitId.parse(truth.unit), truth.polarity
        threshold = explore.statistics(unit).threshold(polarity)
        if threshold <= 0:
            continue
        view = keeper.open(Split.SCORE, claim=f"benchmark: {truth.key}", polarity=polarity, by="error_control")
        group = [other for other in units if other.group == unit.group and other != unit]
        others = [group[i] for i in rng.permutation(len(group))[:NULL_UNITS]]
        evidence = Evidence(unit, polarity, None, explore, refine, threshold, seed=number)
        predictors = {"the truth": TruthPredictor(truth)}
        for name, maker in makers.items():
            predictor = predictor_of(maker, maker.explain(evidence, NullRecorder())[0])
            if predictor is not None:
                yield Claim(name, view, unit, predictor, threshold, polarity, others)
        elsewhere = [other for other in truths if other.unit != truth.unit and other.family != truth.family]
        predictors["another's"] = TruthPredictor(elsewhere[int(rng.integers(len(elsewhere)))])
        for name, predictor in predictors.items():
            yield Claim(name, view, unit, predictor, threshold, polarity, others)
