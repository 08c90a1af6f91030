"""Replay: investigations of a finished campaign are done again from what was recorded, and compared, claim by claim.

Three ways, by how much is computed anew:

- ``exact``: nothing is run on the model under study and no language model is asked. What came of the steps that do so
  (gathering evidence, proposing rivals, planning trials, running them, revising rivals, predicting, scoring, trying
  what was predicted) is played back, if the steps before them come to the same to the last bit. Triage, experiments'
  rows, the weighing of rivals by the trials, the choice among them, the claim and its digest, verdicts, error control
  and every row are worked out again. The database's content must be the same.
- ``tools-live``: the model under study runs as before, and language models' answers are those on record. Numbers must
  agree to `TOLERANCE`, and all else must be the same.
- ``llm-live``: language models are asked again, perhaps others, or with other prompts. Nothing need be the same; what
  became of each claim is told.

The work is done in a copy of the campaign in which the chosen investigations wait to be done; so what belongs to all of
the campaign (q-values, the outcome) is worked out over all of it, whichever are replayed.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import store
from agent.campaign import campaign_plan, resume_spec, run_campaign
from agent.claim_changes import ClaimChange, agreement, claim_changes
from agent.judging import judge
from agent.progress import Observer
from agent.spec import CampaignSpec
from agent.tape import PLAYED, Source
from explainers.llm.types import NotRecordedError
from store.errors import StoreError
from store.queries.citations import Ref, cited_rows
from store.queries.jobs import campaign_jobs
from store.work import Campaign

Mode = Literal["exact", "tools-live", "llm-live"]
MODES: tuple[Mode, ...] = ("exact", "tools-live", "llm-live")
#: Differences that are told.
TOLD = 20
#: Largest difference of a number, relative to it where it is above 1, between two runs of the same on the same model.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Replayed:
    """What came of a replay."""

    campaign: str
    mode: Mode
    same: bool
    """Whether the replay says the same: in its mode's sense of the same; of `llm-live`, about every claim."""
    differences: list[str]
    """Where the databases' contents differ, the first `TOLD` places; of `llm-live`, none are told."""
    largest: float | None
    """The largest difference of a number; None of `llm-live`."""
    claims: list[ClaimChange]
    """Claims that are others now."""
    investigations: int
    """Units and blind controls that were done again."""
    answers: int
    """Of language models, taken from the record."""
    asked: int
    """Calls to language models that were sent."""
    played: int
    """Steps that were played back."""
    hashes: tuple[str, str]
    """SHA-256 of both contents."""
    out: str | None
    """The database that the replay left; None where it was thrown away."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Changes:
    """What is other than in the campaign, of `llm-live`."""

    llm: str | None = None
    """The endpoint that is asked."""
    prompts: Path | None = None
    """Folder with prompts."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Further settings of the campaign's `llm`."""


def find_investigations(source: store.Database, name: str, unit: str | None = None) -> tuple[str, list[int] | None]:
    """What a replay is asked for: a campaign's name, ``CAMPAIGN/UNIT``, or an investigation (``I12``, ``12``).

    Args:
        source: The database.
        name: As it was given.
        unit: Of the campaign, where that is a word of its own.

    Returns:
        The campaign, and ids of investigations; None for all of them.

    Raises:
        StoreError: There is none.
    """
    if unit is None and name.removeprefix("I").removeprefix("investigation:").isdigit():
        number = int(name.removeprefix("I").removeprefix("investigation:"))
        for row in cited_rows(source, [Ref("investigation", number)]).values():
            return str(row.values["campaign"]), [number]
        raise StoreError(f"There is no investigation {number} in {source.url}. `neurogloss evidence UNIT` names them.")
    campaign, _, inner = name.partition("/")
    unit = unit or inner or None
    jobs = campaign_jobs(source, campaign)
    if unit is None:
        return campaign, None
    found = [job.investigation_id for job in jobs if job.unit == unit]
    if not found:
        raise StoreError(
            f"The campaign '{campaign}' has no unit {unit}. `neurogloss units --campaign {campaign}` lists its units."
        )
    return campaign, found


