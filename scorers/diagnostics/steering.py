"""What diagnostics that let the subject write share: driven runs, the description of what a unit does, and its text."""

from __future__ import annotations

from collections.abc import Sequence

from explainers.llm.show import shown
from explainers.types import Explanation
from tools.effects import not_measurable
from tools.interventions import Edit, generate
from tools.subject import Subject
from tools.types import UnitId
from tools.unhooked import unhooked

TEMPERATURE = 0.75
"""Of what is written, as published (Gur-Arieh et al. 2025)."""


def output_of(explanation: Explanation) -> str:
    """What a description says of what the unit does, on one line: no text can begin a heading of the prompt."""
    return " ".join(f"{explanation.label}. {explanation.output_half or explanation.input_half}".split())


def reason_for_none(subject: Subject | None, units: Sequence[UnitId]) -> str | None:
    """Why no texts can be written with these units driven; None where they can."""
    if subject is None:
        return "there is no subject to write texts"
    return next((reason for unit in units if (reason := not_measurable(subject, unit)) is not None), None)


def written(
    subject: Subject, prompts: Sequence[str | Sequence[int]], edits: Sequence[Edit], *, tokens: int, seed: int
) -> list[str]:
    """Continuations, one a prompt, each on one line."""
    # Prompts may come out of a sealed split.
    with unhooked(subject):
        found = generate(subject, prompts, edits, max_new_tokens=tokens, temperature=TEMPERATURE, seed=seed % 2**31)
    return [shown(one.text) for one in found]
