"""What became of claims: two contents of a campaign compared, claim by claim, and number by number."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Json = Mapping[str, Any]

#: What a claim says and what was found about it; its scores come beside.
_SAID = ("label", "input_half", "output_half", "exceptions", "rule", "verdict_input", "verdict_output")
#: Digests: they differ wholly where what they are of differs in the last bit, and that is compared itself.
_DIGESTS = ("digest", "claim", "request_hash", "predictions", "protocol_hash")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


@dataclass(frozen=True)
class Change:
    """One thing that is another now."""

    what: str
    """'label', 'verdict_input', ..., or a metric."""
    before: Any
    """Text; of a metric [value, low, high]; None where there was nothing."""
    after: Any


@dataclass(frozen=True)
class ClaimChange:
    """A claim that is another now, or is there no longer, or is new."""

    unit: str
    """With the polarity: ``mlp:2:17+``."""
    kind: str
    """'changed', 'gone' or 'new'."""
    changes: tuple[Change, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def claim_changes(before: Json, after: Json) -> list[ClaimChange]:
    """Claims that differ between two contents of a campaign (`store.campaign_content`), in the order of their units.

    Two claims are the same when they say the same, came to the same verdicts, and have the same headline scores to four
    digits.
    """
    old, new = _claims(before), _claims(after)
    found = []
    for name in sorted({*old, *new}):
        if name not in new:
            found.append(ClaimChange(name, "gone", tuple(_changes(old[name], {}))))
        elif name not in old:
            found.append(ClaimChange(name, "new", tuple(_changes({}, new[name]))))
        elif changes := tuple(_changes(old[name], new[name])):
            found.append(ClaimChange(name, "changed", changes))
    return found


def _claims(content: Json) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for name, work in content["investigations"].items():
        if work["control"] is not None:
            continue
        unit = name.partition(" ")[2]
        for row in work["descriptions"]:
            if row["rank"] == 1 and not row["superseded"]:
                scores = {
                    score["metric"]: [_rounded(score[end]) for end in ("value", "low", "high")]
                    for score in row["scores"]
                    if score["headline"] and score["split"] == "score"
                }
                found[f"{unit}{row['polarity']}"] = {**{key: row[key] for key in _SAID}, **scores}
    return found


def _changes(old: Json, new: Json) -> Iterator[Change]:
    for what in [*_SAID, *sorted({*old, *new}.difference(_SAID))]:
        if old.get(what) != new.get(what):
            yield Change(what, old.get(what), new.get(what))


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


@dataclass(frozen=True)
class Agreement:
    """How far two contents agree."""

    largest: float
    """The largest difference of a number, relative to it where it is above 1."""
    differences: list[str]
    """Numbers that differ by more than was allowed, and everything else that differs, as ``path: one ≠ other``."""


def agreement(before: Any, after: Any, tolerance: float) -> Agreement:
    """Compares two contents, letting numbers differ a little.

    Numbers within texts (a verdict's reasons) are compared as numbers, to the last digit that is shown. Digests are
    passed over: what they are of is compared itself.

    Args:
        before: From `store.campaign_content`.
        after: The same, of another database.
        tolerance: Difference that is allowed; relative, where numbers are above 1.
    """
    walk = _Walk(tolerance)
    walk.compare(before, after, "")
    return Agreement(walk.largest, walk.found)


class _Walk:
    def __init__(self, tolerance: float) -> None:
        self.tolerance, self.largest = tolerance, 0.0
        self.found: list[str] = []

    def compare(self, old: Any, new: Any, path: str) -> None:
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            for key in sorted({*old, *new}, key=str):
                if key in _DIGESTS:
                    continue
                if key not in old or key not in new:
                    self.found.append(f"{path}/{key}: only in the {'second' if key in new else 'first'}")
                else:
                    self.compare(old[key], new[key], f"{path}/{key}")
        elif isinstance(old, list) and isinstance(new, list):
            if len(old) != len(new):
                self.found.append(f"{path}: {len(old)} items ≠ {len(new)} items")
            for place, (one, other) in enumerate(zip(_ordered(old), _ordered(new), strict=False)):
                self.compare(one, other, f"{path}/{place}")
        elif _is_number(old) and _is_number(new):
            self._numbers(old, new, path)
        elif isinstance(old, str) and isinstance(new, str):
            self._texts(old, new, path)
        elif old != new:
            self.found.append(f"{path}: {old!r} ≠ {new!r}")

    def _numbers(self, old: float, new: float, path: str) -> None:
        apart = abs(old - new) / max(1.0, abs(old), abs(new))
        self.largest = max(self.largest, apart)
        if apart > self.tolerance:
            self.found.append(f"{path}: {old!r} ≠ {new!r}")

    def _texts(self, old: str, new: str, path: str) -> None:
        if old == new:
            return
        if _NUMBER.split(old) != _NUMBER.split(new):
            self.found.append(f"{path}: {old!r} ≠ {new!r}")
            return
        for one, other in zip(_NUMBER.findall(old), _NUMBER.findall(new), strict=True):
            last = max(_last_digit(one), _last_digit(other))
            if abs(float(one) - float(other)) > last * (1 + 1e-9):
                self.found.append(f"{path}: {old!r} ≠ {new!r}")
                return


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _last_digit(text: str) -> float:
    """The worth of the last digit of a number as it is written."""
    digits, _, exponent = text.lower().partition("e")
    decimals = len(digits.partition(".")[2])
    return float(10.0 ** ((int(exponent) if exponent else 0) - decimals)) if decimals or exponent else 0.0


def _ordered(rows: Sequence[Any]) -> Sequence[Any]:
    """Rows of a table by what names them, so that their order does not hang on the last bit of a number."""
    if not all(isinstance(row, Mapping) for row in rows):
        return rows

    def name(row: Json) -> tuple[str, ...]:
        return tuple(
            f"{key}={row[key]}"
            for key in ("polarity", "rank", "version", "position", "key", "source", "split", "metric", "predictor",
                        "purpose", "asker")
            if key in row
        )  # fmt: skip

    return sorted(rows, key=name) if any(name(row) for row in rows) else rows