def replay_campaign(
    source: store.Database,
    name: str,
    *,
    home: Path,
    only: Collection[int] | None = None,
    mode: Mode = "tools-live",
    changes: Changes | None = None,
    out: Path | None = None,
    workers: int | None = None,
    observer: Observer | None = None,
    stop: threading.Event | None = None,
) -> Replayed | None:
    """Does investigations of a finished campaign again, in a copy of it, and compares what both say.

    Args:
        source: Has the campaign, with the answers of language models.
        name: Of the campaign.
        home: The data folder; its activation indexes are used where they fit.
        only: Ids of investigations; None: all of them.
        mode: How much is computed anew.
        changes: What is other than it was; for `llm-live` alone.
        out: The database file to make; None: a temporary one.
        workers: Investigations at once; None: as the spec has it by default.
        observer: Is told what happens.
        stop: Set it to stop.

    Returns:
        Whether both say the same, and where not; None when it was stopped.

    Raises:
        StoreError: There is no such campaign, it is not finished, nothing is recorded that could be played back, or
            `out` exists already.
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
    chosen = [
        job.investigation_id
        for job in campaign_jobs(source, name)
        if (only is None or job.investigation_id in only) and (mode != "llm-live" or job.control is None)
    ]
    if mode == "exact":
        chosen = _recorded(source, campaign, chosen)
    # What was spent is on record; a replay spends nothing of a budget, and may take as long as it likes.
    spec = resume_spec(campaign, {"budget": {}, **({} if workers is None else {"workers": workers})})
    live = mode == "llm-live"
    if live:
        spec = _changed(spec, changes or Changes())
    with ExitStack() as kept:
        path = out
        if path is None:
            path = Path(kept.enter_context(tempfile.TemporaryDirectory(prefix="neurogloss-replay-"))) / "replay.db"
        fresh = kept.enter_context(store.open_database(path))
        store.copy_campaign(
            source, fresh, name, afresh=chosen, calls=not live, played=mode == "exact",
            spec=campaign_plan(spec) if live else None,
        )  # fmt: skip
        failure: NotRecordedError | None = None
        try:
            summary = run_campaign(
                spec, db=fresh, home=home, observer=observer, stop=stop,
                replay_from=None if live else Source(source, exact=mode == "exact"), earlier=source,
            )  # fmt: skip
        except NotRecordedError as error:
            failure = error
        else:
            if summary is None or summary.status == "interrupted":
                return None
            if store.copy_invalidations(source, fresh, name, chosen):
                store.judge_campaign(fresh, store.get_campaign(fresh, name).id, judge)
        return _compared(source, fresh, name, mode=mode, chosen=chosen, failure=failure, out=out)


def _recorded(source: store.Database, campaign: Campaign, chosen: Sequence[int]) -> list[int]:
    """Those of some investigations that can be played back: a failed one has no end that could be.

    Raises:
        StoreError: Of some there is nothing on record.
    """
    jobs = {job.investigation_id: job for job in campaign_jobs(source, campaign.name)}
    ended = [key for key in chosen if jobs[key].status != "failed"]
    recorded = store.recorded_steps(source, campaign.id, PLAYED)
    # What triage threw out needs no recording.
    bare = [key for key in ended if key not in recorded and jobs[key].status == "done"]
    if bare:
        raise StoreError(
            f"Nothing is recorded of {len(bare)} of {len(ended)} investigations of '{campaign.name}': it was run with "
            "recording: false, or by an older neurogloss.\n"
            "Replay with --mode tools-live, which runs the model under study again."
        )
    return ended


def _changed(spec: CampaignSpec, changes: Changes) -> CampaignSpec:
    """The spec with another language model, or other prompts."""
    if spec.llm is None:
        raise StoreError(
            f"The campaign '{spec.title}' asks no language model, so nothing could be asked again.\n"
            "Replay it with --mode tools-live."
        )
    given: dict[str, Any] = {**spec.llm.model_dump(mode="json", exclude_unset=True), **changes.settings}
    if changes.llm is not None:
        given["endpoints"] = [changes.llm]
    if changes.prompts is not None:
        given["prompts"] = str(changes.prompts)
    # Blind controls are those of the campaign's very spec; what is said of them is compared with nothing.
    return CampaignSpec.model_validate({**spec.model_dump(mode="json"), "llm": given, "controls": 0.0})


def _compared(
    source: store.Database,
    fresh: store.Database,
    name: str,
    *,
    mode: Mode,
    chosen: Collection[int],
    failure: NotRecordedError | None,
    out: Path | None,
) -> Replayed:
    before, after = store.campaign_content(source, name), store.campaign_content(fresh, name)
    hashes = store.content_hash(source, name), store.content_hash(fresh, name)
    claims = claim_changes(before, after)
    largest: float | None = None
    if mode == "llm-live":
        found: list[str] = []
        same = not claims
    elif mode == "exact":
        found, same, largest = store.differences(before, after, TOLD), hashes[0] == hashes[1], 0.0
        if not same:
            largest = agreement(before, after, TOLERANCE).largest
    else:
        agreed = agreement(before, after, TOLERANCE)
        found, same, largest = agreed.differences[:TOLD], not agreed.differences, agreed.largest
    if failure is not None:
        found, same = [str(failure), *found][:TOLD], False
    calls = [cost for cost in store.llm_costs(fresh, name, ("investigation",)) if cost.key["investigation"] in chosen]
    of = store.get_campaign(source, name).id
    recorded = store.recorded_steps(source, of, PLAYED) if mode == "exact" else {}
    return Replayed(
        campaign=name, mode=mode, same=same, differences=found, largest=largest, claims=claims,
        investigations=sum(
            job.investigation_id in chosen and job.status not in ("pending", "leased")
            for job in campaign_jobs(fresh, name)
        ),
        answers=sum(cost.known for cost in calls), asked=sum(cost.calls for cost in calls),
        played=sum(recorded.get(key, 0) for key in chosen), hashes=hashes, out=None if out is None else str(out),
    )  # fmt: skip
