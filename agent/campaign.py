"""A campaign: from a spec to a database of tested descriptions, in as many runs as it takes.

    subject -> corpus -> estimate -> index -> investigate -> close

Running the same spec again goes on where the last run ended; when nothing is left to do, it does nothing and says so.
Several processes may run the same campaign at once: they share its queue.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import store
from agent import estimate
from agent.accounts import StoreAccounts
from agent.bench import Bench
from agent.budget import Exceeded
from agent.cast import Cast, Twin, load_twin, twin_units
from agent.checkpoints import checkpoint_file, open_checkpoints, sweep
from agent.closing import close, summarise
from agent.contest.nodes import check_contest
from agent.controls import Control, direction_of, plan_controls, queue, twin_seed
from agent.guise import ShownSubject
from agent.llm import check_plan, make_explainer, open_kit
from agent.neighbours import Earlier, shelf_of
from agent.owner import is_alive
from agent.plain import plain
from agent.progress import Estimate, IndexProgress, Observer, SerialObserver, Summary
from agent.seeds import sample_units
from agent.spec import BEFORE, CampaignSpec
from agent.tape import Source, refuse_to_run
from agent.workers import Crew, one_thread_each, over_budget, spent_of
from explainers.llm.budget import Spent as LlmSpent
from explainers.llm.serve import StartStoppedError
from explainers.llm.types import Abilities
from scorers.simulation import SCORERS
from store.queries import list_campaigns
from store.records import CorpusRecord, DictionaryRecord, IndexRecord, SubjectRecord, UnitRecord
from store.work import Campaign, ControlRecord
from tools.corpora import Corpus, load_corpus, require_enough
from tools.corpora.corpus import SPLIT_ENDS
from tools.fingerprint import shuffled_fingerprint
from tools.index import ActivationIndex, IndexSettings, Progress, build_index
from tools.subject import Subject, load_subject
from tools.types import Split, UnitId
from tools.units import expand, group_site

#: Settings that do not belong to what a campaign is; kept beside it, or not at all.
_BESIDE = ("name", "workers", "budget")

#: The twin's index covers so many times the tokens that fill its panels, given the splits' shares of the corpus; and no
#: fewer than so many, lest a split have none.
TWIN_MARGIN, TWIN_LEAST = 1.25, 40_000

Confirm = Callable[[Estimate], bool]


@dataclass(frozen=True)
class _Resolved:
    """A spec with everything it names."""

    spec: CampaignSpec
    subject: Subject
    corpus: Corpus
    units: tuple[UnitId, ...]
    settings: IndexSettings
    controls: tuple[Control, ...]

    @property
    def indexed(self) -> tuple[Subject, list[UnitId]]:
        """The subject with the directions that stand in for units, and all that its index holds."""
        subject = ShownSubject(self.subject)
        made = [control for control in self.controls if control.kind == "direction"]
        subject.directions |= {control.direction.where: direction_of(self.subject, control) for control in made}
        return subject, [*self.units, *(control.direction for control in made)]

    @property
    def twin(self) -> tuple[list[UnitId], IndexSettings]:
        """What the index of the subject's twin holds, over no more of the corpus than its panels need."""
        starts = [0.0, *(end for _, end in SPLIT_ENDS)]
        shares = {split: end - start for (split, end), start in zip(SPLIT_ENDS, starts, strict=False)}
        filling = max(self.settings.panel_tokens[split] / share for split, share in shares.items())
        most = max(TWIN_LEAST, math.ceil(TWIN_MARGIN * filling))
        tokens = most if self.settings.max_tokens is None else min(most, self.settings.max_tokens)
        return twin_units(self.spec, self.units, self.controls), replace(self.settings, max_tokens=tokens)


