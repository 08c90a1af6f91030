"""One planted subject: its truth, and a whole campaign of each explainer on it, read back from the database."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import store
from agent import CampaignSpec, Observer, run_campaign
from agent.llm import make_explainer, open_kit
from agent.progress import Summary
from benchmarks.planted.claims import Claim, read_claims
from benchmarks.planted.effects import FreshRuns, OutputMarks, measure_outputs
from benchmarks.planted.measure import Ground, measure
from benchmarks.planted.references import REFERENCES
from benchmarks.planted.summary import Run
from explainers.llm.accounts import charged_to
from explainers.llm.budget import Spent
from explainers.llm.types import MemoryAccount
from explainers.registry import needs_llm
from explainers.types import Explainer
from tools.planted import PlantedSpec, UnitTruth, build, load_truth
from tools.subject import Subject, load_subject
from tools.types import UnitId
from tools.units import unit_activations

FRESH_TOKENS = 100_000
NEAR_TEXTS = 40


def options_of(explainer: str, folder: Path) -> dict[str, Any]:
    """What an explainer is told beside the evidence: the oracle, the truth."""
    return {"truth": str(folder)} if explainer == "oracle" else {}


def sampled(truths: Sequence[UnitTruth], per_family: int | None) -> list[UnitTruth]:
    """At most so many tails of each family, drawn by a hash; None for all. In the order given."""
    if per_family is None:
        return list(truths)
    drawn: dict[str, list[UnitTruth]] = {}
    for truth in sorted(truths, key=lambda truth: hashlib.sha256(truth.key.encode()).digest()):
        family = drawn.setdefault(truth.family, [])
        if len(family) < per_family:
            family.append(truth)
    kept = {truth.key for family in drawn.values() for truth in family}
    return [truth for truth in truths if truth.key in kept]


def patterns(truths: Sequence[UnitTruth]) -> tuple[str, ...]:
    """Patterns that name the truths' units, one for each group."""
    groups: dict[str, list[int]] = {}
    for unit in dict.fromkeys(UnitId.parse(truth.unit) for truth in truths):
        groups.setdefault(unit.group, []).append(unit.index)
    return tuple(
        group if group.startswith("dir:") else f"{group}:{','.join(map(str, sorted(indices)))}"
        for group, indices in groups.items()
    )


class Trial:
    """One planted subject, on which explainers are tried.

    Args:
        spec: Which subject.
        home: Folder for the index and the database.
        per_family: Measure only so many tails of each family.
        fresh_tokens: Tokens of fresh text to measure on.
        documents: Of the campaigns' corpus; None for the corpus's own number.
        settings: Further settings of the campaigns, by name.
        endpoints: Of the language model, for explainers that ask one.
    """

    def __init__(
        self,
        spec: PlantedSpec,
        home: Path,
        *,
        per_family: int | None = None,
        fresh_tokens: int = FRESH_TOKENS,
        documents: int | None = None,
        settings: dict[str, Any] | None = None,
        endpoints: Sequence[str] = (),
    ):
        self.spec, self.home = spec, home
        self.settings, self.endpoints = settings or {}, list(endpoints)
        self.corpus = spec.text if documents is None else f"{spec.text},docs={documents}"
        self.folder = build(spec)
        self.truths = sampled(list(load_truth(self.folder).values()), per_family)
        self.subject: Subject = load_subject(spec.text, device="cpu")
        context = min(256, self.subject.context)
        self.ground = Ground(
            self.subject, spec, self.truths, context=context, tokens=fresh_tokens, near=NEAR_TEXTS
        )  # fmt: skip

    def campaign(self, explainer: str) -> CampaignSpec:
        """The campaign that describes all planted units."""
        # What a reference says is asserted as it stands: it measures the instrument.
        alone = {"contest": "off", "rivals_from": []} if explainer in REFERENCES else {}
        return CampaignSpec.model_validate({
            "name": f"{explainer} on {self.spec.text}", "subject": self.spec.text, "corpus": self.corpus,
            "units": patterns(self.truths), "explainer": explainer, "device": "cpu",
            "explainer_options": options_of(explainer, self.folder),
            "llm": {"endpoints": self.endpoints} if needs_llm(explainer) else None, **alone, **self.settings,
        })  # fmt: skip

    def run(self, explainer: str) -> tuple[Run, list[Claim], Summary, Explainer]:
        """Runs the campaign (or goes on with it), and measures what it left behind."""
        spec = self.campaign(explainer)
        began = time.perf_counter()
        with store.open_database(self.home / "planted.db") as db:
            summary = run_campaign(spec, db=db, home=self.home)
            seconds = time.perf_counter() - began
            assert summary is not None, "there was no one to say no"
            claims = read_claims(db, spec.title)
        # What a language model is asked here is not the campaign's: it is charged to nobody.
        with (
            charged_to(MemoryAccount()),
            open_kit(spec, self.subject, spent=Spent(), logs=self.home / "logs", told=Observer()) as kit,
        ):
            made = make_explainer(spec, kit)
            marks = measure(self.ground, claims, made)
            outputs = self._outputs(claims)
        run = Run(
            explainer=explainer,
            subject=self.spec.text,
            marks=marks,
            outputs=outputs,
            controls=[(claim.control, claim.verdict) for claim in claims if claim.control is not None],
            other_tails=[claim.verdict for claim in self._others(claims)],
            failed=summary.tally.failed,
            seconds=seconds,
        )
        return run, claims, summary, made

    def _outputs(self, claims: Sequence[Claim]) -> list[OutputMarks]:
        ids = self.ground.fresh.ids
        units = list(dict.fromkeys(UnitId.parse(truth.unit) for truth in self.truths))
        values = unit_activations(self.subject, units, ids)
        activations = {str(unit): [one[row] for one in values] for row, unit in enumerate(units)}
        own = {claim.key: claim for claim in claims if claim.control is None}
        return measure_outputs(FreshRuns(self.subject, ids, activations), self.truths, own)

    def _others(self, claims: Sequence[Claim]) -> Iterator[Claim]:
        planted = {truth.key for truth in self.truths}
        for claim in claims:
            if claim.control is None and not claim.triaged and claim.key not in planted:
                yield claim
