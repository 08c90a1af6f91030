"""The answers that the policy asks of a language model, as forms whose JSON schema is sent along.

Their bounds are wide: what is wrong with one trial or revision is found by `agent.contest.llm.asked` and `.revised`,
told back, and costs the others nothing. An answer that does not fit the form at all costs all of them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Key = Annotated[str, Field(max_length=16, description="of a rival, such as +1")]


class _Form(BaseModel):
    """A form takes no fields but its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Expected(_Form):
    """What one rival expects at a place."""

    rival: Key
    percent: int = Field(ge=0, le=100, description="how likely the unit is active there if this rival is right")


class ProbeAsked(_Form):
    """A text, the token at which the unit is read, and what each rival expects there."""

    text: str = Field(min_length=1, max_length=4000, description="a short text, as the model will read it")
    at: str = Field(min_length=1, max_length=200, description="the token to read, exactly as it stands in the text")
    active: list[Expected] = Field(
        default=[], max_length=32, description="one for each rival; empty where rules say what rivals expect"
    )


class TrialAsked(_Form):
    """An experiment."""

    question: str = Field(min_length=1, max_length=400, description="what it is for, in a sentence")
    tool: str = Field(min_length=1, max_length=64, description="its name")
    probes: list[ProbeAsked] = Field(max_length=16, description="for probe; one for edits; none for disagreements")
    rivals: list[Key] = Field(default=[], max_length=16, description="for disagreements: the two that disagree")
    replace: str = Field(default="", max_length=200, description="for substitute: the token that others stand in for")
    surprise: int = Field(ge=0, le=100, description="percent: how likely it is that no rival is right about it")


class TrialsAsked(_Form):
    """Experiments, the most telling first."""

    trials: list[TrialAsked] = Field(max_length=12, description="empty when there is nothing left to ask")


class RivalSaid(_Form):
    """A description that takes part from now on."""

    label: str = Field(min_length=1, max_length=120, description="three to eight words")
    fires_on: str = Field(min_length=1, max_length=1200, description="on which token, in which context")
    exceptions: str | None = Field(default=None, max_length=800, description="where one would expect it and is wrong")
    rule: str | None = Field(default=None, max_length=4000, description="the same as a rule; null if it cannot be said")


class RevisionAsked(_Form):
    """What is to become of rivals."""

    kind: Literal["refine", "split", "merge", "new", "drop"]
    rivals: list[Key] = Field(max_length=16, description="those concerned")
    reason: str = Field(min_length=1, max_length=600, description="in a sentence, by results")
    descriptions: list[RivalSaid] = Field(max_length=8, description="what is put in their place")


class RevisionsAsked(_Form):
    """Changes to the rivals."""

    revisions: list[RevisionAsked] = Field(max_length=8, description="empty when all may stay as it is")