def run_campaign(
    spec: CampaignSpec,
    *,
    db: store.Database | str | Path,
    home: Path,
    observer: Observer | None = None,
    stop: threading.Event | None = None,
    retry_failed: bool = False,
    confirm: Confirm | None = None,
    replay_from: Source | None = None,
    earlier: store.Database | None = None,
) -> Summary | None:
    """Runs a campaign, or goes on with it.

    Args:
        spec: What to do. A campaign is found again by its name and the hash of its settings.
        db: The database, open, or its path or URL.
        home: The data folder, for indexes.
        observer: Is told what happens.
        stop: Set it to stop: investigations in hand end after the step in flight and go back to the queue, to be taken
            up at that step. A Ctrl-C (KeyboardInterrupt) does the same.
        retry_failed: First put investigations that had failed for good back into the queue.
        confirm: Is asked with the estimate before anything is spent or written; False leaves everything as it is.
        replay_from: Where the same campaign was done before: language models' answers are taken from there, and no
            endpoint is called.
        earlier: Where the finished campaigns are whose descriptions are looked at; None: in `db`.

    Returns:
        How the campaign stands; whatever its status, the same call goes on from there. None when `confirm` said no.

    Raises:
        NeuroglossError: The spec names something that is not there, or that does not fit.
        StoreError: The database cannot be used, or has another campaign of that name.
    """
    if not isinstance(db, store.Database):
        with store.open_database(db) as opened:
            return run_campaign(
                spec, db=opened, home=home, observer=observer, stop=stop, retry_failed=retry_failed, confirm=confirm,
                replay_from=replay_from, earlier=earlier,
            )  # fmt: skip
    told = SerialObserver(observer or Observer())
    stop = stop or threading.Event()
    campaign = _known(db, spec, retry_failed)
    if campaign is not None and campaign.status == "done":
        ended: Summary | None = summarise(db, campaign, "done", already_done=True)
    else:
        try:
            ended = _run(
                spec, db, home=home, told=told, stop=stop, known=campaign, confirm=confirm, replay_from=replay_from,
                earlier=earlier or db,
            )  # fmt: skip
        except KeyboardInterrupt:
            campaign = _known(db, spec, retry_failed=False)
            if campaign is None:  # nothing is in the database yet that could be summed up
                raise
            ended = summarise(db, campaign, "interrupted")
    if ended is not None:
        told.finished(ended)
    return ended


def resume_spec(campaign: Campaign, overrides: Mapping[str, Any] | None = None) -> CampaignSpec:
    """The spec of a campaign in the database, with its last budget, to go on with it.

    Args:
        campaign: From `store.get_campaign`.
        overrides: `workers` and `budget`; anything else would make it another campaign.
    """
    return CampaignSpec.model_validate(
        {**BEFORE, **campaign.spec, "name": campaign.name, "budget": dict(campaign.budget), **(overrides or {})}
    )


def _known(db: store.Database, spec: CampaignSpec, retry_failed: bool) -> Campaign | None:
    """The campaign if the database has it already; an error if its name stands for other settings."""
    if all(row.campaign != spec.title for row in list_campaigns(db)):
        return None
    campaign = _record(db, spec)
    if retry_failed and store.retry_failed(db, campaign.id):
        campaign = _record(db, spec)
    return campaign


def campaign_plan(spec: CampaignSpec) -> tuple[dict[str, Any], str]:
    """A spec as the database keeps it, and its hash."""
    return spec.model_dump(mode="json", exclude=set(_BESIDE)), spec.spec_hash


def _record(db: store.Database, spec: CampaignSpec, **fields: Any) -> Campaign:
    budget = spec.budget.model_dump(mode="json")
    return store.create_campaign(db, spec.title, *campaign_plan(spec), seed=spec.seed, budget=budget, **fields)


