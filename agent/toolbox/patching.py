"""The tools `patch` and `path_patch`: which parts of a run carry a behaviour, and along which paths."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from agent.plain import short
from agent.toolbox.base import Arguments, Finding
from agent.toolbox.fields import Pair, Position, Seed
from agent.toolbox.registry import tool
from agent.toolbox.workbench import Workbench
from tools.circuits import task
from tools.errors import InterventionError
from tools.patching import (
    Effects,
    Node,
    Noise,
    Paths,
    Screen,
    Sweep,
    TokenPair,
    encode_pairs,
    parse_receivers,
    path_patch,
    screen,
    sweep,
)
from tools.patching import Pair as TextPair
from tools.subject import Subject

#: Tokens that are run with a patch, over patches and pairs, both directions.
MOST_TOKENS = 5_000_000
#: Effects of a grid that are told one by one.
TOLD = 24

Sites = Literal["resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "mlp_act", "head_z", "head_q", "head_k",
                "head_v", "attn_pattern"]  # fmt: skip
TaskName = Literal["ioi", "induction"]
Number = Annotated[int, Field(ge=0, le=1_000_000)]
Name = Annotated[str, Field(min_length=4, max_length=120)]


class TaskArguments(Arguments):
    """What tools on pairs of prompts share."""

    pairs: Annotated[list[Pair], Field(min_length=1, max_length=256)] | None = Field(
        default=None, description="Clean prompts and their corrupted twins. Or name a task."
    )
    task: TaskName | None = Field(
        default=None, description="A built-in task: 'induction' for any subject; 'ioi' where names are single tokens."
    )
    n: int = Field(default=16, ge=1, le=256, description="How many pairs of a built-in task.")
    seed: Seed = 0

    @model_validator(mode="after")
    def _one_of(self) -> TaskArguments:
        if (self.pairs is None) == (self.task is None):
            raise ValueError("give either pairs or a task")
        return self


class PatchArguments(TaskArguments):
    """Arguments of `patch`."""

    site: Sites = Field(default="head_z", description="What is patched: a residual stream, an output, heads' parts.")
    layers: Annotated[list[Number], Field(min_length=1, max_length=256)] | None = Field(
        default=None, description="Layers to patch, one at a time; left out: each."
    )
    positions: Literal["each", "all"] | Annotated[list[Position], Field(min_length=1, max_length=256)] = Field(
        default="all", description="Each position by itself, all at once, or these by themselves."
    )
    channels: Literal["each", "all"] | Annotated[list[Number], Field(min_length=1, max_length=4096)] | None = Field(
        default=None, description="Heads or neurons by themselves, all at once; left out: each head, else all."
    )
    window: int = Field(default=1, ge=1, le=64, description="Layers patched together; more than 1 gives joint effects.")
    noise_positions: Annotated[list[Position], Field(min_length=1, max_length=256)] | None = Field(
        default=None, description="Where noise falls on prompts without a twin; left out: all positions but the first."
    )
    sigmas: float = Field(default=3.0, gt=0, le=20, description="Size of the noise, in deviations of the embeddings.")
    draws: int = Field(default=10, ge=1, le=64, description="Draws of noise for each prompt.")
    screen: int = Field(
        default=0, ge=0, le=256, description="Estimate all from gradients and run only so many; 0: run all of them."
    )

    @property
    def channel_choice(self) -> Any:
        """As `tools.patching.sweep` takes it."""
        if self.channels is None:
            return "each" if self.site.startswith("head_") or self.site == "attn_pattern" else None
        return None if self.channels == "all" else self.channels


class PathPatchArguments(TaskArguments):
    """Arguments of `path_patch`."""

    senders: Annotated[list[Name], Field(min_length=1, max_length=256)] = Field(
        description="Parts whose output is patched: head:LAYER:HEAD, mlp:LAYER, mlp:LAYER:NEURON, sae:NAME:LATENT."
    )
    receivers: Annotated[list[Name], Field(min_length=1, max_length=256)] = Field(
        description="Inputs that receive it: head:LAYER:HEAD:q (or :k, :v), mlp:LAYER, sae:NAME:LATENT, logits; joined "
        "by + to receive together."
    )
    hold_mlps: bool = Field(default=False, description="Also hold MLPs between them, so that the stream alone carries.")


def token_pairs(subject: Subject, arguments: TaskArguments, noise: Noise | None = None) -> list[TokenPair]:
    """The pairs that are asked for, as tokens.

    Raises:
        InterventionError: They cannot be patched, or the task does not suit the subject.
    """
    if arguments.task is not None:
        return task(subject, arguments.task, arguments.n, arguments.seed)
    assert arguments.pairs is not None
    pairs = [TextPair(pair.clean, pair.corrupt, pair.answer, pair.wrong) for pair in arguments.pairs]
    return encode_pairs(subject, pairs, noise)


def _encoded(subject: Subject, arguments: PatchArguments) -> list[TokenPair]:
    places = None if arguments.noise_positions is None else tuple(arguments.noise_positions)
    pairs = token_pairs(subject, arguments, Noise(places, arguments.sigmas, arguments.draws, arguments.seed))
    plan = subject.sites.plans[0]
    layers = len(arguments.layers) if arguments.layers else subject.n_layers
    width = max(len(pair.clean) for pair in pairs)
    spots = {"each": width, "all": 1}.get(str(arguments.positions)) or len(arguments.positions)
    choice = arguments.channel_choice
    count = plan.n_neurons if arguments.site == "mlp_act" else plan.n_heads
    parts = 1 if choice is None else count if choice == "each" else len(choice)
    tokens = 2 * layers * spots * parts * width * len(pairs)
    if not arguments.screen and tokens > MOST_TOKENS:
        raise InterventionError(
            f"This sweep runs {tokens:,} tokens, more than the {MOST_TOKENS:,} of one request. Patch fewer layers, "
            "positions or pairs, or screen by gradients."
        )
    return pairs


def patching(subject: Subject, arguments: PatchArguments) -> Sweep:
    """The whole sweep that `patch` is asked for, both directions.

    Raises:
        UnitError, InterventionError, SubjectError: As `tools.patching.sweep`; or it is too large for one request.
    """
    return sweep(
        subject, _encoded(subject, arguments), arguments.site, layers=arguments.layers,
        positions=None if arguments.positions == "all" else arguments.positions, channels=arguments.channel_choice,
        window=arguments.window,
    )  # fmt: skip


def screening(subject: Subject, arguments: PatchArguments) -> tuple[Screen, Screen]:
    """Estimates of the sweep that `patch` is asked for, denoising and noising, the strongest confirmed.

    Raises:
        As `patching`; and InterventionError for windows, which have no estimates.
    """
    if arguments.window > 1:
        raise InterventionError("Gradients estimate single layers; a window of several is not screened.")
    pairs = _encoded(subject, arguments)
    positions = None if arguments.positions == "all" else arguments.positions
    denoising, noising = (
        screen(
            subject, pairs, arguments.site, layers=arguments.layers, positions=positions,
            channels=arguments.channel_choice, direction=direction, confirm=arguments.screen, seed=arguments.seed,
        )
        for direction in ("denoising", "noising")
    )  # fmt: skip
    return denoising, noising


def paths(subject: Subject, arguments: PathPatchArguments) -> Paths:
    """What `path_patch` is asked for.

    Raises:
        UnitError, InterventionError, SubjectError: As `tools.patching.path_patch`.
    """
    return path_patch(
        subject, token_pairs(subject, arguments), [Node.of(subject, name) for name in arguments.senders],
        parse_receivers(arguments.receivers, subject), hold_mlps=arguments.hold_mlps,
    )  # fmt: skip


def strongest(found: Sweep, effects: Effects, most: int = TOLD) -> list[dict[str, Any]]:
    """The largest effects of a grid, each with its place."""
    order = np.argsort(-np.abs(np.nan_to_num(effects.values)), axis=None, kind="stable")[:most]
    out = []
    for flat in order:
        layer, p, c = (int(i) for i in np.unravel_index(flat, effects.values.shape))
        position = None if found.positions is None else found.positions[p]
        out.append({
            "layer": found.layers[layer], "position": position,
            "token": None if position is None else found.tokens[position],
            "channel": None if found.channels is None else found.channels[c],
            "effect": short(effects.values[layer, p, c]), "error": short(effects.errors[layer, p, c]),
            "detected": bool(effects.detected[layer, p, c]),
        })  # fmt: skip
    return out


@tool("patch", PatchArguments)
def patch(workbench: Workbench, arguments: PatchArguments) -> Finding:
    """Puts parts of one run into another, part by part, to find what carries a behaviour. 'denoising' puts the clean
    run's into the corrupted one (1: that part alone restores the answer), 'noising' the corrupted run's into the clean
    one (1: the answer is lost without that part). They differ where parts work together or stand in for each other.
    Effects are shares of the logit difference; those beyond 2 standard deviations are marked as detected.
    """
    if arguments.screen:
        return _screened(workbench.subject, arguments)
    found = patching(workbench.subject, arguments)
    data: dict[str, Any] = {
        "site": found.kind, "window": found.window, "tokens": found.tokens, "clean": found.clean,
        "corrupt": found.corrupt, "prompts": found.prompts, "draws": found.draws,
    }  # fmt: skip
    told = []
    for direction in ("denoising", "noising"):
        effects = found.direction(direction)["logit_difference"]
        rows = strongest(found, effects)
        data[direction] = rows
        top = ", ".join(f"{_place(found.kind, row)} {row['effect']:.2f}" for row in rows[:4])
        told.append(f"{direction}: {top}")
    return Finding(f"{found.kind} of {found.prompts} prompts; {'; '.join(told)}", data)


def _place(kind: str, row: dict[str, Any]) -> str:
    channel = "" if row["channel"] is None else f" {row['channel']}"
    at = "" if row["position"] is None else f" at {row['token']!r} ({row['position']})"
    return f"{kind}.{row['layer']}{channel}{at}"


def _screened(subject: Subject, arguments: PatchArguments) -> Finding:
    data, told = {}, []
    for found in screening(subject, arguments):
        rows = [{**vars(one), "estimate": short(one.estimate), "exact": short(one.exact), "error": short(one.error)}
                for one in found.checked]  # fmt: skip
        data[found.direction] = {"checked": rows, "rank_correlation": found.rank_correlation}
        best = max(found.checked, key=lambda one: abs(one.exact))
        told.append(
            f"{found.direction}: largest confirmed {best.exact:.2f} in layer {best.layer}, estimates and runs agree in "
            f"rank by {found.rank_correlation if found.rank_correlation is None else round(found.rank_correlation, 2)}"
        )
    return Finding(f"{arguments.site} screened by gradients; {'; '.join(told)}", data)


@tool("path_patch", PathPatchArguments)
def path_patch_tool(workbench: Workbench, arguments: PathPatchArguments) -> Finding:
    """Measures what one part does through the input of another and not otherwise: all other heads are held while the
    sender's change reaches the receiver. Use it to find out through what a head works: a later head's queries (where it
    looks), keys (what is found) or values (what it moves), or the logits directly.
    """
    found = paths(workbench.subject, arguments)
    data: dict[str, Any] = {"clean": found.clean, "corrupt": found.corrupt, "mlps_held": found.mlps_held}
    told = []
    for direction in ("denoising", "noising"):
        effects = found.direction(direction)["logit_difference"]
        rows = [
            {"from": found.senders[i], "to": found.receivers[j], "effect": short(effects[i, j]),
             "error": short(found.errors[direction][i, j])}
            for i, j in zip(*np.nonzero(np.isfinite(effects)), strict=True)
        ]  # fmt: skip
        rows.sort(key=lambda row: -abs(row["effect"]))
        data[direction] = rows[: 4 * TOLD]
        told.append(f"{direction}: " + ", ".join(f"{r['from']} to {r['to']} {r['effect']:.2f}" for r in rows[:3]))
    return Finding("; ".join(told), data)
