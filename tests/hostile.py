"""An explainer's view of the world, seen by someone who wants the sealed data: asks for all, and judges what came."""

from __future__ import annotations

import inspect
import itertools
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import poisson

from tools.errors import SealedError
from tools.index import OPEN_SPLITS, ActivationIndex, SealKeeper, Texts
from tools.index.contents import Contents
from tools.types import Example, Sample, Split, UnitId, UnitStatistics

ROOMS = ("tools.", "explainers.", "scorers.", "agent.", "store.", "neurogloss.")
#: What leads to sealed data, by type or by the name of the type.
FORBIDDEN = (ActivationIndex, SealKeeper, Texts, Contents)
#: Numbers from which on some of an array may equal sealed ones by chance.
LARGE = 1000
FORBIDDEN_NAMES = {"Bench", "Desk", "Crew", "Database", "Corpus"}


@dataclass
class Judge:
    """Knows what is sealed, from the index's files, and says of a value whether any of that is in it."""

    texts: Texts
    sealed: set[int] = field(default_factory=set)
    """Contexts of the sealed splits."""
    rows: set[tuple[int, ...]] = field(default_factory=set)
    pieces: set[tuple[str, ...]] = field(default_factory=set)
    documents: set[str] = field(default_factory=set)
    numbers: set[int] = field(default_factory=set)
    """Document numbers of the sealed splits."""
    values: set[float] = field(default_factory=set)
    """Activations on record for sealed text and not for open text."""
    tokens: dict[Split, int] = field(default_factory=dict)

    @classmethod
    def of(cls, index: ActivationIndex) -> Judge:
        """A judge of what comes out of an index."""
        texts = Texts.open(index.path, index.manifest["settings"]["context"])
        judge = cls(texts, tokens=dict(index.tokens))
        for split in set(Split) - OPEN_SPLITS:
            judge.sealed |= set(texts.contexts_of(split))
        judge.rows = {trimmed(texts.ids(context)) for context in judge.sealed}
        judge.pieces = {tuple(texts.pieces(context)) for context in judge.sealed}
        judge.numbers = {texts.document(context) for context in judge.sealed}
        judge.documents = {texts.document_id(number) for number in judge.numbers}
        judge.values = stored(index.path, set(Split) - OPEN_SPLITS) - stored(index.path, OPEN_SPLITS)
        assert judge.rows
        return judge

    def finds(self, value: Any) -> Iterator[str]:
        """Everything sealed in a value, in words; nothing when it is clean."""
        if isinstance(value, Sample):
            contexts, documents = set(value.contexts.tolist()), set(value.documents.tolist())
            if contexts & self.sealed or documents & self.numbers:
                yield "a sample of sealed contexts"
            yield from self.finds(value.values)
        elif isinstance(value, Example):
            if value.context in self.sealed or value.split not in OPEN_SPLITS:
                yield f"an example of context {value.context}"
            yield from self.finds((value.document, value.tokens, value.activations))
        elif isinstance(value, UnitStatistics):
            if value.tokens not in {self.tokens[split] for split in OPEN_SPLITS}:
                yield f"statistics over {value.tokens} tokens"
        elif isinstance(value, np.ndarray):
            yield from self._array(value)
        elif isinstance(value, str):
            if value in self.documents:
                yield f"the sealed document id {value}"
        elif isinstance(value, float | np.floating):
            if float(value) in self.values:
                yield f"the sealed activation {value}"
        elif isinstance(value, Mapping):
            yield from itertools.chain.from_iterable(map(self.finds, value.values()))
        elif isinstance(value, list | tuple | set | frozenset):
            items = tuple(value)
            if items and all(isinstance(item, str) for item in items) and items in self.pieces:
                yield f"sealed text: {items}"
            yield from itertools.chain.from_iterable(map(self.finds, items))
        elif is_dataclass(value) and not isinstance(value, type):
            yield from itertools.chain.from_iterable(map(self.finds, vars(value).values()))

    def _array(self, array: np.ndarray[Any, Any]) -> Iterator[str]:
        base = array.base
        while isinstance(base, np.ndarray):
            if base.nbytes > array.nbytes:
                yield f"an array of {array.shape} that is part of one of {base.shape}"
            base = base.base
        if base is not None and not isinstance(base, bytes):
            yield f"an array that lies in a {type(base).__name__}"
        if array.dtype.kind == "f":
            numbers = set(array.ravel().tolist())
            found = self.values & numbers
            if found and len(found) > self._by_chance(array.size, numbers):
                yield f"sealed activations: {sorted(found)[:3]}"
        elif array.dtype.kind == "i" and array.ndim and array.size:
            for row in array.reshape(-1, array.shape[-1]):
                if trimmed(row) in self.rows:
                    yield "token ids of a sealed context"

    def _by_chance(self, size: int, numbers: set[float]) -> int:
        """How many of an array's numbers may equal a sealed activation without being one.

        Of fewer than `LARGE` none. What coincides in larger ones was traced: changes of the next token's logits, 32
        places by 345 tokens, of a random model whose activations are as small. Such an array has no more of the sealed
        activations (1) than of their neighbours among the float32 numbers (0.3 to 0.5 in the mean over 64 neighbours, 3
        at most), which are as likely and are no activation of anything; an array of sealed activations has hundreds of
        the ones, and less than one of the others. So the neighbours say what chance does, and a one in ten thousand is
        beyond it.
        """
        if size < LARGE:
            return 0
        bits = np.array(sorted(self.values), dtype=np.float32).view(np.int32)
        steps = [step for step in range(-32, 33) if step]
        counts = [len(numbers.intersection((bits + step).view(np.float32).astype(float).tolist())) for step in steps]
        return int(poisson.isf(1e-4, np.mean(counts) + 1 / len(steps)))


