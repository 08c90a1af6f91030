"""Rows by the name under which an answer cites them: ``score:123``, ``experiment:9``, ``result:4``.

A cited row holds what the row itself says, and what it belongs to: the unit, the campaign. Keys, hashes and whatever
else says nothing of the model are left out, so that a number which is found in a row was measured.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from store import schema
from store.database import Database
from store.errors import StoreError
from store.queries.campaigns import campaign_summary
from store.queries.evidence import withdrawn_in
from store.rows import moment

Json = dict[str, Any]

#: Of a unit's statistics: bins of a histogram are drawn, not quoted.
_DRAWN = ("histogram_edges", "histogram_counts")
#: Of an experiment's arguments: token ids of the texts that were run.
_IDS = ("prompts", "ids")
#: Of the details of a description or a rival: the rest is how an explainer came to it.
_DETAILS = ("verdict", "tail", "refine", "standing", "reason", "confidence", "scope")
#: Ids in one look-up; SQLite takes no more than some thousands.
_AT_ONCE = 500


class Ref(NamedTuple):
    """The name of a row: a kind of `KINDS` and a number."""

    kind: str
    number: int
    """Key of the row; of a 'result', the place of the message in its chat."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.number}"

    @property
    def short(self) -> str:
        """``S7`` for ``score:7``, where there is little room."""
        return f"{LETTERS[self.kind]}{self.number}"


#: The letters of short names.
LETTERS = {
    "unit": "U", "description": "D", "score": "S", "experiment": "E", "observation": "O", "hypothesis": "H",
    "example": "X", "investigation": "I", "campaign": "C", "result": "R",
}  # fmt: skip
_NAME = re.compile(r"\[?(?:([a-z]+):|([A-Z]))(\d{1,18})\]?")


def parse_ref(text: str) -> Ref:
    """The row that a name stands for: ``score:7``, ``[score:7]`` or ``S7``.

    Raises:
        StoreError: it is no name of a row.
    """
    match = _NAME.fullmatch(text.strip())
    kinds = {letter: kind for kind, letter in LETTERS.items()}
    kind = None if match is None else match[1] or kinds.get(match[2])
    if match is None or kind not in LETTERS:
        shown = ", ".join(f"{letter}7 ({kind}:7)" for kind, letter in LETTERS.items())
        raise StoreError(f"'{text}' names no row. Rows are named like this: {shown}.")
    return Ref(kind, int(match[3]))


@dataclass(frozen=True)
class CitedRow:
    """A row that an answer cites."""

    ref: Ref
    table: str
    key: int
    """In that table."""
    unit: str | None
    """Id of the unit that it is about; None where it is about none or several."""
    values: Json
    """What the row says, by its columns' names."""


def cited_rows(db: Database, refs: Iterable[Ref], *, chat: int | None = None) -> dict[Ref, CitedRow]:
    """The rows of these names; those that do not exist are left out.

    Args:
        db: the database.
        refs: names of rows; an unknown kind names none.
        chat: the conversation whose results are meant by ``result:POSITION``.
    """
    wanted: dict[str, list[int]] = defaultdict(list)
    for kind, number in dict.fromkeys(refs):
        wanted[kind].append(number)
    found: dict[Ref, CitedRow] = {}
    with db.session() as session:
        for kind, numbers in wanted.items():
            for start in range(0, len(numbers), _AT_ONCE):
                part = numbers[start : start + _AT_ONCE]
                if kind == "result" and chat is not None:
                    rows = _results(session, chat, part)
                elif kind in _READERS:
                    rows = _READERS[kind](session, part)
                else:
                    continue
                found.update({row.ref: row for row in rows})
        named = _campaigns(session, wanted.get("campaign", []))
    for number, name in named.items():
        summary = asdict(campaign_summary(db, name))
        summary.pop("spec")
        ref = Ref("campaign", number)
        found[ref] = CitedRow(ref, "campaigns", number, None, summary)
    return found


def _units(session: Session, numbers: list[int]) -> list[CitedRow]:
    unit, subject, corpus = schema.Unit, schema.Subject, schema.Corpus
    query = (
        sa.select(unit, subject.name, corpus.spec)
        .join(subject, subject.id == unit.subject_id)
        .outerjoin(schema.Index, schema.Index.id == unit.index_id)
        .outerjoin(corpus, corpus.id == schema.Index.corpus_id)
        .where(unit.id.in_(numbers))
    )
    rows = []
    for row, name, spec in session.execute(query):
        statistics = {key: value for key, value in row.statistics.items() if key not in _DRAWN}
        own = _columns(
            row, "unit", "kind", "layer", "dictionary", "unit_index", "state", "duplicate_of", "density", "minimum",
            "maximum", "mean", "variance", "n_tokens", "profile",
        )  # fmt: skip
        values = {**own, "deviation": None if row.variance is None else max(0.0, row.variance) ** 0.5}
        rows.append(_row("unit", row, row.unit, {**values, "statistics": statistics, "subject": name, "corpus": spec}))
    return rows


