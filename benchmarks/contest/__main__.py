"""The agent against its own matched one-shot control, on planted subjects.

    python -m benchmarks.contest --seeds 3 --sample 2 --json contest.json
    python -m benchmarks.contest --control chance --passes 4
    python -m benchmarks.contest --policy llm --seeds 3 --sample 1

Both are whole campaigns on the same units, with the same proposals and the same rule for the final choice.

By the policy `pattern`: the proposals are the explainer `pattern`'s, and forward passes are matched. The agent spends
its passes on trials that it thinks of, and revises its rivals by the answers; the control spends as many on random
windows of the same open splits (`benchmarks/contest/control.py`). With `--control chance` the control asks trials of
the agent's own kind and revises as it does, but which of them are asked is drawn by chance
(`benchmarks/contest/chance.py`): so it is known what choosing is worth.

By the policy `llm`: the proposals are a language model's, and its tokens are matched. The agent spends them on trials
and revisions, the control on more proposals (`benchmarks/contest/llm.py`, which says who the language model is).

What the databases then hold is measured against the truth as `benchmarks.planted` does it.

Exits with status 1 where the agent is worse in any family: fewer units recovered, or a mean F1 on fresh text that is
lower by more than 0.005; or accepts more descriptions of units that have no rule.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import store
from benchmarks.contest import chance  # noqa: F401  (registers it)
from benchmarks.contest.control import passes_of
from benchmarks.contest.llm import matched_samples, settings_of, spent_by_tail
from benchmarks.planted.measure import UnitMarks
from benchmarks.planted.run import Trial
from benchmarks.planted.summary import mean
from benchmarks.planted.tables import number, share, table
from tests.serving.reasoner import Reasoner
from tests.serving.server import ProgrammableServer
from tools.errors import NeuroglossError
from tools.planted import planted_spec

RESAMPLES = 4000
#: A mean F1 on fresh text that is lower by more counts as worse.
WORSE = 0.005


@dataclass(frozen=True)
class Pair:
    """One tail, described by the agent and by its control."""

    seed: int
    agent: UnitMarks
    control: UnitMarks
    agent_passes: int
    control_passes: int
    agent_tokens: int = 0
    """Of a language model, for explaining and the contest."""
    control_tokens: int = 0


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.contest", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--policy", choices=["pattern", "llm"], default="pattern")
    parser.add_argument("--subject", default="planted:seed=1", metavar="SPEC")
    parser.add_argument("--seeds", type=int, default=1, help="so many subjects, with seeds from the subject's own on")
    parser.add_argument("--sample", type=int, default=2, metavar="N", help="tails of each family")
    parser.add_argument("--control", choices=["one-shot", "chance"], default="one-shot")
    parser.add_argument("--passes", type=int, default=64, help="forward passes of all trials of a tail, at most")
    parser.add_argument("--fresh-tokens", type=int, default=30_000, help="fresh text to measure on")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    if args.policy == "llm" and (args.control != "one-shot" or args.passes != 64):
        parser.error("--control chance and --passes are for --policy pattern")
    return args


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status."""
    args = arguments(argv)
    pairs: list[Pair] = []
    try:
        first = planted_spec(args.subject)
        for seed in range(first.seed, first.seed + args.seeds):
            with tempfile.TemporaryDirectory() as temporary:
                began = time.perf_counter()
                where = (seed, replace(first, seed=seed), Path(temporary), args.sample, args.fresh_tokens)
                if args.policy == "llm":
                    pairs += compare_llm(*where)
                else:
                    pairs += compare_pattern(*where, by=args.control, most_passes=args.passes)
                print(f"seed {seed}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    except NeuroglossError as error:
        print(error, file=sys.stderr)
        return 2
    found = summary(pairs)
    print(render(found))
    if args.json:
        rows = [
            {"seed": pair.seed, "agent": pair.agent.to_json(), "control": pair.control.to_json(),
             "passes": [pair.agent_passes, pair.control_passes], "tokens": [pair.agent_tokens, pair.control_tokens]}
            for pair in pairs
        ]  # fmt: skip
        args.json.write_text(json.dumps({**found, "units": rows}, indent=1) + "\n", encoding="utf-8")
    for line in found["worse"]:
        print(f"The agent is worse: {line}.", file=sys.stderr)
    return 1 if found["worse"] else 0


#: What is not compared here is spared: output halves, predictions, most resamples of the sealed score.
BASE: dict[str, Any] = {
    "controls": 0.0, "output": "off", "predictions": "off", "resamples": 200, "null_units": 8, "workers": 1,
}  # fmt: skip


def compare_llm(seed: int, spec: Any, home: Path, sample: int, fresh_tokens: int) -> list[Pair]:
    """Both campaigns by the policy `llm` on one subject."""
    trial = Trial(spec, home, per_family=sample, fresh_tokens=fresh_tokens)
    names = [f"{arm} on {spec.text}" for arm in ("agent", "control")]
    with ProgrammableServer(Reasoner(), keep=0) as server:
        trial.endpoints = [f"vllm:{server.model}@{server.url}"]
        trial.settings = {**BASE, "name": names[0], **settings_of("agent")}
        agent, claims, *_ = trial.run("contrastive by rule")
        with store.open_database(home / "planted.db") as db:
            spent = spent_by_tail(db, names[0])
        # In one database the control would be given the agent's answers from its record, and pay nothing for them.
        (home / "planted.db").rename(home / "agent.db")
        samples = home / "samples.json"
        samples.write_text(json.dumps(matched_samples(spent)), encoding="utf-8")
        trial.settings = {**BASE, "name": names[1], **settings_of("control", samples)}
        control, *_ = trial.run("contrastive by rule")
    with store.open_database(home / "planted.db") as db:
        matched = spent_by_tail(db, names[1])
    passes = passes_of(claims)
    return [
        Pair(
            seed, one, other, passes.get(one.key, 0), 0,
            spent[one.key].total if one.key in spent else 0, matched[one.key].total if one.key in matched else 0,
        )
        for one, other in zip(agent.marks, control.marks, strict=True)
    ]  # fmt: skip


def compare_pattern(
    seed: int,
    spec: Any,
    home: Path,
    sample: int,
    fresh_tokens: int,
    *,
    by: str = "one-shot",
    most_passes: int = 64,
) -> list[Pair]:
    """Both campaigns by the policy `pattern` on one subject."""
    trial = Trial(spec, home, per_family=sample, fresh_tokens=fresh_tokens)
    trial.settings = {**BASE, "name": f"agent on {spec.text}", "contest": {"forward_passes": most_passes}}
    agent, claims, *_ = trial.run("pattern once")
    passes = home / "passes.json"
    passes.write_text(json.dumps(passes_of(claims)), encoding="utf-8")
    trial.settings = {
        **BASE, "name": f"control on {spec.text}",
        "contest": {"policy": by, "options": {"passes": str(passes)}, "rounds": 16},
    }  # fmt: skip
    control, others, *_ = trial.run("pattern once")
    spent, matched = passes_of(claims), passes_of(others)
    return [
        Pair(seed, one, other, spent.get(one.key, 0), matched.get(other.key, 0))
        for one, other in zip(agent.marks, control.marks, strict=True)
    ]


def summary(pairs: list[Pair]) -> dict[str, Any]:
    """Figures in total, of what is hard, and by family; and where the agent is worse."""
    bearing = [pair for pair in pairs if pair.agent.rule_bearing]
    families = {name: [pair for pair in bearing if pair.agent.family == name]
                for name in sorted({pair.agent.family for pair in bearing})}  # fmt: skip
    hard = {
        "exceptions": [pair for pair in bearing if pair.agent.exception_recall is not None],
        "polysemantic": [pair for pair in bearing if pair.agent.concepts > 1],
        "inert": [pair for pair in bearing if pair.agent.inert],
    }
    told = {name: _figures(found) for name, found in {"all": bearing, **hard, **families}.items() if found}
    ruleless = [pair for pair in pairs if not pair.agent.rule_bearing]
    accepted = [sum(getattr(pair, who).supported for pair in ruleless) for who in ("agent", "control")]
    worse = [
        f"{name}: {one['recovered'][0]} recovered against {one['recovered'][1]}, F1 {one['f1'][0]:.3f} against "
        f"{one['f1'][1]:.3f}"
        for name, one in told.items()
        if name in families and (one["recovered"][0] < one["recovered"][1] or one["f1"][0] < one["f1"][1] - WORSE)
    ]
    if accepted[0] > accepted[1]:
        worse.append(f"it accepts {accepted[0]} descriptions of units without a rule, the control {accepted[1]}")
    return {
        "groups": told, "families": list(families), "without_rule": {"units": len(ruleless), "accepted": accepted},
        "passes": [sum(pair.agent_passes for pair in pairs), sum(pair.control_passes for pair in pairs)],
        "tokens": [sum(pair.agent_tokens for pair in pairs), sum(pair.control_tokens for pair in pairs)],
        "worse": worse,
    }  # fmt: skip


def _figures(pairs: list[Pair]) -> dict[str, Any]:
    def both(value: Any) -> list[float | None]:
        return [mean(value(pair.agent) for pair in pairs), mean(value(pair.control) for pair in pairs)]

    def interval(value: Any) -> list[float]:
        differences = np.array([float(value(pair.agent) or 0) - float(value(pair.control) or 0) for pair in pairs])
        generator = np.random.default_rng(0)
        drawn = differences[generator.integers(len(differences), size=(RESAMPLES, len(differences)))].mean(axis=1)
        return [float(differences.mean()), *(float(end) for end in np.quantile(drawn, [0.025, 0.975]))]

    return {
        "units": len(pairs),
        "recovered": [sum(pair.agent.recovered for pair in pairs), sum(pair.control.recovered for pair in pairs)],
        "recovered_difference": interval(lambda mark: mark.recovered),
        "f1": both(lambda mark: mark.f1),
        "f1_difference": interval(lambda mark: mark.f1),
        "near_f1": both(lambda mark: mark.near_f1),
        "near_difference": interval(lambda mark: mark.near_f1),
        "exception_recall": both(lambda mark: mark.exception_recall),
        "rules_hit": both(lambda mark: float(mark.concepts_hit == mark.concepts) if mark.concepts > 1 else None),
        "members": both(lambda mark: mark.members),
    }


def render(found: dict[str, Any]) -> str:
    """The figures in at most 80 columns."""
    lines = ["Agent and its matched one-shot control: recovered, F1 on fresh text, on near-misses"]
    rows = []
    for name, one in found["groups"].items():
        units = one["units"]
        rows.append([
            name, str(units), *(share(part, units) for part in one["recovered"]), *(number(v, 3) for v in one["f1"]),
            *(number(v, 3) for v in one["near_f1"]),
        ])  # fmt: skip
    lines += table(["", "units", "agent", "control", "F1", "control", "near", "control"], rows)
    lines += ["", "Agent less control, with 95 % interval (units resampled)"]
    rows = []
    for name in [name for name in found["groups"] if name not in found["families"]]:
        one = found["groups"][name]
        rows.append([
            name, *(f"{v[0]:+.3f} [{v[1]:+.3f}, {v[2]:+.3f}]" for v in
                    (one["recovered_difference"], one["near_difference"])),
            "/".join(number(v) for v in one["exception_recall"]), "/".join(number(v) for v in one["rules_hit"]),
        ])  # fmt: skip
    lines += table(["", "recovered", "near-miss F1", "exc. recall", "all rules"], rows)
    without, passes = found["without_rule"], found["passes"]
    lines += [
        "",
        f"forward passes of trials: {passes[0]} and {passes[1]}; accepted of {without['units']} units without a rule: "
        f"{without['accepted'][0]} and {without['accepted'][1]}",
    ]
    if any(found["tokens"]):
        lines.append(f"LLM tokens: {found['tokens'][0]:,} and {found['tokens'][1]:,}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
