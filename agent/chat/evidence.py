"""What cited rows say, as facts: values with the roles that they have and the units that they are of."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.chat import roles
from agent.chat.numbers import UNIT, Number, find
from agent.chat.roles import Role
from store.queries.citations import CitedRow

#: Names of values that say nothing of the model.
_SILENT = ("id", "fingerprint", "digest", "hash", "seed", "key", "url", "path", "code")
#: Names of what holds units' names.
_UNIT_NAMES = ("unit", "unit_a", "unit_b")


#: Characters of a quotation that may stand in a text by chance.
_SHORT_QUOTE = 3
_SPACE = re.compile(r"[\s␣·⏎⇥␍…]+|\\[nt]")


@dataclass(frozen=True)
class Fact:
    """One value that a row says."""

    value: float
    role: Role
    """What it is a value of, as far as its name or the words around it tell."""
    unit: str | None
    """The unit that it is of; None where the row does not say."""
    step: float = 0.0
    """Of a value that the row has in words: the worth of its last digit."""


@dataclass(frozen=True)
class Evidence:
    """Everything that some rows say."""

    facts: tuple[Fact, ...]
    texts: tuple[str, ...]
    """All texts in them, for names, dates and quotations."""
    units: frozenset[str]
    """All units that they name."""

    def says(self, words: str) -> bool:
        """Whether a row has these words, as they stand."""
        return any(words in text for text in self.texts)

    def quotes(self, quoted: str) -> bool:
        """Whether a row has a quotation, however its white space is shown; a short one must be all of a text, or be
        quoted there too."""
        wanted = _tight(quoted)
        if len(wanted) > _SHORT_QUOTE:
            return any(wanted in _tight(text) for text in self.texts)
        return any(wanted == _tight(text) or f"“{quoted}”" in text for text in self.texts)


def evidence_of(row: CitedRow) -> Evidence:
    """What a row says."""
    facts: list[Fact] = []
    texts: list[str] = []
    units = set() if row.unit is None else {row.unit}
    _walk(row.values, (), _Of(row.unit), facts, texts)
    for text in texts:
        units |= {match[0].rstrip("+-") for match in UNIT.finditer(text)}
    return Evidence(tuple(dict.fromkeys(facts)), tuple(dict.fromkeys(texts)), frozenset(units))


def together(parts: Sequence[Evidence]) -> Evidence:
    """What several rows say."""
    return Evidence(
        tuple(fact for part in parts for fact in part.facts), tuple(text for part in parts for text in part.texts),
        frozenset(unit for part in parts for unit in part.units),
    )  # fmt: skip


@dataclass(frozen=True)
class _Of:
    """What the values of a part of a row are of."""

    unit: str | None
    metric: str | None = None


def _walk(value: Any, names: tuple[str, ...], of: _Of, facts: list[Fact], texts: list[str]) -> None:
    """Adds what a value says; `names` are its own and those of what holds it, innermost first."""
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, int | float):
        if not _silent(names):
            facts.append(Fact(float(value), roles.of_name(names, of.metric), of.unit))
    elif isinstance(value, str):
        texts.append(value)
        facts.extend(Fact(number.value, role, of.unit, number.step) for number, role in read(value))
    elif isinstance(value, Mapping):
        unit = next((value[name] for name in _UNIT_NAMES if isinstance(value.get(name), str)), of.unit)
        metric = value["metric"] if isinstance(value.get("metric"), str) else None
        for name, inner in value.items():
            _walk(inner, (str(name), *names), _Of(unit, metric), facts, texts)
            if "quantiles" in names[:1]:
                facts.extend(
                    Fact(number.value, Role(frozenset({"quantile"})), unit) for number in find(str(name)).numbers
                )
    elif isinstance(value, Sequence):
        for inner in value:
            _walk(inner, names, of, facts, texts)
        if len(value) > 1 and all(isinstance(inner, str) for inner in value):
            _walk("".join(value), names, of, facts, texts)  # tokens, which are one text


def _tight(text: str) -> str:
    """Text without white space, or the signs that stand for it."""
    return _SPACE.sub("", text)


def _silent(names: tuple[str, ...]) -> bool:
    if not names:
        return False
    return names[0] in _SILENT or names[0].endswith(tuple(f"_{name}" for name in _SILENT))


@functools.lru_cache(maxsize=1 << 14)
def read(text: str) -> tuple[tuple[Number, Role], ...]:
    """The numbers of a text with what its words say that they are."""
    numbers = find(text).numbers
    return tuple(zip(numbers, roles.of_words(text, [(one.start, one.end) for one in numbers]), strict=True))
