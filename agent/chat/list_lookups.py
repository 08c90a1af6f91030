"""What the database knows of many units at once: search, lists by filter, campaigns and what they cost."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Annotated, Literal

from pydantic import Field

from agent.chat.lookups import Campaign, Json, Library, Limit, Name, cite, clipped, lookup, short
from agent.toolbox.base import Arguments, Finding
from store.queries import best_descriptions, campaign_summary, find_units, list_campaigns, llm_costs
from store.rows import DescribedRow
from store.search import search_text

#: Matches of a search that are counted.
_COUNTED = 100


class SearchArguments(Arguments):
    """Arguments of `search`."""

    text: str = Field(min_length=1, max_length=400, description="Words to look for in descriptions.")
    limit: Limit = 8


class UnitsArguments(Arguments):
    """Arguments of `units`."""

    pattern: Annotated[str, Field(min_length=1, max_length=400)] = Field(
        default="*", description="Which units: 'mlp:2:*', 'head:*:*', 'mlp:0:0-99;sae:res:*', '*' for all."
    )
    campaign: Campaign = None
    kind: Literal["mlp", "head", "sae", "dir", "fn"] | None = Field(default=None, description="Units of one kind.")
    layer: int | None = Field(default=None, ge=0, le=1023, description="Units of one layer, counted from 0.")
    verdict: Literal["supported", "refuted", "inconclusive", "untested"] | None = Field(
        default=None, description="By the verdict on what a unit fires on."
    )
    min_f1: float | None = Field(default=None, ge=0, le=1, description="Least F1 on sealed text.")
    state: Literal["alive", "dead", "dense", "duplicate"] | None = Field(
        default=None, description="Units that are so, described or not; goes with pattern alone."
    )
    order: Literal["support", "f1", "density", "newest", "unit"] = Field(
        default="support", description="What comes first; 'support' is supported ones by their interval's lower end."
    )
    limit: Limit = 12


class CampaignArguments(Arguments):
    """Arguments of `campaign`."""

    campaign: Name | None = Field(default=None, description="Its name; left out: all campaigns, newest first.")


@lookup("search", SearchArguments)
def search(library: Library, arguments: SearchArguments) -> Finding:
    """Finds descriptions by what they say. Use it for "which units ..." when no unit is named."""
    hits = [
        hit
        for hit in search_text(library.db, arguments.text, _COUNTED, subject=library.subject)
        if library.campaign in (None, hit.description.campaign)
    ]
    rows = [
        {**_described(hit.description), "found_in": hit.field, "passage": hit.snippet}
        for hit in hits[: arguments.limit]
    ]
    more = len(hits) >= _COUNTED
    data = {"matches": len(hits), "more": more, "shown": len(rows), "descriptions": rows}
    return Finding(f"{len(hits)}{' or more' if more else ''} descriptions match {arguments.text!r}", data)


@lookup("units", UnitsArguments)
def units(library: Library, arguments: UnitsArguments) -> Finding:
    """Lists and counts units with their best descriptions: by kind, layer, verdict or F1, or (with state) those that
    are dead, dense or duplicates.
    """
    if arguments.state is not None:
        found = find_units(
            library.db, arguments.pattern, subject=library.subject, state=arguments.state, limit=None
        )  # fmt: skip
        plain = [
            {"cite": cite("unit", one.unit.unit_id), "unit": one.unit.unit, "state": one.unit.state,
             "density": short(one.unit.density), "duplicate_of": one.unit.duplicate_of}
            for one in found[: arguments.limit]
        ]  # fmt: skip
        return Finding(f"{len(found)} units are {arguments.state}", {"found": len(found), "units": plain})
    rows = best_descriptions(
        library.db, campaign=arguments.campaign or library.campaign, subject=library.subject, kind=arguments.kind,
        layer=arguments.layer, verdict=arguments.verdict, min_f1=arguments.min_f1, order=arguments.order, limit=None,
    )  # fmt: skip
    if arguments.pattern.strip() != "*":
        wanted = find_units(
            library.db, arguments.pattern, subject=library.subject, described_only=True, limit=None
        )  # fmt: skip
        fitting = {(one.unit.fingerprint, one.unit.unit) for one in wanted}
        rows = [row for row in rows if (row.fingerprint, row.unit) in fitting]
    verdicts = dict(sorted(Counter(row.verdict_input for row in rows).items()))
    data = {
        "found": len(rows), "verdicts": verdicts, "shown": min(len(rows), arguments.limit),
        "descriptions": [_described(row) for row in rows[: arguments.limit]],
    }  # fmt: skip
    return Finding(f"{len(rows)} descriptions fit", data)


@lookup("campaign", CampaignArguments)
def campaign(library: Library, arguments: CampaignArguments) -> Finding:
    """What came of a campaign: units done, failed and skipped, verdicts, medians of the scores, error rates, how the
    blind controls fared, what it cost. Without a name: all campaigns.
    """
    name = arguments.campaign or library.campaign
    rows = list_campaigns(library.db)
    if name is None and len(rows) == 1:
        name = rows[0].campaign
    if name is None:
        listed = [
            {"cite": cite("campaign", row.campaign_id), "campaign": row.campaign, "subject": row.subject,
             "status": row.status, "investigations": row.investigations, "done": row.done, "failed": row.failed,
             "skipped": row.skipped, "descriptions": row.descriptions, "supported": row.supported}
            for row in rows[:20]
        ]  # fmt: skip
        return Finding(f"{len(rows)} campaigns", {"found": len(rows), "campaigns": listed})
    found = campaign_summary(library.db, name, n_failures=5)
    own = asdict(found.campaign)
    totals = {kind: _kind(asdict(summary)) for kind, summary in {"all": found.total, **found.kinds}.items()}
    costs = [
        {"purpose": cost.key["purpose"], "calls": cost.calls, "known": cost.known, "prompt_tokens": cost.prompt_tokens,
         "completion_tokens": cost.completion_tokens, "dollars": short(cost.dollars)}
        for cost in llm_costs(library.db, name, by=("purpose",))
    ]  # fmt: skip
    data = {
        "cite": cite("campaign", found.campaign.campaign_id),
        "campaign": {key: short(value) if isinstance(value, float) else value for key, value in own.items()
                     if not key.endswith("_id")},
        "kinds": totals, "failures": [asdict(failure) for failure in found.failures], "outcome": found.outcome,
        "llm": costs,
    }  # fmt: skip
    told = f"campaign '{name}' is {own['status']}: {own['done']} of {own['investigations']} units done"
    return Finding(told, data)


def _kind(summary: Json) -> Json:
    return {key: short(value) if isinstance(value, float) else value for key, value in summary.items()}


def _described(row: DescribedRow) -> Json:
    return {
        "cite": cite("description", row.description_id), "unit": row.unit, "polarity": row.polarity,
        "label": clipped(row.label, 160), "verdict": row.verdict_input, "f1": short(row.f1),
        "f1_low": short(row.f1_low), "f1_high": short(row.f1_high), "density": short(row.density),
        "campaign": row.campaign,
    }  # fmt: skip
