"""The answers that are asked of a language model, as forms whose JSON schema is sent along.

A field without a default must be there; lists and texts are bounded, so that an answer that runs
on is refused and repaired rather than kept. Numbers of texts are those of the prompt, `[1] …` onwards; whoever asked
checks that they are among those shown.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

_MOST_TEXTS = 64
"""Texts in one request, at most."""
_MOST_TOKENS = 512
"""Tokens of one text, at most."""


class _Form(BaseModel):
    """A form takes no fields but its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)


TextNumber = Annotated[int, Field(ge=0, le=10_000, description="number of the text, as in [N]")]
Level = Annotated[int, Field(ge=0, le=10, description="activation, 0 (silent) to 10 (strongest)")]


class Described(_Form):
    """A description of a unit."""

    label: str = Field(min_length=1, max_length=120, description="three to eight words")
    fires_on: str = Field(
        min_length=1, max_length=1200, description="what the unit fires on: which token, in which context"
    )
    exceptions: str | None = Field(
        default=None, max_length=800, description="where one would expect it to fire and it does not; null if none"
    )
    does_when_on: str | None = Field(
        default=None, max_length=800, description="what the unit does to the model's output; null if nothing is shown"
    )
    rule: str | None = Field(
        default=None, max_length=4000, description="the same as a rule in the rule language; null if it cannot be said"
    )


class DescribedEffect(Described):
    """A description of a unit of which it is shown what it does to the output."""

    effect: Literal["changes", "varies", "later", "nothing"] | None = Field(
        default=None,
        description="what it does when on: tokens change, the prediction changes but other tokens in other texts, only "
        "later predictions change, nothing changes; null if nothing is shown",
    )
    raises: list[Annotated[str, Field(max_length=200)]] = Field(
        default_factory=list, max_length=20, description="tokens that it makes likelier, exactly as shown"
    )
    lowers: list[Annotated[str, Field(max_length=200)]] = Field(
        default_factory=list, max_length=20, description="tokens that it makes less likely, exactly as shown"
    )


class DescribedConcepts(_Form):
    """Descriptions of the several things that a unit fires on."""

    concepts: list[Described] = Field(min_length=1, max_length=8, description="one for each concept")


# No pattern: servers differ in which they can hold an answer to, and one place that is none should not cost the others.
Place = Annotated[str, Field(max_length=8, description="'3': everywhere in text 3; '3.2': its second occurrence")]


class Mark(_Form):
    """A token on which a unit is expected to fire, and where."""

    quote: str = Field(min_length=1, max_length=200, description="the token, exactly as in the texts")
    level: Level
    at: list[Place] = Field(min_length=1, max_length=4 * _MOST_TEXTS, description="where it fires")


class Marks(_Form):
    """All tokens on which a unit is expected to fire."""

    marks: list[Mark] = Field(max_length=8 * _MOST_TEXTS, description="empty when it fires nowhere")


class LevelsOfText(_Form):
    """Expected activations at the tokens of one text."""

    text: TextNumber
    levels: list[Level] = Field(max_length=_MOST_TOKENS, description="one for each token, in order")


class Levels(_Form):
    """Expected activations at the tokens of several texts."""

    levels: list[LevelsOfText] = Field(max_length=_MOST_TEXTS, description="one for each text")


class Judgement(_Form):
    """Whether one text fits."""

    text: TextNumber
    sure: int = Field(ge=0, le=10, description="0 (surely not) to 10 (surely); 5 or more means yes")


class Judged(_Form):
    """Whether each of several texts fits."""

    judgements: list[Judgement] = Field(max_length=_MOST_TEXTS, description="one for each text")


class Odd(_Form):
    """The text that does not belong to the others."""

    text: TextNumber


class PickedSet(_Form):
    """The set of texts that fits a description best."""

    set: int = Field(ge=0, le=100, description="number of the set, as in SET N")


class Rating(_Form):
    """How clearly one text has a concept."""

    text: TextNumber
    rating: Literal[0, 1, 2] = Field(description="0 not at all, 1 partly or unclear, 2 clearly")


class Rated(_Form):
    """How clearly each of several texts has a concept."""

    ratings: list[Rating] = Field(max_length=_MOST_TEXTS, description="one for each text")


class Pair(_Form):
    """A text that has something, and one like it that does not."""

    positive: str = Field(min_length=1, max_length=2000, description="a text that has it")
    negative: str = Field(min_length=1, max_length=2000, description="nearly the same text, without it")


class Pairs(_Form):
    """Pairs of texts that were to be written."""

    pairs: list[Pair] = Field(min_length=1, max_length=_MOST_TEXTS, description="one entry for each pair")


class Written(_Form):
    """Texts that were to be written."""

    texts: list[Annotated[str, Field(min_length=1, max_length=2000)]] = Field(
        min_length=1, max_length=_MOST_TEXTS, description="one entry for each text"
    )
