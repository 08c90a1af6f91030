"""The tools `steer`, `dose_response` and `generate`: a unit is driven, and the model speaks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, model_validator

from agent.plain import short
from agent.toolbox.base import Arguments, Finding
from agent.toolbox.fields import Seed, Text, Unit
from agent.toolbox.registry import tool
from agent.toolbox.texts import encoded, token_of
from agent.toolbox.workbench import Workbench
from tools.interventions import generate
from tools.steering import (
    DoseResponse,
    Driven,
    Strength,
    amount_for_kl,
    amount_for_norm,
    dose_response,
    matched_controls,
    strengths_at,
    write,
)
from tools.steering.prompts import beginnings, default_prompts
from tools.subject import Subject
from tools.types import UnitId

#: Doses of a curve, as parts of the strongest.
PARTS = (-1.0, -0.5, -0.25, 0.25, 0.5, 1.0)

Prompts = Annotated[
    list[Text] | None,
    Field(min_length=1, max_length=64, description="Texts to drive it on; left out: a dozen beginnings of texts."),
]
Kl = Annotated[
    float | None,
    Field(ge=-20, le=20, description="Choose the strength whose mean KL divergence of the next token from the plain "
          "model's is this, in nats; negative: turn the unit down. 0.25 to 0.5 is clear and keeps texts readable."),
]  # fmt: skip
Norms = Annotated[
    float | None,
    Field(ge=-100, le=100, description="Or: how far its write is to move, in norms of the residual stream there."),
]
Amount = Annotated[
    float | None, Field(ge=-1e6, le=1e6, description="Or: what is added to its activation; of a head: to its norm.")
]
NewTokens = Annotated[int, Field(ge=1, le=200, description="Tokens to write at most.")]
Temperature = Annotated[float, Field(ge=0, le=5, description="0 takes the likeliest token each time.")]


class StrengthArguments(Arguments):
    """A unit, and how hard it is driven."""

    unit: Unit
    texts: Prompts = None
    kl: Kl = None
    norms: Norms = None
    strength: Amount = None
    seed: Seed = 0

    @model_validator(mode="after")
    def _one_strength(self) -> StrengthArguments:
        if sum(one is not None for one in (self.kl, self.norms, self.strength)) > 1:
            raise ValueError("kl, norms and strength each choose how strongly: give one of them")
        return self


class SteerArguments(StrengthArguments):
    """Arguments of `steer`."""

    prompts: int = Field(default=3, ge=1, le=16, description="How many of the texts are continued.")
    max_new_tokens: NewTokens = 25
    temperature: Temperature = 0.0


class DoseResponseArguments(StrengthArguments):
    """Arguments of `dose_response`."""

    tokens: list[Annotated[str, Field(min_length=1, max_length=200)]] | None = Field(
        default=None, min_length=1, max_length=64,
        description="Tokens to follow, leading spaces included; left out: those that it moves most on other texts.",
    )  # fmt: skip
    expected: Literal["promoted", "suppressed"] | None = Field(
        default=None, description="What its being on is expected to do to these tokens."
    )
    places: int = Field(default=16, ge=2, le=128, description="At how many places of the texts responses are read.")
    everywhere: bool = Field(
        default=True, description="Drive it at every position but the first, or at the last one alone."
    )
    controls: int = Field(default=32, ge=0, le=200, description="Random directions as strong to compare with.")
    loss: bool = Field(default=False, description="Also measure the loss on the texts.")


class GenerateArguments(Arguments):
    """Arguments of `generate`."""

    texts: Annotated[list[Text], Field(min_length=1, max_length=32, description="Prompts.")]
    max_new_tokens: NewTokens = 25
    temperature: Temperature = 0.0
    seed: Seed = 0


@dataclass(frozen=True)
class Steered:
    """What `steer` finds."""

    strength: Strength
    rows: tuple[tuple[str, str, str, str], ...]
    """Prompt, what is written without, with, and with a random direction as strong."""


def contexts_of(subject: Subject, texts: Sequence[str] | None) -> list[list[int]]:
    """The texts' tokens, or those of the beginnings that stand in for them.

    Raises:
        SubjectError: A text has no tokens.
    """
    return encoded(subject, texts if texts is not None else default_prompts(subject))[0]


def strength_of(
    subject: Subject, unit: UnitId, contexts: Sequence[Sequence[int]], arguments: StrengthArguments,
    span: int | None = None,
) -> Strength:  # fmt: skip
    """How hard to drive a unit, as the arguments say; by default to a KL divergence of 0.5.

    Raises:
        UnitError, InterventionError: As `tools.steering` raises them.
    """
    if arguments.strength is None and arguments.norms is None:
        return amount_for_kl(subject, unit, contexts, 0.5 if arguments.kl is None else arguments.kl, span=span)
    amount = arguments.strength
    if amount is None:
        assert arguments.norms is not None
        amount = amount_for_norm(subject, unit, contexts, arguments.norms, span=span)
    return strengths_at(subject, unit, contexts, [amount], span=span)[0]


def steered(subject: Subject, arguments: SteerArguments) -> Steered:
    """What `steer` is asked for.

    Raises:
        UnitError, InterventionError, SubjectError: As `tools.steering` raises them.
    """
    unit = UnitId.parse(arguments.unit)
    contexts = contexts_of(subject, arguments.texts)
    strength = strength_of(subject, unit, contexts, arguments)
    prompts = [tuple(context) for context in contexts[: arguments.prompts]]
    (control,) = matched_controls(subject, unit, 1, arguments.seed)
    length = strength.length if strength.amount >= 0 else -strength.length
    drives = ((None, 0.0), (unit, strength.amount), (control, length))
    rows = [
        Driven(prompt, what, push, arguments.seed * 1_000_003 + i)
        for what, push in drives
        for i, prompt in enumerate(prompts)
    ]
    texts = [
        one.text
        for one in write(subject, rows, max_new_tokens=arguments.max_new_tokens, temperature=arguments.temperature)
    ]
    n = len(prompts)
    given = ["".join(subject.pieces(prompt[len(subject.prefix) :])) for prompt in prompts]
    return Steered(
        strength, tuple((given[i], texts[i], texts[n + i], texts[2 * n + i]) for i in range(n))
    )  # fmt: skip


def curve_of(subject: Subject, arguments: DoseResponseArguments) -> tuple[Strength, DoseResponse]:
    """What `dose_response` is asked for: the strongest dose, and the curve.

    Raises:
        UnitError, InterventionError, SubjectError: As `tools.steering` raises them.
    """
    unit = UnitId.parse(arguments.unit)
    contexts = beginnings(subject, contexts_of(subject, arguments.texts), arguments.places, arguments.seed)
    span = None if arguments.everywhere else 1
    strength = strength_of(subject, unit, contexts, arguments, span)
    tokens = None if arguments.tokens is None else [token_of(subject, token) for token in arguments.tokens]
    sign = None if arguments.expected is None else 1 if arguments.expected == "promoted" else -1
    found = dose_response(
        subject, unit, contexts, [part * strength.amount for part in PARTS], tokens=tokens, sign=sign,
        controls=arguments.controls, span=span, loss=arguments.loss, seed=arguments.seed,
    )  # fmt: skip
    return strength, found


def curve_summary(found: DoseResponse) -> str:
    """A curve in a sentence."""
    tokens = ", ".join(repr(token) for token in found.tokens[:6])
    moved = "promotes" if found.sign > 0 else "suppresses"
    if found.p_value is None:
        return f"{found.unit} {moved} {tokens} by {abs(found.effect):.3g} logits; nothing to compare it with"
    told = "follow the dose" if found.follows() else "do not follow the dose more than with random directions"
    return (
        f"{found.unit} {moved} {tokens} by {abs(found.effect):.3g} logits between the extremes: they {told} "
        f"(trend {found.trend:.2f}, p {found.trend_p:.2g}; against {found.controls} random directions p "
        f"{found.p_value:.2g})"
    )


@tool("steer", SteerArguments)
def steer(workbench: Workbench, arguments: SteerArguments) -> Finding:
    """Turns a unit up (or down) at every position but the first and lets the model write, beside what it writes without
    and with a random direction as strong. Use it to see what a unit makes the model say; a text that only breaks down,
    as it does with the random direction, says nothing of the unit.
    """
    found = steered(workbench.subject, arguments)
    strength = found.strength
    rows = [dict(zip(("prompt", "without", "with", "random"), row, strict=True)) for row in found.rows]
    summary = (
        f"{arguments.unit} driven by {strength.amount:.4g} ({strength.stream:.2g} norms of the stream, KL "
        f"{strength.kl:.2g}) continues {found.rows[0][0]!r} with {found.rows[0][2]!r}, and without with "
        f"{found.rows[0][1]!r}"
    )
    return Finding(summary, {"strength": strength.to_json(), "texts": rows})


@tool("dose_response", DoseResponseArguments)
def dose_response_tool(workbench: Workbench, arguments: DoseResponseArguments) -> Finding:
    """Drives a unit at several strengths, up and down, and measures how the logits of some tokens follow, with a test
    for a monotone trend and against random directions as strong. Use it to test a claim of what a unit promotes or
    suppresses: name the tokens. Without tokens it finds what the unit moves most.
    """
    strength, found = curve_of(workbench.subject, arguments)
    doses = [
        {name: None if value is None else short(value) for name, value in vars(dose).items()} for dose in found.doses
    ]
    data = {
        "strength": strength.to_json(),
        "tokens": list(found.tokens),
        "tokens_were": found.chosen,
        "sign": found.sign,
        "doses": doses,
        "slope": short(found.slope),
        "effect": short(found.effect),
        "trend": short(found.trend),
        "trend_p": short(found.trend_p),
        "p_value": None if found.p_value is None else short(found.p_value),
        "percentile": None if found.percentile is None else short(found.percentile),
        "controls": found.controls,
        "follows": found.follows(),
    }
    return Finding(curve_summary(found), data)


@tool("generate", GenerateArguments)
def generate_tool(workbench: Workbench, arguments: GenerateArguments) -> Finding:
    """Lets the model continue texts as it is. Use it to see what it knows before you change anything."""
    contexts = encoded(workbench.subject, arguments.texts)[0]
    found = generate(
        workbench.subject, contexts, max_new_tokens=arguments.max_new_tokens, temperature=arguments.temperature,
        seed=arguments.seed,
    )  # fmt: skip
    rows = [{"prompt": text, "text": one.text, "ended": one.ended}
            for text, one in zip(arguments.texts, found, strict=True)]  # fmt: skip
    return Finding(f"{arguments.texts[0]!r} is continued with {found[0].text!r}", {"texts": rows})