def _descriptions(session: Session, numbers: list[int]) -> list[CitedRow]:
    table = schema.Description
    names = (
        "polarity", "rank", "version", "label", "input_half", "output_half", "exceptions", "rule", "explainer",
        "verdict_input", "verdict_output",
    )  # fmt: skip
    scores: dict[int, list[Json]] = defaultdict(list)
    gone = withdrawn_in(session)
    measured = ("metric", "value", "low", "high", "null_mean", "p_value", "q_value", "n_examples", "n_documents")
    for score in session.scalars(
        sa.select(schema.Score)
        .where(schema.Score.description_id.in_(numbers), schema.Score.headline)
        .order_by(schema.Score.id)
    ):
        if ("score", score.id) not in gone:
            scores[score.description_id].append(_columns(score, *measured))
    query = (
        sa.select(table, schema.Unit.unit, schema.Campaign.name)
        .join(schema.Unit, schema.Unit.id == table.unit_id)
        .join(schema.Campaign, schema.Campaign.id == table.campaign_id)
        .where(table.id.in_(numbers))
    )
    return [
        _row(
            "description", row, unit,
            {
                **_columns(row, *names), **_details(row), **_foretold(row), "scores": scores[row.id],
                "campaign": campaign,
            },
        )
        for row, unit, campaign in session.execute(query)
    ]  # fmt: skip


def _scores(session: Session, numbers: list[int]) -> list[CitedRow]:
    table, description = schema.Score, schema.Description
    names = (
        "metric", "split", "predictor", "value", "low", "high", "n_examples", "n_documents", "null_mean", "p_value",
        "e_value", "q_value", "unparseable", "headline", "cost",
    )  # fmt: skip
    query = (
        sa.select(table, schema.Unit.unit, description.polarity)
        .join(description, description.id == table.description_id)
        .join(schema.Unit, schema.Unit.id == description.unit_id)
        .where(table.id.in_(numbers))
    )
    gone = withdrawn_in(session)
    return [
        _row("score", row, unit, {**_columns(row, *names), "polarity": polarity, **_gone(gone, "score", row.id)})
        for row, unit, polarity in session.execute(query)
    ]


def _experiments(session: Session, numbers: list[int]) -> list[CitedRow]:
    table, seen = schema.Experiment, schema.Observation
    observed: dict[int, list[Json]] = defaultdict(list)
    for one in session.scalars(
        sa.select(seen).where(seen.experiment_id.in_(numbers)).order_by(seen.experiment_id, seen.position)
    ):
        observed[one.experiment_id].append(_columns(one, "summary", "outcome", "data"))
    rows, gone = [], withdrawn_in(session)
    for row, unit in _with_unit(session, table, numbers):
        arguments = {name: value for name, value in row.arguments.items() if name not in _IDS}
        own = {
            **_columns(row, "kind", "seed", "status", "error", "seconds"), "arguments": arguments,
            **_gone(gone, "experiment", row.id),
        }  # fmt: skip
        rows.append(_row("experiment", row, unit, {**own, "observations": observed[row.id]}))
    return rows


def _observations(session: Session, numbers: list[int]) -> list[CitedRow]:
    table, experiment, job = schema.Observation, schema.Experiment, schema.Investigation
    query = (
        sa.select(table, experiment.kind, schema.Unit.unit)
        .join(experiment, experiment.id == table.experiment_id)
        .join(job, job.id == experiment.investigation_id)
        .join(schema.Unit, schema.Unit.id == job.unit_id)
        .where(table.id.in_(numbers))
    )
    gone = withdrawn_in(session)
    return [
        _row(
            "observation",
            row,
            unit,
            {
                "kind": kind,
                **_columns(row, "summary", "outcome", "data"),
                **(_gone(gone, "observation", row.id) or _gone(gone, "experiment", row.experiment_id)),
            },
        )
        for row, kind, unit in session.execute(query)
    ]


