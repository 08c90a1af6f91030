"""Speed of patching sweeps against a loop and TransformerLens, and the circuits of the built-in tasks as figures.

    python -m benchmarks.causal --figures figures --json causal.json

The circuit of indirect objects is found in `planted`, that of induction in `planted`, in `pycode` and in any model
folder that is named with ``--model``; that of a task of one's own in these models with ``--pairs``.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.causal.speed import Speed, measure, pairs_of
from tools.circuits import TASKS, find_circuit, known, task
from tools.errors import InterventionError
from tools.patching import Pair, encode_pairs
from tools.subject import load_subject

#: Pairs, tokens, and where the prompts begin to differ: nothing can be left out of the first two of each pair.
SETTINGS = ((1, 16, 1), (1, 48, 1), (8, 16, 1), (8, 16, 8))


def main() -> int:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(prog="benchmarks.causal", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--model", action="append", default=[], help="another model folder; may be repeated")
    parser.add_argument("--pairs", type=Path, help="a .jsonl file of pairs, for the models that are named")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--skip-speed", action="store_true")
    parser.add_argument("--skip-circuits", action="store_true")
    parser.add_argument("--figures", type=Path, help="a folder for the circuits' figures")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found: dict[str, Any] = {"threads": torch.get_num_threads(), "speed": [], "circuits": []}
    if not given.skip_speed:
        found["speed"] = [asdict(one) for one in _speeds(["pycode", *given.model], given.repeats)]
    if not given.skip_circuits:
        found["circuits"] = _circuits(
            [("planted", "ioi"), ("planted", "induction"), ("pycode", "induction"),
             *((model, "induction") for model in given.model),
             *((model, str(given.pairs)) for model in given.model if given.pairs)], given.figures,
        )  # fmt: skip
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))
    return 0


def _speeds(models: list[str], repeats: int) -> list[Speed]:
    print(
        f"A sweep of every head at every position and layer, denoising, {torch.get_num_threads()} threads, processor "
        "seconds"
    )
    print(f"{'model':<18}{'pairs':>6}{'tokens':>7}{'from':>5}{'patches':>9}{'ours':>8}{'loop':>8}{'TL':>8}"
          f"{'loop/ours':>10}{'TL/ours':>8}")  # fmt: skip
    out = []
    for model in models:
        subject = load_subject(model, device="cpu", dtype="float32")
        for pairs, tokens, first in SETTINGS:
            one = measure(subject, pairs_of(subject, pairs, tokens, first), repeats)
            out.append(one)
            lens = "–" if one.transformer_lens is None else f"{one.transformer_lens:.2f}"
            times = "–" if one.transformer_lens is None else f"{one.transformer_lens / one.batched:.1f}"
            print(f"{Path(model).name:<18}{pairs:>6}{one.tokens:>7}{first:>5}{one.patches:>9,}{one.batched:>8.2f}"
                  f"{one.looped:>8.2f}{lens:>8}{one.looped / one.batched:>10.1f}{times:>8}", flush=True)  # fmt: skip
            if one.error > 1e-3:
                print(f"they differ by up to {one.error:.2g} logits", file=sys.stderr)
                raise SystemExit(1)
    print(f"All three agree to {max(one.error for one in out):.1g} logits.\n")
    return out


def _circuits(asked: list[tuple[str, str]], figures: Path | None) -> list[dict[str, Any]]:
    out = []
    print(f"{'model':<18}{'task':<11}{'pairs':>7}{'heads':>7}{'faithful':>9}{'random':>16}{'partial':>8}"
          f"{'incompl.':>9}{'minimal':>8}")  # fmt: skip
    for model, which in asked:
        subject = load_subject(model, device="cpu", dtype="float32")
        pairs = task(subject, which, 64) if which in TASKS else encode_pairs(subject, _read(Path(which)))
        usable, name = known(subject, pairs), Path(which).stem
        label = f"{Path(model).name:<18}{name:<11}{f'{len(usable)}/{len(pairs)}':>7}"
        try:
            circuit = find_circuit(subject, usable)
        except InterventionError as error:
            print(f"{label}  {error}")
            continue
        c = circuit.criteria
        mean = sum(c.random_faithfulness) / max(1, len(c.random_faithfulness))
        randoms = f"{mean:.2f}, max {max(c.random_faithfulness, default=0):.2f}"
        print(f"{label}{f'{len(circuit.nodes)}/{len(circuit.candidates)}':>7}{c.faithfulness:>9.2f}{randoms:>16}"
              f"{c.least_partial:>8.2f}{c.incompleteness:>9.2f}{c.least_need:>8.2f}", flush=True)  # fmt: skip
        print(f"{'':<18}{', '.join(node.name for node in circuit.nodes)}")
        print(f"{'':<18}{'; '.join(f'{e.sender} → {e.receiver} {e.effect:.2f}' for e in circuit.edges[:8])}")
        out.append({"model": model, "task": name, "known": len(usable), **circuit.to_json()})
        if figures is not None:
            from neurogloss.render.circuit import circuit_graph
            from neurogloss.render.graphs import save_graph

            figures.mkdir(parents=True, exist_ok=True)
            save_graph(
                figures / f"{Path(model).name}-{name}.png", circuit_graph(circuit, f"{Path(model).name}, {name}")
            )
    return out


def _read(file: Path) -> list[Pair]:
    return [Pair(**json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]


if __name__ == "__main__":
    sys.exit(main())
