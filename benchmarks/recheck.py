"""Are edits of a model told apart? A campaign on a planted Llama, then the same model with known edits of its neurons.

    python -m benchmarks.recheck --seed 1 --sample 40

Every described neuron gets one of five fates: it changes places with another one of its layer, its sign is turned, it
is deleted, it is copied over a neuron that nobody described, or it is left alone. Units are deleted and overwritten in
the last layer alone, where no other unit is built on them: an untouched one is then untouched indeed. Then the campaign
is rechecked on the edited model and on the model in bfloat16, and the status of each description is compared with what
was done to its unit. Exits with status 1 when less than 95 % are right, or more than 5 % of untouched ones raise an
alarm.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

import store
from agent import load_spec, run_campaign
from agent.recheck import Recheck, recheck
from store.queries import campaign_evidence
from tools.planted import planted_spec, subject_folder
from tools.types import UnitId

FATES = ("moved", "flipped", "deleted", "copied", "untouched")
RIGHT, ALARMS = 0.95, 0.05
Made = TypeVar("Made")


def edit(folder: Path, source: Path, described: list[UnitId], seed: int) -> dict[UnitId, tuple[str, UnitId | None]]:
    """Writes the edited model; returns the fate of each described neuron, and where it went."""
    rng = np.random.default_rng(seed)
    model = LlamaForCausalLM.from_pretrained(source)
    last = model.config.num_hidden_layers - 1
    taken = {(int(unit.where), unit.index) for unit in described}
    fates: dict[UnitId, tuple[str, UnitId | None]] = {}
    turns: Counter[bool] = Counter()
    for unit in described:
        layer = int(unit.where)
        allowed = [fate for fate in FATES if fate not in ("deleted", "copied") or layer == last]
        fate = allowed[turns[layer == last] % len(allowed)]
        turns[layer == last] += 1
        free = [i for i in range(model.config.intermediate_size) if (layer, i) not in taken]
        other = int(rng.choice(free))
        mlp = model.model.layers[layer].mlp
        rows = (mlp.gate_proj.weight, mlp.up_proj.weight, mlp.down_proj.weight.T)
        target: UnitId | None = None
        with torch.no_grad():
            if fate == "moved":
                for weight in rows:
                    weight[[unit.index, other]] = weight[[other, unit.index]].clone()
                target = UnitId(unit.group, other)
            elif fate == "flipped":  # what it writes stays the same: minus times minus
                rows[1][unit.index] *= -1
                rows[2][unit.index] *= -1
                target = unit
            elif fate == "deleted":
                rows[1][unit.index] = 0
            elif fate == "copied":
                # Half of the write each, so that what is built on it stays the same.
                for weight in rows[:2]:
                    weight[other] = weight[unit.index]
                rows[2][unit.index] /= 2
                rows[2][other] = rows[2][unit.index]
                target = UnitId(unit.group, other)
        if target is not None:
            taken.add((layer, target.index))
        fates[unit] = (fate, target)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return fates


def timed(work: Callable[[], Made]) -> tuple[Made, float]:
    """What something makes, and the processor's seconds that it took, which other programs add nothing to."""
    began = time.process_time()
    made = work()
    return made, time.process_time() - began


def right(row: Any, fate: str, target: UnitId | None) -> bool:
    """Whether a description's status says what was done to its unit."""
    other = "-" if row.polarity == "+" else "+"
    match fate:
        case "moved":
            return row.status == "moved" and row.moved_to == f"{target}{row.polarity}"
        case "flipped":
            return row.status == "moved" and row.moved_to == f"{target}{other}"
        case "deleted":
            return bool(row.status == "gone")
        case "copied":
            return row.status == "stable" and f"{target}{row.polarity}" in row.also
        case _:
            return row.status == "stable" and not row.also


def measure(seed: int, sample: int, home: Path) -> dict[str, Any]:
    """One planted model."""
    name = f"planted:seed={seed},arch=llama"
    _, source = subject_folder(name.partition(":")[2])
    spec = load_spec(
        None, {"name": "planted", "subject": name, "corpus": name, "units": ["mlp:*:*"], "sample": sample,
               "controls": 0.0},
    )  # fmt: skip
    with store.open_database(home / "ng.db") as db:
        _, whole = timed(lambda: run_campaign(spec, db=db, home=home))
        described = sorted(
            {UnitId.parse(claim.unit) for claim in campaign_evidence(db, "planted") if claim.tested},
            key=lambda unit: (unit.group, unit.index),
        )
        fates = edit(home / "edited", source, described, seed)
        edited, first = timed(lambda: recheck(db, "planted", str(home / "edited"), device="cpu"))
        narrow, second = timed(lambda: recheck(db, "planted", str(source), device="cpu", dtype="bfloat16"))
    table: dict[str, list[bool]] = {fate: [] for fate in FATES}
    wrong = []
    for row in edited.rows:
        fate, target = fates[UnitId.parse(row.unit)]
        table[fate].append(right(row, fate, target))
        if not table[fate][-1]:
            wrong.append({"fate": fate, **row.to_json()})
    return {
        "seed": seed, "units": len(described), "descriptions": len(edited.rows),
        "right": {fate: [sum(found), len(found)] for fate, found in table.items()},
        "bfloat16": narrow.counts, "wrong": wrong, "seconds": [edited.seconds, narrow.seconds],
        "campaign_seconds": edited.campaign_seconds, "cpu": [first, second], "campaign_cpu": whole,
        "alarms": _alarms(narrow),
    }  # fmt: skip


def _alarms(found: Recheck) -> list[dict[str, Any]]:
    return [row.to_json() for row in found.rows if row.status != "stable"]


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="of the planted model (it was not developed on 1)")
    parser.add_argument("--sample", type=int, default=40, help="neurons of each layer")
    parser.add_argument("--json", type=Path, help="write all of it there")
    asked = parser.parse_args()
    if planted_spec(f"planted:seed={asked.seed}") is None:
        return 2
    with tempfile.TemporaryDirectory() as folder:
        found = measure(asked.seed, asked.sample, Path(folder))
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1))
    print(f"{found['descriptions']} descriptions of {found['units']} neurons, planted seed {found['seed']}, Llama")
    hits, total = 0, 0
    for fate, (good, n) in found["right"].items():
        hits, total = hits + good, total + n
        print(f"  {fate:10} {good:4} of {n:4} right")
    alarms = total and (found["right"]["untouched"][1] - found["right"]["untouched"][0]) / max(
        found["right"]["untouched"][1], 1
    )
    narrow = len(found["alarms"]) / found["descriptions"]
    share = sum(found["seconds"]) / 2 / found["campaign_seconds"]
    print(f"all {hits / total:.1%} right; false alarms {alarms:.1%} of untouched, {narrow:.1%} in bfloat16")
    print(f"a recheck took {share:.1%} of the campaign's {found['campaign_seconds']:.0f} s of investigation")
    cpu, whole = sum(found["cpu"]) / 2, found["campaign_cpu"]
    print(f"and {cpu / whole:.1%} of its processor time: {cpu:.1f} of {whole:.0f} s, its index included")
    return int(hits / total < RIGHT or max(alarms, narrow) > ALARMS)


if __name__ == "__main__":
    sys.exit(main())
