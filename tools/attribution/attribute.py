"""One way to ask for any attribution: by tokens of the text, by units, or by parts of the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tools.ablation.reference import Reference
from tools.attribution.anchors import anchor
from tools.attribution.direct import DirectAttribution, direct_attribution
from tools.attribution.embeddings import (
    embedding_gradients,
    embedding_path,
    gradient_times_input,
    held,
    normxlogit,
)
from tools.attribution.faithful import Faithfulness, faithfulness
from tools.attribution.impute import Imputer, imputer_for
from tools.attribution.occlusion import occlude
from tools.attribution.path import Rule, Steps
from tools.attribution.result import Attribution, Method
from tools.attribution.targets import Array, Reader, Target, TokenTarget
from tools.attribution.unit_ig import Baseline, baseline_values, conductance, integrated_gradients
from tools.attribution.unit_space import UnitSpace
from tools.errors import UnitError
from tools.interventions import Edit, Where, change
from tools.subject import Subject
from tools.types import BoolArray, IntArray, Site, UnitId
from tools.units import expand

#: Methods that attribute to tokens, to units, and to parts of the model.
INPUT: tuple[Method, ...] = ("occlusion", "ig", "gradient", "normxlogit", "anchor")
UNIT: tuple[Method, ...] = ("ig", "conductance", "direct")
COMPONENT: tuple[Method, ...] = ("direct",)
_DIRECT = "Direct effects at the position alone: what later layers make of a write is theirs."


@dataclass(frozen=True)
class Options:
    """How an attribution is computed; each method looks at what concerns it."""

    reference: Reference | None = None
    """Texts: replacements of tokens are drawn from their pairs, and means are over them. None: replacements are drawn
    from the subject, and mean embeddings are over the vocabulary."""
    baseline: Baseline = "zero"
    """Of units; a mean is over the reference texts."""
    steps: int = 64
    rule: Rule = "gauss-legendre"
    draws: int = 8
    """Replacements of each token."""
    window: int = 64
    """How many tokens next to the position are replaced one by one, or may be in an anchor."""
    check: bool = True
    """Whether the order of the parts is tried out on the model."""
    seed: int = 0


def attribute(
    subject: Subject,
    ids: Sequence[int],
    target: Target,
    method: Method,
    *,
    units: str = "",
    options: Options = Options(),
) -> Attribution:
    """Attribute a target on a text to the text's tokens, to units, or to parts of the model.

    Args:
        subject: The model.
        ids: The text.
        target: A token's logit, or a unit's activation.
        method: One of `INPUT` without units; of `UNIT` with them; of `COMPONENT` (direct logit attribution) without.
        units: A pattern of units, such as ``mlp:1:*;head:*:*``.
        options: How.

    Returns:
        Parts with their test on the model (`Attribution.check`).

    Raises:
        UnitError: The method does not suit the target, the units or the model; a position is beyond the text, a token
            beyond the vocabulary.
    """
    if method not in (UNIT if units else (*INPUT, *COMPONENT)):
        known = ", ".join(UNIT if units else (*INPUT, *COMPONENT))
        raise UnitError(f"'{method}' does not attribute to {'units' if units else 'tokens'}. Known: {known}.")
    reader = Reader.of(subject, ids, target)
    work = _Work(reader, method, options)
    if units:
        return work.units(expand(subject, units))
    return work.components() if method == "direct" else work.tokens()


class _Work:
    """One call of `attribute`."""

    def __init__(self, reader: Reader, method: Method, options: Options) -> None:
        self.reader, self.method, self.options = reader, method, options
        self.subject = reader.subject
        self.steps = Steps(options.steps, options.rule)
        self.blank = Attribution(
            kind="input", method=method, target=replace(reader.target, position=reader.position),
            tokens=tuple(self.subject.pieces(reader.ids)), names=(), scores=np.zeros(0), value=0.0,
            reference=None if options.reference is None else options.reference.digest,
        )  # fmt: skip

    # --- tokens -------------------------------------------------------------------------------------------------------

    def tokens(self) -> Attribution:
        reader, options, method = self.reader, self.options, self.method
        first = held(reader)
        places = np.arange(first, len(reader.ids))
        found = self.blank
        if method in ("occlusion", "anchor"):
            nearest = np.argsort(np.abs(places - reader.position), kind="stable")[: options.window]
            places, imputer = np.sort(places[nearest]), imputer_for(self.subject, options.reference)
            found = replace(found, baseline=imputer.name, settings={"draws": options.draws, "seed": options.seed})
        if method == "occlusion":
            result = occlude(reader, places, imputer, draws=options.draws, seed=options.seed)
            found = replace(found, scores=result.scores, p_values=result.p_values, value=result.value)
        elif method == "anchor":
            rule = anchor(reader, places, imputer, seed=options.seed)
            value = self._value()
            scores = np.isin(places, rule.positions) * np.sign(value)
            found = replace(found, scores=scores, anchor=rule, value=value)
        elif method == "ig":
            parts, value, empty, error = embedding_gradients(
                reader, embedding_path(reader, options.reference), self.steps
            )
            found = replace(
                found, scores=parts[places], value=value, baseline_value=empty, error=error,
                baseline="mean embedding", settings={"steps": options.steps, "rule": options.rule},
            )  # fmt: skip
        else:
            scores = gradient_times_input(reader) if method == "gradient" else normxlogit(reader)
            found = replace(found, scores=scores[places], value=self._value())
        if first:
            kept = "Position 0, which stands" if first == 1 else f"Positions 0-{first - 1}, which stand"
            found = replace(found, note=f"{kept} before every text, is left as it is.")
        names = tuple(found.tokens[i] for i in places)
        found = replace(found, names=names, positions=tuple(int(i) for i in places))
        return self._checked_tokens(found, places)

    def _value(self) -> float:
        return float(self.reader.evaluate(np.array([self.reader.ids], dtype=np.int64))[0])

    def _checked_tokens(self, found: Attribution, places: IntArray) -> Attribution:
        if not self.options.check:
            return found
        try:
            imputer = imputer_for(self.subject, self.options.reference)
        except UnitError as error:
            return replace(found, note=f"{found.note} Not tried out on the model: {error}".strip())
        check = token_faithfulness(
            self.reader, places, found.scores, imputer, draws=self.options.draws, seed=self.options.seed
        )
        return replace(found, check=check)

    # --- units --------------------------------------------------------------------------------------------------------

    def units(self, units: Sequence[UnitId]) -> Attribution:
        groups: dict[str, list[int]] = {}
        for unit in units:
            groups.setdefault(unit.group, []).append(unit.index)
        names = tuple(str(UnitId(group, index)) for group, indices in groups.items() for index in indices)
        found = replace(self.blank, kind="unit", names=names)
        if self.method == "direct":
            return self._direct_units(found, groups)
        spaces = {group: UnitSpace.of(self.subject, group) for group in groups}
        options = self.options
        settings = {"steps": options.steps, "rule": options.rule}
        note = "The first position is left as it is."
        if self.method == "ig":
            shares = [
                integrated_gradients(
                    self.reader, spaces[group], indices, baseline=options.baseline, reference=options.reference,
                    steps=self.steps,
                )
                for group, indices in groups.items()
            ]  # fmt: skip
            baseline = f"{options.baseline} activations"
            if len(groups) > 1:
                note += " Each group is moved by itself; parts of different groups do not add up."
        else:
            path = embedding_path(self.reader, options.reference)
            shares, baseline = conductance(self.reader, path, list(spaces.values()), self.steps), "mean embedding"
            note += " What passes by the units is nobody's; parts do not add up to the whole."
        grid = np.concatenate(
            [share.values[:, indices].T for share, indices in zip(shares, groups.values(), strict=True)]
        )
        return replace(
            found, scores=grid.sum(1), by_position=grid, value=shares[0].value, baseline=baseline,
            baseline_value=shares[0].baseline if len(groups) == 1 or self.method == "conductance" else None,
            error=max(share.error for share in shares), note=note, settings=settings,
            check=self._unit_check(grid.sum(1), groups, options.baseline, since=1),
        )  # fmt: skip

    def _direct_units(self, found: Attribution, groups: dict[str, list[int]]) -> Attribution:
        direct, target = self._direct(list(groups)), self.reader.target
        assert isinstance(target, TokenTarget)
        scores = np.concatenate([direct.units[group][0, indices] for group, indices in groups.items()])
        return replace(
            found, scores=scores, value=float(direct.logits[0]), error=direct.error, baseline="zero activations",
            note=_DIRECT,
            check=self._unit_check(scores, groups, "zero", since=self.reader.position),
        )  # fmt: skip

    def _unit_check(
        self, scores: Array, groups: dict[str, list[int]], baseline: Baseline, since: int
    ) -> Faithfulness | None:
        if not self.options.check:
            return None
        reader, positions = self.reader, torch.arange(len(self.reader.ids)) >= since
        parts: list[tuple[UnitSpace, Tensor, slice, list[int]]] = []
        first = 0
        for group, indices in groups.items():
            space = UnitSpace.of(self.subject, group)
            captured = self.subject.capture(reader.row(), None, [space.reads])
            with torch.inference_mode():
                like = space.values(captured[space.reads])[0]
            base = baseline_values(space, baseline, self.options.reference, like)
            parts.append((space, base, slice(first, first + len(indices)), indices))
            first += len(indices)

        def edits(present: BoolArray) -> list[Edit]:
            made = []
            for space, base, columns, indices in parts:
                absent = torch.zeros(len(present), space.width, dtype=torch.bool)
                absent[:, indices] = torch.from_numpy(~present[:, columns])
                made.append(space.held(absent[:, None] & positions[None, :, None], base))
            return made

        return faithfulness(scores, self._under(edits), draws=1, seed=self.options.seed)

    # --- parts of the model -------------------------------------------------------------------------------------------

    def _direct(self, groups: Sequence[str]) -> DirectAttribution:
        target, reader = self.reader.target, self.reader
        if not isinstance(target, TokenTarget):
            raise UnitError("Direct attribution explains a token's logit; explain a unit by 'ig' or 'occlusion'.")
        foils = None if target.foil is None else [target.foil]
        return direct_attribution(
            self.subject, [reader.ids], [target.token], foils, positions=[reader.position], groups=groups
        )

    def components(self) -> Attribution:
        direct, reader = self._direct([]), self.reader
        parts, scores = direct.parts, direct.values[0]
        kinds = {"head": "head_z", "mlp": "mlp_out"}
        tried = [i for i, part in enumerate(parts) if part.kind in kinds]
        sites: dict[Site, list[int]] = {}
        for column, i in enumerate(tried):
            layer = parts[i].layer
            assert layer is not None
            sites.setdefault(Site(layer, kinds[parts[i].kind]), []).append(column)
        where = Where(positions=[reader.position])

        def edits(present: BoolArray) -> list[Edit]:
            return [change(site, _leaving_out(present[:, columns]), where, name="leave out")
                    for site, columns in sites.items()]  # fmt: skip

        check = None
        if self.options.check:
            check = faithfulness(scores[tried], self._under(edits), draws=1, seed=self.options.seed)
        return replace(
            self.blank, kind="component", names=tuple(part.name for part in parts), scores=scores,
            value=float(direct.logits[0]), error=direct.error, check=check,
            note=f"{_DIRECT} Heads and MLPs are tried out by leaving out what they write there.",
        )  # fmt: skip

    def _under(self, edits: Callable[[BoolArray], list[Edit]]) -> Callable[[BoolArray], Array]:
        """The target in each row of what is present, by edits of a batch of rows."""
        reader = self.reader

        def evaluate(present: BoolArray) -> Array:
            if not len(present):  # a single part leaves no points between none and all
                return np.zeros(0)
            batches = [present[i : i + reader.rows] for i in range(0, len(present), reader.rows)]
            return np.concatenate([reader.run(reader.row(len(batch)), edits(batch)) for batch in batches])

        return evaluate


def token_faithfulness(
    reader: Reader,
    places: IntArray,
    scores: Array,
    imputer: Imputer,
    *,
    draws: int = 8,
    orders: int = 24,
    seed: int = 0,
) -> Faithfulness:
    """The test of an order of tokens: those that are not in place are drawn anew, others than at `places` stay."""
    rng = np.random.default_rng([seed, 1])

    def evaluate(present: BoolArray) -> Array:
        kept = np.ones((len(present), len(reader.ids)), dtype=bool)
        kept[:, places] = present
        return reader.evaluate(imputer.fill(reader.ids, kept, rng))

    return faithfulness(scores, evaluate, draws=draws, orders=orders, seed=seed)


def _leaving_out(present: BoolArray) -> Callable[[Tensor], Tensor]:
    kept = torch.from_numpy(present)

    def new(old: Tensor) -> Tensor:
        return old * kept.reshape(*kept.shape, *[1] * (old.ndim - kept.ndim)).to(old)

    return new
