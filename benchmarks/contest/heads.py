"""What planted heads attend to: is it told right, with the contest and without?

    python -m benchmarks.contest.heads --subject planted:seed=1 --seeds 3

Whole campaigns of `pattern` on all heads of planted subjects, one with the contest of rivals and one without; the role
that each description asserts is compared with what the head was written to attend to. Random heads have no role.

A role is right when it is of the same kind (and distance); for a head from some tokens to others, when its tokens to
attend from are those of the truth and those to attend to are among them. A distance may be told by a label alone, as
texts tell it: that is right, too, but nothing of it is tested. Exits with status 1 where the contest has fewer roles
right than texts alone.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import store
from agent import CampaignSpec, run_campaign
from benchmarks.planted.claims import Claim, read_claims
from benchmarks.planted.tables import table
from explainers.pattern.heads import Role, asserted_role
from tools.edge_kinds import EdgeKind
from tools.errors import NeuroglossError
from tools.planted import planted_spec
from tools.planted.words import pieces

_NAMES = EdgeKind("tokens", queries=tuple(pieces("give to")), keys=tuple(pieces("name")))
#: What `tools.planted.circuits` makes heads attend to.
TRUTH: Mapping[str, EdgeKind] = {
    "head:0:0": EdgeKind("previous"), "head:0:1": EdgeKind("offset", 2), "head:0:2": EdgeKind("offset", 3),
    "head:0:3": EdgeKind("duplicate"), "head:1:0": EdgeKind("induction"), "head:1:1": EdgeKind("duplicate"),
    "head:1:2": _NAMES, "head:2:0": _NAMES,
}  # fmt: skip
#: With the contest of rivals, and without.
ARMS = ("contest", "texts alone")


@dataclass(frozen=True)
class Found:
    """What one campaign says of one head."""

    subject: str
    unit: str
    arm: str
    told: str
    """The role, in a word or two."""
    right: bool | None
    """None for a random head."""
    tested: bool
    """Whether sealed text was asked about it; else the label alone says so."""
    verdict: str
    passes: int
    """Forward passes of trials."""


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.contest.heads", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--subject", default="planted:seed=1", metavar="SPEC")
    parser.add_argument("--seeds", type=int, default=1, help="so many subjects, with seeds from the subject's own on")
    parser.add_argument("--documents", type=int, metavar="N", help="of the corpus; left out: all that it has")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    try:
        first = planted_spec(args.subject)
        found = [
            one
            for seed in range(first.seed, first.seed + args.seeds)
            for arm in ARMS
            for one in described(replace(first, seed=seed).text, arm, args.documents)
        ]
    except NeuroglossError as error:
        print(error, file=sys.stderr)
        return 2
    print(render(found))
    if args.json:
        args.json.write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n", encoding="utf-8")
    return 1 if right(found, ARMS[0]) < right(found, ARMS[1]) else 0


def described(subject: str, arm: str, documents: int | None) -> list[Found]:
    """Runs one campaign."""
    settings: dict[str, Any] = {} if arm == ARMS[0] else {"contest": "off"}
    corpus = subject if documents is None else f"{subject},docs={documents}"
    with tempfile.TemporaryDirectory() as home:
        spec = CampaignSpec.model_validate({
            "name": arm, "subject": subject, "corpus": corpus, "units": ["head:*:*"], "explainer": "pattern",
            "device": "cpu", "controls": 0.0, "output": "off", "predictions": "off", "resamples": 200, "null_units": 4,
            "workers": 1, **settings,
        })  # fmt: skip
        with store.open_database(Path(home) / "heads.db") as db:
            run_campaign(spec, db=db, home=Path(home))
            return [_found(subject, arm, claim) for claim in read_claims(db, arm)]


def _found(subject: str, arm: str, claim: Claim) -> Found:
    role, truth = asserted_role(claim.explanation.details), TRUTH.get(claim.unit)
    told = "none" if role is None else f"{role.offset} back" if role.name == "offset" else role.name
    fits = None if truth is None else role is not None and is_right(role, truth)
    label = re.fullmatch(r"positional head, mostly (\d+) tokens back", claim.explanation.label)
    if role is None and label is not None:
        told = f"{label[1]} back*"
        fits = None if truth is None else (truth.name, truth.offset) == ("offset", int(label[1]))
    tested = role is not None
    return Found(subject, claim.unit, arm, told, fits, tested, claim.verdict, int(claim.contest.get("passes", 0)))


def is_right(role: Role, truth: EdgeKind) -> bool:
    """See the module."""
    if (role.name, role.offset) != (truth.name, truth.offset):
        return False
    return set(role.queries) == set(truth.queries) and set(role.keys) <= set(truth.keys)


def right(found: Sequence[Found], arm: str) -> int:
    """Heads whose role is right in one arm."""
    return sum(one.right is True for one in found if one.arm == arm)


def render(found: Sequence[Found]) -> str:
    """The figures in at most 80 columns."""
    rows = []
    for unit, truth in TRUTH.items():
        cells = [unit, f"{truth.offset} back" if truth.offset else truth.name]
        for arm in ARMS:
            ours = [one for one in found if (one.unit, one.arm) == (unit, arm)]
            cells.append(f"{sum(one.right is True for one in ours)}/{len(ours)}")
            cells.append(", ".join(sorted({one.told for one in ours})))
        rows.append(cells)
    lines = ["What planted heads attend to: right with the contest, and by texts alone"]
    lines += table(["head", "truth", "contest", "told", "texts", "told"], rows)
    for arm in ARMS:
        ours = [one for one in found if one.arm == arm]
        known = [one for one in ours if one.right is not None]
        random = [one for one in ours if one.right is None]
        tested = [one for one in known if one.tested and one.verdict == "supported"]
        supported = sum(one.right is True for one in tested)
        lines.append(
            f"{arm}: {right(found, arm)} of {len(known)} right, {supported} of them tested and supported, and "
            f"{len(tested) - supported} wrong ones;"
        )
        lines.append(
            f"  {sum(one.told != 'none' for one in random)} of {len(random)} random heads have a role; "
            f"{sum(one.passes for one in ours)} forward passes of trials"
        )
    return "\n".join([*lines, "* by its label; no role is asserted, and none tested"])


if __name__ == "__main__":
    sys.exit(main())
