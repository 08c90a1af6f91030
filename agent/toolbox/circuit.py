"""The tool `circuit`: which parts carry a task, and how good an account of it they are."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from agent.plain import short
from agent.toolbox.base import Finding
from agent.toolbox.patching import Name, TaskArguments, token_pairs
from agent.toolbox.registry import tool
from agent.toolbox.workbench import Workbench
from tools.circuits import Circuit, find_circuit, known
from tools.errors import InterventionError
from tools.patching import Node, all_nodes
from tools.subject import Subject

#: Tokens run with parts ablated: about this many searches' worth of a small model.
MOST_ROWS = 300_000


class CircuitArguments(TaskArguments):
    """Arguments of `circuit`."""

    n: int = Field(default=32, ge=2, le=256, description="How many pairs of a built-in task.")
    mlps: bool = Field(default=False, description="Also look at whole MLPs; else they are left as they are.")
    heads: bool = Field(default=True, description="Look at all heads; else they are left as they are.")
    neurons: int = Field(default=0, ge=0, le=256, description="Also look at so many neurons, strongest by gradients.")
    latents: int = Field(
        default=0, ge=0, le=256, description="Also look at so many latents of attached dictionaries, chosen likewise."
    )
    units: Annotated[list[Name], Field(min_length=1, max_length=256)] | None = Field(
        default=None, description="Also look at these parts: mlp:LAYER:NEURON, sae:NAME:LATENT, dir:NAME."
    )
    ablation: Literal["resample", "mean", "zero"] = Field(
        default="resample", description="What ablated parts are given: the corrupted twin's output, its mean, or zero."
    )
    tolerance: Annotated[float, Field(gt=0, le=0.5)] = Field(
        default=0.05, description="How far from the whole model it may be where it is found, as a share."
    )
    draws: int = Field(default=32, ge=2, le=256, description="Random sets of each sort that it is compared with.")


def circuit_of(subject: Subject, arguments: CircuitArguments) -> tuple[Circuit, int, int]:
    """What `circuit` is asked for; the pairs that the subject does, on which it was found, and all pairs.

    Raises:
        UnitError, InterventionError, SubjectError: As `find_circuit`; or the subject does not do the task.
    """
    given = token_pairs(subject, arguments)
    pairs = known(subject, given)
    if len(pairs) < 2:
        raise InterventionError(
            f"The subject '{subject.name}' does this task on {len(pairs)} of {len(given)} pairs: it prefers the answer "
            "after the clean prompt, and less after the other. A circuit needs at least 2 such pairs."
        )
    named = [Node.of(subject, name) for name in arguments.units or ()]
    nodes = [*all_nodes(subject, heads=arguments.heads, mlps=arguments.mlps), *named]
    rows = (len(nodes) + arguments.neurons + arguments.latents + 4 * arguments.draws) * len(pairs)
    if rows > MOST_ROWS:
        raise InterventionError(f"This search runs about {rows:,} rows, more than {MOST_ROWS:,}. Give fewer pairs.")
    found = find_circuit(
        subject, pairs, candidates=nodes, neurons=arguments.neurons, latents=arguments.latents,
        ablation=arguments.ablation, tolerance=arguments.tolerance, draws=arguments.draws, seed=arguments.seed,
    )  # fmt: skip
    return found, len(pairs), len(given)


@tool("circuit", CircuitArguments)
def circuit(workbench: Workbench, arguments: CircuitArguments) -> Finding:
    """Finds the heads (and MLPs, neurons, latents) that carry a task of clean and corrupted prompts, and judges them on
    pairs of their own: faithfulness (what the circuit alone does, 1 is the whole model) beside random sets of its size;
    completeness (is anything left outside); minimality (is each part needed). Also the paths between the parts.
    """
    found, used, given = circuit_of(workbench.subject, arguments)
    c = found.criteria
    data = {
        "nodes": [{**vars(n), "noising": short(n.noising), "denoising": short(n.denoising)} for n in found.nodes],
        "edges": [{**vars(e), "effect": short(e.effect)} for e in found.edges[:64]],
        "faithfulness": short(c.faithfulness), "faithfulness_error": short(c.faithfulness_error),
        "random_faithfulness": [short(v) for v in sorted(c.random_faithfulness, reverse=True)[:8]],
        "least_partial": short(c.least_partial), "incompleteness": short(c.incompleteness),
        "minimality": [{"node": n.node, "loss": short(n.loss)} for n in c.minimality],
        "full": short(c.full), "empty": short(c.empty), "circuit": short(c.circuit), "ablation": found.ablation,
        "reference": found.reference, "pairs_used": used, "pairs_given": given, "candidates": len(found.candidates),
    }  # fmt: skip
    names = ", ".join(node.name for node in found.nodes) or "nothing"
    highest = max(c.random_faithfulness, default=0.0)
    return Finding(
        f"{names}: faithfulness {c.faithfulness:.2f} (random sets at most {highest:.2f}), incomplete by at most "
        f"{c.incompleteness:.2f}, least needed part {c.least_need:.2f}; {used} of {given} pairs",
        data,
    )
