"""Which way of attributing to tokens finds the planted cause?

On a planted model it is known why a unit fires: a token of the text is a cause when the unit's predicate, which looks
at tokens alone, mostly ceases to hold once the token is replaced by others. Attributions to the unit's activation are
ranked against that: average precision over the text's tokens, and whether the first is a cause. Units fire at
positions of fresh texts; each family stands for itself. A last task is the induction circuit's: in ``... A B ... A``
the logit of B, less that of another word, rests on both As and the B.

    python -m benchmarks.causal.attribution --subject planted:seed=1 --out attribution

Writes OUT.json and OUT.png, and prints the table. Below it, each method's areas under the insertion and the deletion
curve and those of random orders.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tools.ablation import Reference
from tools.attribution import Attribution, Method, Options, Target, TokenTarget, UnitTarget, attribute
from tools.planted import UnitTruth, build, documents, load_truth, planted_spec
from tools.subject import Subject, load_subject
from tools.types import BoolArray, UnitId

FAMILIES = (
    "token set", "token class", "negative tail", "graded", "bigram", "skip-gram", "rule with exception", "repetition",
    "latent", "latent of a pair",
)  # fmt: skip
#: Name -> method, and whether replacements are from reference texts or the model's own.
METHODS: dict[str, tuple[Method, bool]] = {
    "occlusion, pairs": ("occlusion", True),
    "occlusion, model": ("occlusion", False),
    "ig": ("ig", True),
    "gradient": ("gradient", True),
    "normxlogit": ("normxlogit", True),
    "anchor": ("anchor", True),
}
SHORT = ("pairs", "model", "ig", "grad", "normx", "anchor")
INDUCTION = "induction"
#: Replacements by which a token is found to be a cause.
_TRIED = 24


@dataclass(frozen=True)
class Place:
    """Something to explain, with what causes it."""

    family: str
    ids: list[int]
    target: Target
    causes: BoolArray
    """[position of the text up to the target]."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Token attribution against planted causes.")
    parser.add_argument("--subject", default="planted:seed=1", help="planted or planted:seed=7,size=large")
    parser.add_argument("--units", type=int, default=6, help="units of each family")
    parser.add_argument("--places", type=int, default=2, help="texts of each unit")
    parser.add_argument("--out", type=Path, help="path of the results without suffix")
    arguments = parser.parse_args()
    spec = planted_spec(arguments.subject)
    subject = load_subject(spec.text, device="cpu")
    reference = Reference.of(subject, [one.text for one in documents(spec, fresh=71, n=300)], "fresh texts")
    texts = [subject.encode(one.text) for one in documents(spec, fresh=72, n=400)]
    places = [
        *unit_places(subject, list(load_truth(build(spec)).values()), texts, arguments.units, arguments.places),
        *induction_places(subject, texts, arguments.units * arguments.places),
    ]
    rows = measure(subject, places, reference)
    report = {"subject": spec.text, "rows": rows}
    print(table(rows))
    if arguments.out is not None:
        arguments.out.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        plot(rows, arguments.out.with_suffix(".png"))


def unit_places(
    subject: Subject, truths: list[UnitTruth], texts: list[list[int]], units: int, each: int
) -> Iterator[Place]:
    """Positions of fresh texts at which units fire, with the tokens that their predicates name there."""
    pool = sorted({token for ids in texts for token in ids[1:]})
    for family in FAMILIES:
        for truth in [one for one in truths if one.family == family][:units]:
            found = 0
            for ids in texts:
                active = np.flatnonzero(truth.active(subject.pieces(ids))[3:]) + 3
                if len(active) and found < each:
                    causes = causes_of(subject, truth, ids[: active[0] + 1], pool)
                    if causes.any():
                        found += 1
                        yield Place(family, ids, UnitTarget(UnitId.parse(truth.unit), int(active[0])), causes)


def causes_of(subject: Subject, truth: UnitTruth, ids: list[int], pool: list[int]) -> BoolArray:
    """Tokens most replacements of which make the unit's rule cease to hold at the last one; the model is not asked."""
    rng, causes = np.random.default_rng(0), np.zeros(len(ids), dtype=bool)
    for place in range(1, len(ids)):
        others = [int(t) for t in rng.choice(pool, _TRIED) if t != ids[place]]
        held = [truth.active(subject.pieces([*ids[:place], other, *ids[place + 1 :]]))[-1] for other in others]
        causes[place] = np.mean(held) < 0.5
    return causes