def trimmed(row: np.ndarray[Any, Any]) -> tuple[int, ...]:
    """Token ids without padding."""
    return tuple(np.trim_zeros(row, "b").tolist())


def stored(path: Path, splits: set[Split] | frozenset[Split]) -> set[float]:
    """Activations in the dense files of some splits, and of all splits' postings those that are theirs."""
    found: set[float] = set()
    for split in splits:
        for name in ("panel", "top_values"):
            if (path / f"{name}-{split}.npy").exists():
                found |= set(np.load(path / f"{name}-{split}.npy").ravel().astype(float).tolist())
    for folder in path.glob("postings-*"):
        counts, values = np.load(folder / "counts.npy"), np.load(folder / "values.npy")
        owner = np.repeat(np.tile(np.arange(len(counts)), counts.shape[1]), counts.T.ravel())
        which = [tuple(Split).index(split) for split in splits]
        found |= set(values[np.isin(owner, which)].astype(float).tolist())
    return {value for value in found if np.isfinite(value) and value}


def reachable(start: Any, *, private: bool = False, most: int = 4000) -> dict[str, Any]:
    """All that can be reached by attributes (and items of containers), by its path from `start`.

    Args:
        start: Where to begin.
        private: Also through names that begin with an underscore, of objects of our own.
        most: Enough is enough.
    """
    found: dict[str, Any] = {}
    queue: list[tuple[str, Any]] = [("it", start)]
    seen: set[int] = set()
    while queue and len(found) < most:
        path, value = queue.pop(0)
        if id(value) in seen:
            continue
        seen.add(id(value))
        found[path] = value
        if isinstance(value, Mapping):
            queue += [(f"{path}[{key!r}]", item) for key, item in itertools.islice(value.items(), 50)]
        elif isinstance(value, list | tuple):
            queue += [(f"{path}[{i}]", item) for i, item in enumerate(value[:50])]
        elif type(value).__module__.startswith(ROOMS) and not isinstance(value, type):
            for name in sorted({*dir(value), *getattr(value, "__dict__", {})}):
                if name.startswith("__") or (name.startswith("_") and not private):
                    continue
                item = getattr(value, name, None)
                if not callable(item) or is_ours(item):
                    queue.append((f"{path}.{name}", item))
    return found


def is_ours(value: Any) -> bool:
    """Whether it is an object of one of our classes."""
    return type(value).__module__.startswith(ROOMS)


def leads(found: Mapping[str, Any]) -> list[str]:
    """Paths in `found` to something that hands out sealed data."""
    return [
        path for path, value in found.items() if isinstance(value, FORBIDDEN) or type(value).__name__ in FORBIDDEN_NAMES
    ]


def hostile_arguments(judge: Judge, unit: UnitId, draw: random.Random) -> dict[str, list[Any]]:
    """By name of a parameter what somebody tries who wants more than his split; '' is for any other name."""
    sealed = sorted(judge.sealed)
    some = draw.sample(sealed, min(4, len(sealed)))
    identity = draw.choice(sorted(judge.documents))
    anything: list[Any] = [
        *some, -1, -len(sealed), 10**9, -(10**9), np.int64(some[0]), float(some[0]), True, "all", "*", identity, None,
        slice(None), Ellipsis, Split.SCORE, [some[0]], np.array(some),
    ]  # fmt: skip
    units = [
        unit, UnitId(unit.group, -1), UnitId(unit.group, 10**6), UnitId("*", 0), UnitId("mlp:*", 0), "all", "mlp:*:*",
    ]  # fmt: skip
    numbers = [1, 10**6, 0, -1, -(10**6), None, slice(None)]
    return {
        "unit": units,
        "units": [[unit], [], [unit, UnitId(unit.group, -1)], "all", slice(None), None],
        "kind": ["top", "bottom", "quantile", "random", "all", "score", None],
        "n": numbers, "window": numbers, "start": numbers, "stop": numbers,
        "contexts": [
            *anything, some, *([one] for one in some), [0, *some], [-1], [], np.array([some, some]),
            range(-3, judge.texts.n_contexts),
        ],
        "document": [*sorted(judge.numbers), *anything],
        "": anything,
    }  # fmt: skip


def attack(view: Any, name: str, judge: Judge, unit: UnitId, draw: random.Random, tries: int = 400) -> Iterator[str]:
    """Calls every public method of a split's view and of its texts with whatever may be wrong; yields what leaked.

    Methods are found by looking, so that one added tomorrow is attacked too. A call may fail in any way it likes.
    """
    for owner, thing in ((name, view), (f"{name}.texts", view.texts)):
        for method in sorted(dir(thing)):
            call = getattr(thing, method)
            if method.startswith("_") or not callable(call):
                continue
            for arguments in hostile_calls(call, judge, unit, draw, tries):
                try:
                    value = call(*arguments)
                except Exception:
                    continue
                for what in judge.finds(value):
                    yield f"{owner}.{method}{tuple(arguments)!r} gave {what}"


def hostile_calls(
    call: Callable[..., Any], judge: Judge, unit: UnitId, draw: random.Random, tries: int
) -> Iterator[tuple[Any, ...]]:
    """Arguments to call a method with: all combinations, or as many as `tries` of them."""
    chosen = hostile_arguments(judge, unit, draw)
    lists = [chosen.get(name, chosen[""]) for name in inspect.signature(call).parameters]
    total = int(np.prod([len(one) for one in lists]))
    if total <= tries:
        yield from itertools.product(*lists)
    else:
        for _ in range(tries):
            yield tuple(draw.choice(one) for one in lists)


def refused(call: Callable[[], Any]) -> bool:
    """Whether a call is refused because of the seal."""
    try:
        call()
    except SealedError:
        return True
    return False
