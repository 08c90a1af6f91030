"""Types of arguments that several tools share: bounded, and described as a language model is told of them.

class AblateArguments(Arguments):
    units: Units
    texts: Texts
    seed: Seed = 0
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from agent.toolbox.base import Arguments

Unit = Annotated[
    str,
    Field(
        min_length=1, max_length=200,
        description="A unit: mlp:LAYER:NEURON, head:LAYER:HEAD, sae:NAME:LATENT or dir:NAME.",
    ),
]  # fmt: skip
Units = Annotated[
    list[Unit],
    Field(
        min_length=1, max_length=64,
        description="Units, or patterns of them such as mlp:3:0-9 or head:2:*.",
    ),
]  # fmt: skip
Text = Annotated[str, Field(min_length=1, max_length=20_000, description="A text, as the model reads it.")]
Texts = Annotated[list[Text], Field(min_length=1, max_length=64, description="Texts that the model reads.")]
Layer = Annotated[int, Field(ge=0, le=1023, description="A layer, counted from 0.")]
Layers = Annotated[list[Layer], Field(min_length=1, max_length=256, description="Layers, counted from 0.")]
Position = Annotated[int, Field(ge=0, le=1_000_000, description="A position in the text: a token, counted from 0.")]
Positions = Annotated[
    list[Position], Field(min_length=1, max_length=1024, description="Positions in the text: tokens, counted from 0.")
]
Head = Annotated[int, Field(ge=0, le=1023, description="A head of a layer, counted from 0.")]
TopK = Annotated[int, Field(ge=1, le=100, description="How many to list, strongest first.")]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1, description="Seed of whatever is drawn at random.")]


class Pair(Arguments):
    """A clean prompt and its corrupted twin, with the answers that tell them apart."""

    clean: Text = Field(description="The prompt that shows the behaviour.")
    corrupt: Text | None = Field(
        default=None,
        description="Its twin that does not, with as many tokens. Left out where noise corrupts the prompt.",
    )
    answer: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None, description="The next token after the clean prompt, with its leading space if it has one."
    )
    wrong: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None, description="The next token after the corrupted prompt, which the answer is compared with."
    )