def _run(
    spec: CampaignSpec,
    db: store.Database,
    *,
    home: Path,
    told: Observer,
    stop: threading.Event,
    known: Campaign | None,
    confirm: Confirm | None,
    replay_from: Source | None,
    earlier: store.Database,
) -> Summary | None:
    plan = _resolve(spec, told)
    exact = replay_from is not None and replay_from.exact
    if exact:
        refuse_to_run(plan.subject)
    told.phase("estimate")
    cost = _estimate(plan, db, home, known)
    told.estimate(cost)
    if confirm is not None and not confirm(cost):
        return None
    subject_id, corpus_id = _register(db, plan)
    begun = {**cost.to_json(), **shelf_of(spec, earlier, plan.subject.fingerprint, plan.corpus.id, known)}
    campaign = _record(db, spec, subject_id=subject_id, corpus_id=corpus_id, estimates=begun)
    store.add_investigations(db, campaign.id, subject_id, _queue(plan))
    store.reclaim(db, campaign.id, is_alive)
    if stop.is_set():
        return summarise(db, campaign, "interrupted")
    if (limit := _spent_already(db, spec, campaign)) is not None:
        told.budget(limit.limit, limit.spent, limit.allowed)
        return summarise(db, campaign, "stopped: budget", reason=str(limit))
    told.phase("index")
    built = _indexes(plan, home, told, stop, cost.index_tokens, exact=exact)
    if built is None:
        return summarise(db, campaign, "interrupted")
    index, twin = built
    index_id = store.register_index(
        db, subject_id, corpus_id,
        IndexRecord(index.key, str(index.path), sum(index.tokens.values()), plan.settings.address()),
    )  # fmt: skip
    _record(db, spec, index_id=index_id)
    seen = _abilities(known if replay_from is None else store.get_campaign(replay_from.db, spec.title))
    used = spent_of(store.progress(db, campaign.id))
    spent = LlmSpent(used.llm_calls, used.llm_tokens, used.llm_dollars)
    path = checkpoint_file(db, home)
    with ExitStack() as stack:
        replay = replay_from is not None
        kit_of = open_kit(
            spec, plan.subject, spent=spent, logs=home / "logs", told=told, seen=seen, replay=replay, stop=stop
        )
        try:
            kit = stack.enter_context(kit_of)
        except StartStoppedError:
            return summarise(db, campaign, "interrupted")
        if kit is not None:
            _record(db, spec, estimates={**begun, "abilities": plain(kit.llm.abilities)})
        told.phase("investigate")
        bench = Bench.open(
            spec, plan.subject, index, plan.units, make_explainer(spec, kit), kit=kit,
            earlier=Earlier.on_record(earlier, begun),
        )  # fmt: skip
        stack.callback(bench.close)
        cast = Cast(bench, plan.subject, plan.controls, twin)
        stack.callback(cast.close)
        saver = stack.enter_context(open_checkpoints(path))
        stack.enter_context(one_thread_each())
        accounts = StoreAccounts(db, campaign.id, replay_from=None if replay_from is None else replay_from.db)
        crew = Crew(db, campaign.id, bench, cast, saver, accounts, told, stop, replay_from)
        told.tally(crew.tally())
        crew.run()
        left = store.progress(db, campaign.id).left
        if not left:
            told.phase("close")
            close(db, campaign)
            sweep(saver, campaign.id)
    if not left:
        return summarise(db, campaign, "done")
    if crew.reached is not None:
        told.budget(crew.reached.limit, crew.reached.spent, crew.reached.allowed)
        return summarise(db, campaign, "stopped: budget", reason=str(crew.reached))
    return summarise(db, campaign, "interrupted" if crew.stopping else "running")


def _resolve(spec: CampaignSpec, told: Observer) -> _Resolved:
    told.phase("subject")
    subject = load_subject(
        spec.subject, device=spec.device, dtype=spec.dtype, dictionaries=spec.dictionaries,
        shuffle_seed=spec.shuffle_weights,
    )  # fmt: skip
    named = [unit for pattern in spec.units for unit in expand(subject, pattern)]
    units = tuple(sample_units(named, spec.sample, spec.seed))
    # Unknown ones are told before anything is spent.
    check_plan(spec)
    check_contest(spec)
    SCORERS.get(spec.scorer)
    told.phase("corpus")
    corpus = load_corpus(spec.corpus, limit=spec.corpus_limit, seed=spec.seed)
    require_enough(corpus)
    panel = spec.panel
    settings = IndexSettings(
        context=spec.context,
        window=panel.window,
        panel_tokens={
            Split.EXPLORE: panel.explore_tokens, Split.REFINE: panel.refine_tokens,
            Split.SCORE: panel.score_tokens, Split.AUDIT: panel.audit_tokens,
        },
        top_k=panel.top_k,
        batch_tokens=spec.batch_tokens,
        max_tokens=spec.max_tokens,
        seed=spec.seed,
    )  # fmt: skip
    return _Resolved(spec, subject, corpus, units, settings.resolved(subject.context), plan_controls(spec, units))


def _abilities(campaign: Campaign | None) -> Abilities | None:
    """What the campaign's endpoints were seen to do when it began; None where that was not needed or not begun."""
    seen = None if campaign is None else campaign.estimates.get("abilities")
    return None if seen is None else Abilities(**{**seen, "models": tuple(seen["models"])})


