"""What a tool is likely to cost, before it is used: so that a person is asked first where that is much.

Texts are counted in tokens, and multiplied by what a tool does with each of them: an edit of every token within a
window, a sweep over layers and positions, a generation. The figure is meant to be of the right size, not as a promise.
What was really used is on record afterwards, and a tool that took more than was thought is thought to take more the
next time (`agent.chat.tools.ToolShelf`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

#: Characters that make a token, at the least.
_CHARACTERS = 3
#: Arguments that repeat the run of a text: numbers by their size, lists by their length.
_REPEATS = (
    "replacements", "window", "positions", "layers", "strengths", "factors", "alphas", "steps", "samples", "n_random",
    "draws", "resamples", "heads", "sites", "prompts_each", "directions", "repeats", "random", "nulls",
)  # fmt: skip
#: Arguments that ask for text to be written.
_WRITES = ("max_new_tokens", "new_tokens", "tokens")
#: Tools that read weights and what is kept only.
_FREE = ("write_lens", "read_lens", "head_circuit", "unit_origins", "neighbours")
#: Tool -> how often it runs each token of its texts, where its arguments do not tell; seen on the built-in model.
_RUNS = {
    "logit_lens": 8, "head_patterns": 8, "patchscope": 50, "attribute": 60, "information_flow": 200, "steer": 12,
    "dose_response": 800, "patch": 60, "path_patch": 60, "decompose": 60, "circuit": 10_000, "knock_out": 20,
    "scale_attention": 20, "concept": 4,
}  # fmt: skip
#: Tokens of the texts that a tool takes where it is given none.
_OWN_TEXTS = 100


@dataclass(frozen=True)
class Estimate:
    """What a use of a tool is likely to cost."""

    forward_passes: int = 0
    """Texts run through the subject, each counted once, however they are batched."""
    tokens: int = 0
    seconds: float = 0.0
    dollars: float | None = None
    """Of the language model that reads the result; None where no price is known."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Thresholds:
    """From where on a person is asked before a tool is used."""

    forward_passes: int = 500
    seconds: float = 30.0
    dollars: float = 0.25

    def exceeded(self, estimate: Estimate) -> bool:
        """Whether to ask."""
        dollars = estimate.dollars is not None and estimate.dollars > self.dollars
        return estimate.forward_passes > self.forward_passes or estimate.seconds > self.seconds or dollars


def estimate(
    tool: str, arguments: Mapping[str, Any], *, tokens_per_second: float, dollars: float | None = None
) -> Estimate:
    """What one use of a tool on the subject is likely to cost.

    Args:
        tool: Its name.
        arguments: As they were checked, defaults included.
        tokens_per_second: That the subject was seen to run.
        dollars: What the language model costs that reads the result.
    """
    if tool in _FREE:
        return Estimate(dollars=dollars)
    texts = list(_texts(arguments))
    read = sum(math.ceil(len(text) / _CHARACTERS) + 1 for text in texts)
    repeats = float(_RUNS.get(tool, 1))
    for name in () if tool in _RUNS else _REPEATS:
        value = arguments.get(name)
        if isinstance(value, bool) or value is None:
            continue
        if isinstance(value, int):
            repeats *= 1 + value
        elif isinstance(value, list) and value:
            repeats *= len(value)
    if tool in _RUNS and not texts:
        read = _OWN_TEXTS
    written = max((int(arguments[name]) for name in _WRITES if isinstance(arguments.get(name), int)), default=0)
    passes = math.ceil(max(1, len(texts)) * repeats) + written
    tokens = math.ceil(read * repeats + written * max(1, len(texts)) * max(1.0, repeats))
    return Estimate(passes, tokens, tokens / max(1.0, tokens_per_second), dollars)


def _texts(value: Any) -> list[str]:
    """All texts among arguments that are long enough to be run, at any depth."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for name, inner in value.items() if name not in ("unit", "units") for text in _texts(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in _texts(inner)]
    return []
