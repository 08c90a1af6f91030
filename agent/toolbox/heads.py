"""The tools `head_patterns` and `head_circuit`: where heads attend, and what their weights make of it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from agent.plain import short
from agent.toolbox.base import Arguments, Finding
from agent.toolbox.fields import Layers, Seed, Text, TopK, Unit
from agent.toolbox.reading import Streams
from agent.toolbox.registry import tool
from agent.toolbox.texts import encoded
from agent.toolbox.workbench import Workbench
from tools.head_circuits import HeadCircuit, TokenPair, head_circuit
from tools.heads import EDGES, EdgeProfile, edge_profiles
from tools.subject import Subject
from tools.types import UnitId

#: Texts of random tokens said twice, and tokens of each half, where no texts are given.
REPEATS, HALF = 16, 40


class HeadPatternsArguments(Arguments):
    """Arguments of `head_patterns`."""

    texts: Annotated[list[Text], Field(min_length=1, max_length=64)] | None = Field(
        default=None, description="Texts to attend over; left out: random tokens said twice, which show what repeats."
    )
    layers: Layers | None = Field(default=None, description="Layers whose heads to score; left out: all.")
    seed: Seed = 0


class HeadCircuitArguments(Arguments):
    """Arguments of `head_circuit`."""

    unit: Unit
    streams: Streams = "alone"
    offset: int = Field(
        default=0, ge=0, le=1_000_000, description="How far behind its key a query stands, for models with rotary "
        "position embeddings.",
    )  # fmt: skip
    k: TopK = 10


def pattern_contexts(subject: Subject, arguments: HeadPatternsArguments) -> list[list[int]]:
    """The texts' tokens, or random ones said twice.

    Raises:
        SubjectError: A text has no tokens.
    """
    if arguments.texts is not None:
        return encoded(subject, arguments.texts)[0]
    rng = random.Random(arguments.seed)
    special = set(subject.tokenizer.all_special_ids)
    plain = [i for i in range(min(len(subject.tokenizer), subject.vocabulary)) if i not in special]
    half = min(HALF, (subject.context - len(subject.prefix)) // 2)
    once = [[rng.choice(plain) for _ in range(half)] for _ in range(REPEATS)]
    return [[*subject.prefix, *tokens, *tokens] for tokens in once]


def head_profiles(subject: Subject, arguments: HeadPatternsArguments) -> list[EdgeProfile]:
    """What `head_patterns` is asked for.

    Raises:
        UnitError: A layer is not there or has no patterns, or the texts are too short.
        SubjectError: A text has no tokens.
    """
    contexts = pattern_contexts(subject, arguments)
    layers = _layers_with_heads(subject) if arguments.layers is None else list(dict.fromkeys(arguments.layers))
    return [profile for layer in layers for profile in edge_profiles(subject, layer, contexts)]


def _layers_with_heads(subject: Subject) -> Sequence[int]:
    return [layer for layer, plan in enumerate(subject.sites.plans) if "attn_pattern" in plan.taps]


def most_telling(profile: EdgeProfile) -> tuple[str, float]:
    """The kind of edge that a head has most beyond uniform attention, and by how much."""
    over = {edge: getattr(profile, edge) - profile.baseline[edge] for edge in EDGES if profile.destinations[edge]}
    best = max(over, key=lambda edge: over[edge])
    return best, float(over[best])


@tool("head_patterns", HeadPatternsArguments)
def head_patterns(workbench: Workbench, arguments: HeadPatternsArguments) -> Finding:
    """Scores where every head attends: to the token before, to itself, to the first position, to earlier occurrences of
    the token (duplicate), to what followed them (induction), to punctuation; how much of it positions alone explain,
    and its entropy, each beside what uniform attention would have. Use it to find heads that do a known job.
    """
    profiles = head_profiles(workbench.subject, arguments)
    rows = []
    for profile in profiles:
        scores = {edge: short(getattr(profile, edge)) for edge in EDGES}
        uniform = {edge: short(profile.baseline[edge]) for edge in EDGES}
        more = {name: short(getattr(profile, name)) for name in ("positional", "entropy")}
        rows.append({"unit": str(profile.unit), **scores, **more, "best_offset": profile.best_offset,
                     "uniform": uniform})  # fmt: skip
    strongest = sorted(profiles, key=lambda p: -most_telling(p)[1])[:6]
    told = ", ".join(f"{p.unit} {most_telling(p)[0]} {getattr(p, most_telling(p)[0]):.2f}" for p in strongest)
    return Finding(f"most telling of {len(rows)} heads: {told}", {"heads": rows})


@tool("head_circuit", HeadCircuitArguments)
def head_circuit_tool(workbench: Workbench, arguments: HeadCircuitArguments) -> Finding:
    """Reads off a head's weights which tokens attend to which (QK), what attending to a token makes more and less
    likely (OV), whether it copies what it attends to (1) or works against it (-1), and whether tokens attend to
    themselves (matching). With rotary position embeddings QK is for tokens at one position, or at an offset.
    """
    unit = UnitId.parse(arguments.unit)
    found = head_circuit(workbench.subject, unit, arguments.k, arguments.streams, offset=arguments.offset)
    return Finding(circuit_summary(found), _rows(found))


def circuit_summary(found: HeadCircuit) -> str:
    """A circuit in a sentence."""
    parts = [f"matching {found.matching:.2f}"]
    if found.copying is not None and found.own is not None:
        parts.insert(0, f"copying {found.copying:.2f}, {100 * found.own:.0f} % of tokens raised by attending to them")
    if found.raised:
        best = found.raised[0]
        parts.append(f"attending to {best.source_piece!r} raises {best.target_piece!r} most")
    return f"{found.unit}: " + "; ".join(parts)


def _rows(found: HeadCircuit) -> dict[str, object]:
    def pairs(entries: tuple[TokenPair, ...] | None, names: tuple[str, str]) -> list[dict[str, object]] | None:
        if entries is None:
            return None
        return [
            {names[0]: e.source_piece, names[1]: e.target_piece, "score": short(e.score)} for e in entries
        ]  # fmt: skip

    return {
        "copying": None if found.copying is None else short(found.copying),
        "own": None if found.own is None else short(found.own),
        "matching": short(found.matching),
        "raised": pairs(found.raised, ("attended", "raised")),
        "lowered": pairs(found.lowered, ("attended", "lowered")),
        "attended": pairs(found.attended, ("query", "key")),
        "offset": found.offset,
        "offsets": None if found.offsets is None else [[o.offset, short(o.mass)] for o in found.offsets],
        "left_out": list(found.left_out),
    }