def _register(db: store.Database, plan: _Resolved) -> tuple[int, int]:
    """Rows of the subject, the dictionaries that units come from, and the corpus."""
    subject = plan.subject
    subject_id = store.register_subject(
        db,
        SubjectRecord(
            subject.name,
            subject.fingerprint,
            {
                "source": plan.spec.subject, "architecture": type(subject.model).__name__, "layers": subject.n_layers,
                "d_model": subject.d_model, "heads": subject.n_heads, "context": subject.context,
                "vocabulary": subject.vocabulary, "parameters": sum(p.numel() for p in subject.model.parameters()),
                "dtype": str(subject.dtype).removeprefix("torch."), "shuffle_weights": plan.spec.shuffle_weights,
            },
        ),
    )  # fmt: skip
    used = {unit.where for unit in plan.units if unit.kind == "sae"}
    for name in sorted(used):
        dictionary = subject.dictionaries[name]
        store.register_dictionary(
            db,
            subject_id,
            DictionaryRecord(
                name,
                str(getattr(dictionary, "fingerprint", name)),
                str(getattr(dictionary, "architecture", type(dictionary).__name__)),
                str(dictionary.site),
                dictionary.d_in,
                dictionary.d_sae,
            ),
        )
    corpus = plan.corpus
    counts = {str(split): number for split, number in corpus.counts().items()}
    corpus_id = store.register_corpus(db, CorpusRecord(corpus.spec, corpus.id, len(corpus), {"splits": counts}))
    return subject_id, corpus_id


def _queue(plan: _Resolved) -> list[UnitRecord | ControlRecord]:
    sites = {group: group_site(plan.subject, group) for group in {unit.group for unit in plan.units}}
    records = [UnitRecord(str(unit), sites[unit.group].layer) for unit in plan.units]
    return queue(plan.spec, records, plan.controls, lambda unit: sites[unit.group].layer)


def _estimate(plan: _Resolved, db: store.Database, home: Path, known: Campaign | None) -> Estimate:
    now = store.progress(db, known.id) if known is not None else None
    to_do = now.remaining if now is not None and now.total else len(plan.units)
    if (limit := plan.spec.budget.units) is not None:
        to_do = min(to_do, max(0, limit - (spent_of(now).units if now is not None else 0)))
    subject, units = plan.indexed
    tokens = estimate.tokens_to_index(home, subject, plan.corpus, units, plan.settings)
    if any(control.kind == "shuffled" for control in plan.controls):
        needed, settings = plan.twin
        fingerprint = shuffled_fingerprint(subject.fingerprint, twin_seed(plan.spec))
        tokens += estimate.tokens_to_index(home, subject, plan.corpus, needed, settings, fingerprint=fingerprint)
    seconds = tokens / estimate.forward_rate(subject, plan.corpus, units, plan.settings) if tokens else 0.0
    each = estimate.investigation_seconds(db, plan.spec.title, len(plan.controls) / len(plan.units))
    asked = round(to_do * estimate.llm_tokens(db, plan.spec))
    price = plan.spec.llm.price if plan.spec.llm is not None else None
    return Estimate(
        campaign=plan.spec.title,
        subject=plan.subject.name,
        units=len(plan.units),
        to_do=to_do,
        controls=len(plan.controls),
        index_tokens=tokens,
        index_seconds=seconds,
        seconds=seconds + to_do * each / min(plan.spec.crew, max(to_do, 1)),
        llm_tokens=asked,
        llm_dollars=None if price is None else asked * price.prompt / 1e6,
    )


def _spent_already(db: store.Database, spec: CampaignSpec, campaign: Campaign) -> Exceeded | None:
    """The limit that leaves no room for a single unit, if there are units left: then nothing is begun."""
    now = store.progress(db, campaign.id)
    return over_budget(spec.budget, now) if now.left else None


class _StopBuildingError(Exception):
    """Raised out of the index's progress callback when the campaign is to stop."""


def _indexes(
    plan: _Resolved, home: Path, told: Observer, stop: threading.Event, expected: int, *, exact: bool
) -> tuple[ActivationIndex, Twin | None] | None:
    """The index, built or found, and the twin with its own; None when it was stopped (what is built so far is kept)."""
    began = time.monotonic()

    def tell(progress: Progress) -> None:
        if stop.is_set():
            raise _StopBuildingError
        total = progress.tokens_total if progress.tokens_total is not None else max(expected, progress.tokens_done)
        told.index_progress(IndexProgress(progress.tokens_done, total, time.monotonic() - began, progress.stage))

    try:
        subject, units = plan.indexed
        index = build_index(subject, plan.corpus, units, home, plan.settings, progress=tell)
        needed, settings = plan.twin
        if not needed:
            return index, None
        twin = load_twin(plan.spec)
        if exact:
            refuse_to_run(twin)
        return index, Twin(twin, build_index(twin, plan.corpus, needed, home, settings, progress=tell))
    except _StopBuildingError:
        return None


__all__: Sequence[str] = ["campaign_plan", "resume_spec", "run_campaign"]
