"""One forward pass with edits, checked against the text it is about."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from tools.capture import Captured
from tools.capture import run as run_model
from tools.errors import InterventionError
from tools.hooking.edits import Edit
from tools.hooking.where import AttentionWhere, Where
from tools.interventions.prefix import Prefix
from tools.interventions.resume import Resume, skipping
from tools.subject import Subject
from tools.types import Site


def run(
    subject: Subject,
    ids: Tensor,
    mask: Tensor | None = None,
    edits: Sequence[Edit] = (),
    *,
    read: Iterable[Site] = (),
    read_before: Iterable[Site] = (),
    logits: bool = True,
    last: bool = False,
    gradients: bool = False,
    resume: Resume | None = None,
    past: Prefix | None = None,
) -> Captured:
    """Run the subject with some of its tensors edited on the way.

    Args:
        subject: The model.
        ids: Token ids [batch, pos]; with `past`, those that follow it.
        mask: [batch, pos], 1 at real tokens; None if there is no padding. Padding may be on either side.
        edits: What to change. Positions count from each row's first token, those of `past` included.
        read: Sites whose tensors to return, as they are after the edits there.
        read_before: Sites whose tensors to return as they were before the edits there (`Captured.before`).
        logits: Also return the logits [batch, pos, vocabulary]. Without them the pass ends at the deepest site read.
        last: Those of the last column alone, [batch, 1, vocabulary]: for texts of one length, of which only what comes
            next matters.
        gradients: Keep the graph, so that `Captured.gradients` can differentiate by what was read.
        resume: Skip the blocks below a layer, whose output is known from another run.
        past: A prefix that all rows have behind them, with its keys and values cached.

    Returns:
        What was read, on the subject's device.

    Raises:
        UnitError: A site does not exist in this model.
        InterventionError: An edit does not fit the text or its site, or the logits are not finite with it.
        SubjectError: The text is too long for the model, or its ids are none of its own.
    """
    batch, width = ids.shape
    sites, earlier = list(read), list(read_before)
    if past is not None and (resume is not None or mask is not None or gradients):
        raise InterventionError("A run on a cached prefix takes no mask, no gradients, and resumes at no layer.")
    subject.check_ids(ids, 0 if past is None else past.width)
    lengths = torch.full((batch,), width) if mask is None else mask.long().sum(1).cpu()
    _check_places(edits, lengths + (0 if past is None else past.lengths(batch)))
    with subject.lock, contextlib.ExitStack() as stack:
        if resume is not None:
            touched = [*sites, *earlier, *(site for edit in edits for site in (edit.site, *edit.needs))]
            stack.enter_context(skipping(subject, resume, ids, touched))
        if past is not None:
            inputs, moment = past.inputs(ids)
        else:
            inputs, moment = subject.inputs(ids, mask), subject.moment(ids, mask)
        if last and "logits_to_keep" in inspect.signature(subject.model.forward).parameters:
            inputs["logits_to_keep"] = 1
        found = run_model(
            subject.model, subject.sites, inputs, sites, logits=logits, edits=edits, before=earlier,
            gradients=gradients, moment=moment,
        )  # fmt: skip
    if last and found.logits is not None:
        found.logits = found.logits[:, -1:]
        mask = None if mask is None else mask[:, -1:]
    if edits and found.logits is not None:
        _check_finite(subject, found.logits, mask, edits)
    return found


def _check_places(edits: Sequence[Edit], lengths: Tensor) -> None:
    """Positions beyond a row's text are a mistake, and not an edit of nothing."""
    for edit in edits:
        where = edit.where
        for axis in ("positions",) if isinstance(where, Where) else ("queries", "keys"):
            numbers = getattr(where, axis)
            if numbers is None or not len(numbers):
                continue
            assert isinstance(where, Where | AttentionWhere)
            rows = where.rows if where.rows is not None else range(len(lengths))
            assert not isinstance(rows, int)
            pairs = zip(rows, numbers, strict=True) if where.paired else ((row, max(numbers)) for row in rows)
            for row, position in pairs:
                if row < len(lengths) and position >= lengths[row]:
                    raise InterventionError(
                        f"Position {position} is beyond the text, which has {int(lengths[row])} tokens "
                        f"(0-{int(lengths[row]) - 1})."
                    )


def _check_finite(subject: Subject, logits: Tensor, mask: Tensor | None, edits: Sequence[Edit]) -> None:
    finite = torch.isfinite(logits).all(-1)
    if mask is not None:
        finite = finite | (mask.to(finite.device) == 0)
    if not bool(finite.all()):
        named = ", ".join(dict.fromkeys(f"{edit.spec.get('op', 'change')} at {edit.site}" for edit in edits[:3]))
        raise InterventionError(
            f"With this edit ({named}) the logits of '{subject.name}' are no longer finite in "
            f"{str(subject.dtype).removeprefix('torch.')}. Choose a smaller strength."
        )
