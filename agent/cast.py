"""Who plays whom: the benches at which a campaign's controls are investigated.

Each is made such that the steps, the explainer and the scorer find at it what they find at the bench of the real units.
Only what leases an investigation and what writes down its result knows of controls at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agent import triage
from agent.bench import Bench, null_units
from agent.controls import Control, direction_of, twin_seed
from agent.guise import Part, ShownSubject, ShownView
from agent.ledger import PassCounter
from agent.seeds import seed_for
from agent.spec import CampaignSpec
from agent.state import Json
from agent.triage import Tail
from store.work import Investigation
from tools.index import ActivationIndex
from tools.subject import Subject, load_subject
from tools.types import FloatArray, Split, UnitId

#: A unit whose panel activations correlate more than so much with another's is no negative control for it: what is
#: said of the one may well hold for the other.
ALIKE = 0.3
#: Units that are tried, in random order, before the first of them is taken whatever it is.
TRIES = 48


@dataclass(frozen=True)
class Twin:
    """The subject with shuffled weights, and an index of it over the same corpus."""

    subject: Subject
    index: ActivationIndex


@dataclass
class ControlBench(Bench):
    """A bench at which one unit's id (or, in the twin, every unit's) stands for something else."""

    def duplicate_of(self, unit: UnitId) -> UnitId | None:
        """None: what stands in is made to be no unit's copy."""
        return None


@dataclass
class SwapBench(ControlBench):
    """A bench at which what is said of one unit is tested on another."""

    tested: UnitId | None = None

    def scored(self, unit: UnitId, tail: Tail) -> tuple[UnitId, Tail] | None:
        assert self.tested is not None
        return next(((self.tested, own) for own in tails_of(self, self.tested) if own.polarity == tail.polarity), None)


def load_twin(spec: CampaignSpec) -> Subject:
    """The subject with its weights shuffled, dictionaries attached as they are."""
    return load_subject(
        spec.subject, device=spec.device, dtype=spec.dtype, dictionaries=spec.dictionaries,
        shuffle_seed=twin_seed(spec),
    )  # fmt: skip


def twin_units(spec: CampaignSpec, units: Sequence[UnitId], controls: Sequence[Control]) -> list[UnitId]:
    """Units that the twin's index needs: the controls', and those that their descriptions are also scored against."""
    needed: set[UnitId] = set()
    for control in controls:
        if control.kind == "shuffled":
            group = sorted((unit for unit in units if unit.group == control.of.group), key=lambda unit: unit.index)
            needed |= {control.of, *null_units(spec, group, control.of)}
    return sorted(needed, key=lambda unit: (unit.group, unit.index))


def tails_of(bench: Bench, unit: UnitId) -> list[Tail]:
    """The tails of a unit that would be described."""
    found = triage.triage(bench.explore.statistics(unit), bench.explore.sample(unit), None, bench.spec.polarity)
    return list(found.tails) if found.reason is None else []


class Cast:
    """Gives each investigation of a campaign its bench; made once in a process."""

    def __init__(self, bench: Bench, subject: Subject, controls: Sequence[Control], twin: Twin | None) -> None:
        """Args:
        bench: Of the real units.
        subject: What `bench` shows.
        controls: Of the campaign.
        twin: None when no control is of kind 'shuffled'.
        """
        self._bench, self._subject = bench, subject
        self._controls = {control.unit: control for control in controls}
        self._twin = None if twin is None else self._twin_bench(twin)

    def close(self) -> None:
        """Take the hook off the twin."""
        if self._twin is not None:
            self._twin.close()

    def part(self, investigation: Investigation) -> tuple[Bench, UnitId]:
        """The bench of an investigation, and the id of the unit that is investigated at it."""
        if investigation.control is None:
            return self._bench, UnitId.parse(investigation.unit)
        control = self._controls[investigation.unit]
        match control.kind:
            case "shuffled":
                assert self._twin is not None, "a campaign with shuffled controls has a twin"
                return self._twin, control.of
            case "direction":
                return self._direction_bench(control), control.of
            case "swapped":
                return self._swap_bench(control)
            case _:
                return self._constant_bench(control), control.of

    def _made(self, kind: type[ControlBench], **changes: Any) -> Any:
        real = self._bench
        own = {
            "spec": real.spec, "subject": real.subject, "index": real.index, "units": real.units,
            "explainer": real.explainer, "passes": real.passes, "explore": real.explore, "refine": real.refine,
            "fingerprint": real.fingerprint, "index_key": real.index_key, "kit": real.kit,
            "earlier": real.earlier,
        }  # fmt: skip
        return kind(**{**own, **changes})

    def _twin_bench(self, twin: Twin) -> ControlBench:
        explore, refine = (ShownView(twin.index.view(split), {}) for split in (Split.EXPLORE, Split.REFINE))
        made: ControlBench = self._made(
            ControlBench,
            subject=ShownSubject(twin.subject, named=self._subject),
            index=twin.index,
            passes=PassCounter(twin.subject),
            explore=explore,
            refine=refine,
            fingerprint=twin.subject.fingerprint,
            index_key=None,
            provenance={"shuffle_seed": twin_seed(self._bench.spec), "fingerprint": twin.subject.fingerprint},
        )
        return made

    def _direction_bench(self, control: Control) -> ControlBench:
        direction = direction_of(self._subject, control)
        length = float(direction.vector.norm())
        return self._one_unit(
            control,
            control.direction,
            ShownSubject(self._subject, unit=control.of, part=direction),
            {"seed": control.seed, "site": str(direction.site), "length": length},
            "a control: a random direction writes nothing of its own",
        )

    def _constant_bench(self, control: Control) -> ControlBench:
        statistics = self._bench.explore.statistics(control.of)
        level = float(max(abs(statistics.maximum), abs(statistics.minimum))) or 1.0
        shown = ShownSubject(self._subject, unit=control.of, part=level)
        return self._one_unit(control, level, shown, {"level": level}, "a control: a constant does nothing by turns")

    def _one_unit(
        self, control: Control, part: Part, subject: ShownSubject, provenance: Json, silent: str
    ) -> ControlBench:
        """A bench at which `part` stands for the control's unit; `silent` says why its output cannot be tested."""
        cast = {control.of: part}
        real = self._bench
        made: ControlBench = self._made(
            ControlBench,
            subject=subject,
            explore=ShownView(real.explore, cast),
            refine=ShownView(real.refine, cast),
            cast=cast,
            provenance=provenance,
            no_output_test=silent,
        )
        return made

    def _swap_bench(self, control: Control) -> tuple[SwapBench, UnitId]:
        real, other = self._bench, self._other(control.of)
        made: SwapBench = self._made(
            SwapBench,
            tested=control.of,
            provenance={"described": str(other), "tested": str(control.of)},
            _once=real._once,  # all that is at this bench is real
        )
        return made, other

    def _other(self, tested: UnitId) -> UnitId:
        """Another unit of the group that has a tail in common with this one and is active elsewhere."""
        real = self._bench
        others = sorted(
            (unit for unit in real.group(tested) if unit != tested),
            key=lambda unit: seed_for(real.spec.seed, f"{tested} {unit}", "swap"),
        )[:TRIES]
        wanted = {tail.polarity for tail in tails_of(real, tested)}
        for other in others:
            if wanted & {tail.polarity for tail in tails_of(real, other)}:
                first, second = real.explore.panel_matrix([tested, other])
                if abs(_correlation(first, second)) < ALIKE:
                    return other
        return others[0]


def _correlation(first: FloatArray, second: FloatArray) -> float:
    """Pearson's; 0 where one of them is constant."""
    if not first.std() or not second.std():
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])
