"""Replay: a finished campaign is run again from what was recorded, and must find the same.

The model under study runs as before. Language models are not asked: each answer is the one that is on record, and what
was never asked is an error. So a replay tells whether the code, the subject and the corpus still lead to what the
database says, and it costs no tokens.
"""

from __future__ import annotations

import tempfile
import threading
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import store
from agent.campaign import resume_spec, run_campaign
from agent.progress import Observer
from explainers.llm.types import NotRecordedError
from store.errors import StoreError

#: Differences that are told.
TOLD = 20


@dataclass(frozen=True)
class Replayed:
    """What came of a replay."""

    campaign: str
    same: bool
    """Whether the replay's content equals that of the source; see `store.canonical`."""
    differences: list[str]
    """Where it does not, the first `TOLD` places."""
    investigations: int
    """Units and blind controls that were done again."""
    answers: int
    """Of language models, taken from the record."""
    out: str | None
    """The database that the replay left; None where it was thrown away."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def replay_campaign(
    source: store.Database,
    name: str,
    *,
    home: Path,
    out: Path | None = None,
    workers: int | None = None,
    observer: Observer | None = None,
    stop: threading.Event | None = None,
) -> Replayed | None:
    """Runs a finished campaign again into a fresh database and compares what both hold.

    Args:
        source: Has the campaign, with the answers of language models.
        name: Of the campaign.
        home: The data folder; its activation indexes are used where they fit.
        out: The database file to make; None: a temporary one.
        workers: Investigations at once; None: as the spec has it by default.
        observer: Is told what happens.
        stop: Set it to stop.

    Returns:
        Whether both say the same; None when it was stopped.

    Raises:
        StoreError: There is no such campaign, it is not finished, or `out` exists already.
        NeuroglossError: As `agent.campaign.run_campaign` raises them.
    """
    campaign = store.get_campaign(source, name)
    if campaign.status != "done":
        raise StoreError(
            f"The campaign '{name}' is not finished, so there is nothing to compare a replay with.\n"
            f"Finish it first: neurogloss campaign resume {name}"
        )
    if out is not None and out.exists():
        raise StoreError(f"There is a file {out} already. A replay needs a fresh database: name another with --out.")
    # What was spent is on record; a replay spends nothing of a budget, and may take as long as it likes.
    spec = resume_spec(campaign, {"budget": {}, **({} if workers is None else {"workers": workers})})
    with ExitStack() as kept:
        path = out
        if path is None:
            path = Path(kept.enter_context(tempfile.TemporaryDirectory(prefix="neurogloss-replay-"))) / "replay.db"
        fresh = kept.enter_context(store.open_database(path))
        failure: NotRecordedError | None = None
        try:
            summary = run_campaign(spec, db=fresh, home=home, observer=observer, stop=stop, replay_from=source)
        except NotRecordedError as error:
            failure = error
        else:
            if summary is None or summary.status == "interrupted":
                return None
        return _compared(source, fresh, name, out, failure)


def _compared(
    source: store.Database, fresh: store.Database, name: str, out: Path | None, failure: NotRecordedError | None
) -> Replayed:
    found = store.differences(store.campaign_content(source, name), store.campaign_content(fresh, name), TOLD)
    if failure is not None:
        found = [str(failure), *found][:TOLD]
    now = store.progress(fresh, store.get_campaign(fresh, name).id)
    [answers] = store.llm_costs(fresh, name, ())
    return Replayed(
        campaign=name,
        same=not found,
        differences=found,
        investigations=now.total + now.controls - now.left,
        answers=answers.known,
        out=None if out is None else str(out),
    )