def induction_places(subject: Subject, texts: list[list[int]], count: int) -> Iterator[Place]:
    """Texts that end in a token that stood in them once before; what followed it is explained."""
    rng = np.random.default_rng(1)
    for ids in texts[:count]:
        body = ids[: min(len(ids), 24)]
        once = [i for i in range(2, len(body) - 2) if body.count(body[i]) == 1 and body.count(body[i + 1]) == 1]
        if once:
            at = int(rng.choice(once))
            causes = np.zeros(len(body) + 1, dtype=bool)
            causes[[at, at + 1, len(body)]] = True
            foil = next(int(t) for t in rng.permutation(texts[-1][1:]) if t not in body)
            yield Place(INDUCTION, [*body, body[at]], TokenTarget(body[at + 1], foil), causes)


def measure(subject: Subject, places: list[Place], reference: Reference) -> list[dict[str, object]]:
    """One row for each place and method."""
    rows: list[dict[str, object]] = []
    for number, place in enumerate(places):
        for name, (method, corpus) in METHODS.items():
            if method == "normxlogit" and isinstance(place.target, UnitTarget):
                continue
            options = Options(reference=reference if corpus else None, seed=number)
            began = time.perf_counter()
            found = attribute(subject, place.ids, place.target, method, options=options)
            seconds = time.perf_counter() - began
            assert found.check is not None
            rows.append({
                "family": place.family, "method": name, **hits(found, place.causes), "seconds": seconds,
                "insertion": found.check.insertion, "deletion": found.check.deletion,
                "random_insertion": found.check.random_insertion, "random_deletion": found.check.random_deletion,
            })  # fmt: skip
    return rows


def hits(found: Attribution, causes: BoolArray) -> dict[str, float]:
    """Average precision of the scores for causes, ties shared, and whether the first is a cause."""
    assert found.positions is not None
    scores, true = found.scores * np.sign(found.value), causes[list(found.positions)]
    # Ties are broken at random, many times: an anchor's order has many.
    rng, precisions, first = np.random.default_rng(0), [], []
    for _ in range(20):
        order = np.lexsort((rng.random(len(scores)), -scores))
        at = true[order]
        precisions.append(float((np.cumsum(at) / np.arange(1, len(at) + 1))[at].mean()))
        first.append(float(at[0]))
    return {"ap": float(np.mean(precisions)), "top1": float(np.mean(first)), "chance": float(true.mean())}


def table(rows: list[dict[str, object]]) -> str:
    """Average precision and share whose first token is a cause, by family and method; areas and seconds by method."""
    lines = ["occlusion by tokens from pairs of reference texts, from the model; integrated",
             "gradients, gradient times input, NormXLogit (logits only), anchors"]  # fmt: skip
    families = list(dict.fromkeys(str(row["family"]) for row in rows))
    for title, key in (("Average precision for planted causes", "ap"), ("The first token is a cause", "top1")):
        lines += ["", title, ""]
        lines.append(f"{'family':<20}{'n':>4}{'chance':>8}" + "".join(f"{short:>8}" for short in SHORT))
        for family in families:
            own = [row for row in rows if row["family"] == family]
            of = [[row for row in own if row["method"] == name] for name in METHODS]
            cells = "".join(f"{mean(mine, key):>8.2f}" if mine else f"{'–':>8}" for mine in of)
            lines.append(f"{family:<20}{max(map(len, of)):>4}{mean(own, 'chance'):>8.2f}{cells}")
    lines += ["", "Tried out on the model: areas under the curves, all families", ""]
    lines.append(f"{'method':<20}{'insertion':>12}{'random':>10}{'deletion':>12}{'random':>10}{'seconds':>10}")
    for name in METHODS:
        mine = [row for row in rows if row["method"] == name and row["insertion"] is not None]
        a, b, c, d, e = (mean(mine, key) for key in ("insertion", "random_insertion", "deletion", "random_deletion",
                                                     "seconds"))  # fmt: skip
        lines.append(f"{name:<20}{a:>12.2f}{b:>10.2f}{c:>12.2f}{d:>10.2f}{e:>10.2f}")
    return "\n".join(lines)


def mean(rows: list[dict[str, object]], key: str) -> float:
    return float(np.mean([float(str(row[key])) for row in rows])) if rows else float("nan")


def plot(rows: list[dict[str, object]], file: Path) -> None:
    """Average precision by family and method, as a heat map."""
    from neurogloss.render.heatmap import HeatMap, save_heatmaps

    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        values[str(row["family"])][str(row["method"])].append(float(str(row["ap"])))
    take: Callable[[list[float]], float] = lambda cell: float(np.mean(cell)) if cell else float("nan")  # noqa: E731
    grid = np.array([[take(row[name]) for name in METHODS] for row in values.values()])
    names = [name.replace("occlusion,", "occl.") for name in METHODS]
    title = "Which tokens caused it?"
    save_heatmaps(
        file, HeatMap(grid, list(values), names, "planted family", "method", "average precision", title, limit=1.0)
    )


if __name__ == "__main__":
    main()
