"""What came of an investigation's steps: kept while it is done, and played back when it is replayed.

A step is known by everything that was known before it. So a recording is found only where the steps before it came to
the same, to the last bit; and a step that was cut off and is done again is kept once.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, cast

import store
from agent.state import State
from explainers.llm.types import NotRecordedError
from store.recordings import Recorded
from tools.subject import Subject

#: Steps that run the model under study or may ask a language model. They are played back; all others are done again.
PLAYED = frozenset({"gather", "propose", "plan", "run", "revise", "preregister", "score", "settle"})
#: What the digests leave out: seconds differ from run to run.
_PASSING = ("cost",)


@dataclass(frozen=True)
class Source:
    """Where a campaign was done before that is now replayed."""

    db: store.Database
    exact: bool = False
    """Steps that run the model are played back, and nothing is run on it."""


class Tape(Protocol):
    """What stands between an investigation and its steps."""

    def through(self, step: str, state: State, do: Callable[[], State]) -> State:
        """What a step adds to the state.

        Args:
            step: Its name.
            state: Before it.
            do: Does the step.

        Raises:
            NotRecordedError: It is to be played back, and is not on record.
        """
        ...


@dataclass(frozen=True)
class Recording:
    """Keeps what those steps of an investigation come to that run a model."""

    db: store.Database
    investigation_id: int
    salt: int
    """How many attempts at it failed before."""

    def through(self, step: str, state: State, do: Callable[[], State]) -> State:
        """See `Tape`."""
        added = do()
        if step not in PLAYED:
            return added
        # In its own order, which sentences about it follow.
        text = _text(added, sort=False)
        key = key_of(step, self.salt, state)
        store.record_step(self.db, self.investigation_id, Recorded(step, key, _hash(text), zlib.compress(text, 6)))
        return added


@dataclass(frozen=True)
class Playing:
    """Plays back the steps of an investigation that run a model, and has the others done again."""

    source: store.Database
    investigation_id: int
    """In `source`."""
    salt: int
    """How many attempts at it failed there before the one that counts."""

    def through(self, step: str, state: State, do: Callable[[], State]) -> State:
        """See `Tape`."""
        if step not in PLAYED:
            return do()
        found = store.find_step(self.source, self.investigation_id, key_of(step, self.salt, state))
        if found is None:
            raise NotRecordedError(
                f"What step '{step}' came to is not on record for what the steps before it come to now: they differ "
                "from when it was recorded.\n--mode tools-live runs it again and shows what differs."
            )
        text = zlib.decompress(found.data)
        if _hash(text) != found.digest:
            raise NotRecordedError(f"The recording of step '{step}' was changed: its digest is another.")
        return cast(State, json.loads(text))


def key_of(step: str, salt: int, state: State) -> str:
    """SHA-256 (32 hex digits) of a step and all that is known before it."""
    before = {name: value for name, value in state.items() if name not in _PASSING}
    return hashlib.sha256(_text({"step": step, "salt": salt, "state": before})).hexdigest()[:32]


def _text(value: Any, *, sort: bool = True) -> bytes:
    return json.dumps(value, sort_keys=sort, ensure_ascii=True, separators=(",", ":")).encode()


def _hash(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:32]


def refuse_to_run(subject: Subject) -> None:
    """From now on, whoever runs the model meets an error: what an exact replay says was computed without it."""

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise NotRecordedError(
            f"An exact replay runs nothing on the model, and something wanted to run '{subject.name}'.\n"
            "If its activation index is gone, replay with --mode tools-live, which builds it again."
        )

    # What forward passes find out about the model itself, once, is found out before.
    _ = subject.causal, subject.unembedding
    subject.model.forward = refuse
    subject.model.base_model.forward = refuse