def _hypotheses(session: Session, numbers: list[int]) -> list[CitedRow]:
    names = (
        "key", "polarity", "explainer", "label", "input_half", "output_half", "exceptions", "rule", "status",
    )  # fmt: skip
    found = _with_unit(session, schema.Hypothesis, numbers)
    return [_row("hypothesis", row, unit, {**_columns(row, *names), **_details(row)}) for row, unit in found]


def _examples(session: Session, numbers: list[int]) -> list[CitedRow]:
    names = (
        "split", "source", "polarity", "rank", "document", "peak", "activation", "weight", "tokens", "activations",
    )  # fmt: skip
    found = _with_unit(session, schema.Example, numbers)
    return [_row("example", row, unit, _columns(row, *names)) for row, unit in found]


def _investigations(session: Session, numbers: list[int]) -> list[CitedRow]:
    job = schema.Investigation
    names = ("status", "stage", "reason", "attempts", "failures", "seconds", "tool_calls", "tokens", "llm_calls",
             "dollars")  # fmt: skip
    query = (
        sa.select(job, schema.Unit.unit, schema.Campaign.name)
        .join(schema.Unit, schema.Unit.id == job.unit_id)
        .join(schema.Campaign, schema.Campaign.id == job.campaign_id)
        .where(job.id.in_(numbers))
    )
    rows = []
    for row, unit, campaign in session.execute(query):
        times = {name: moment(getattr(row, name)) for name in ("started_at", "finished_at")}
        rows.append(_row("investigation", row, unit, {**_columns(row, *names), **times, "campaign": campaign}))
    return rows


def _results(session: Session, chat: int, places: list[int]) -> list[CitedRow]:
    table = schema.ChatMessage
    query = sa.select(table).where(table.chat_id == chat, table.role == "tool", table.position.in_(places))
    rows = []
    for row in session.scalars(query):
        names = ("tool", "arguments", "summary", "data", "error", "cost")
        values = {name: row.payload[name] for name in names if name in row.payload}
        rows.append(CitedRow(Ref("result", row.position), table.__tablename__, row.id, row.payload.get("unit"), values))
    return rows


def _campaigns(session: Session, numbers: list[int]) -> dict[int, str]:
    if not numbers:
        return {}
    found = session.execute(sa.select(schema.Campaign.id, schema.Campaign.name).where(schema.Campaign.id.in_(numbers)))
    return {number: name for number, name in found}


def _with_unit(session: Session, table: Any, numbers: list[int]) -> list[tuple[Any, str]]:
    """Rows of a table that belong to investigations, with their units' ids."""
    job = schema.Investigation
    query = (
        sa.select(table, schema.Unit.unit)
        .join(job, job.id == table.investigation_id)
        .join(schema.Unit, schema.Unit.id == job.unit_id)
        .where(table.id.in_(numbers))
    )
    return [(row, unit) for row, unit in session.execute(query)]


def _gone(withdrawn: Mapping[tuple[str, int], str], kind: str, number: int) -> Json:
    """Why a row does not count any more, where it does not."""
    reason = withdrawn.get((kind, number))
    return {} if reason is None else {"withdrawn": reason}


def _details(row: Any) -> Json:
    return {name: row.details[name] for name in _DETAILS if name in row.details}


def _foretold(row: Any) -> Json:
    """What a description predicted before the seal was opened, with what came, by metric; nothing where it did not.

    Probabilities at made-up inputs, of which there are dozens, belong to the experiment.
    """
    found = row.details.get("predictions")
    if not found:
        return {}
    told = {**(found["sealed"] or {}), **({} if found["effect"] is None else {"effect": found["effect"]})}
    each = []
    for metric, one in told.items():
        ends = {name: one[name] for name in ("foretold", "low", "high")}
        each.append({"metric": metric, **ends, metric if metric == "density" else "value": one["value"]})
    return {"foretold": each, "expected_right": found["right"]}


def _columns(row: Any, *names: str) -> Json:
    return {name: getattr(row, name) for name in names}


def _row(kind: str, row: Any, unit: str, values: Json) -> CitedRow:
    return CitedRow(Ref(kind, row.id), row.__tablename__, row.id, unit, {"unit": unit, **values})


_READERS: dict[str, Callable[[Session, list[int]], list[CitedRow]]] = {
    "unit": _units, "description": _descriptions, "score": _scores, "experiment": _experiments,
    "observation": _observations, "hypothesis": _hypotheses, "example": _examples, "investigation": _investigations,
}  # fmt: skip
#: Kinds of rows that can be cited.
KINDS = (*_READERS, "campaign", "result")
