"""The policy `llm` and its matched control: the same language model, the same proposals, as many of its tokens.

The explainer is `contrastive`, tested by the rules that it writes and not by its words, so that scoring asks nothing.
The agent draws `DRAWN` descriptions of a tail and puts them to a contest by the policy `llm`. The control draws the
very same, and more, until it has spent what the agent spent on the tail, trials and revisions included; the best on
refine is asserted. Beyond the tokens the agent has forward passes of the subject, which the control has no use for.

The language model is the programmable server of the tests with `tests.serving.reasoner` as its mind. It answers a
request always alike, so that the first descriptions of both are the same.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

import store
from explainers.llm.kit import LlmKit
from explainers.prompted.contrastive import Contrastive
from explainers.registry import register
from explainers.types import Evidence, Explanation, Recorder
from store import schema

DRAWN = 2
"""Descriptions that both draw first."""
MOST = 64
"""Samples that an explainer draws at most."""


@dataclass(frozen=True)
class Spent:
    """Tokens of the language model, prompts and answers, that one tail took."""

    explaining: int = 0
    contest: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.explaining + self.contest


@register("contrastive by rule")
class ContrastiveByRule:
    """`contrastive`, whose descriptions are tested by their rules.

    Args:
        kit: The model and its prompts.
        n: Samples of each tail.
        samples: A JSON file: by tail ('mlp:0:3+') how many samples instead.
    """

    name = "contrastive by rule"
    needs_llm = True

    def __init__(self, *, kit: LlmKit, n: int = DRAWN, samples: str | None = None) -> None:
        self.kit, self.n = kit, n
        self.samples: dict[str, int] = json.loads(Path(samples).read_text(encoding="utf-8")) if samples else {}

    def explain(self, evidence: Evidence, recorder: Recorder) -> list[Explanation]:
        """The samples; those with the same seed are the same however many are drawn."""
        n = self.samples.get(f"{evidence.unit}{evidence.polarity}", self.n)
        return Contrastive(kit=self.kit, n=n).explain(evidence, recorder)


def spent_by_tail(db: store.Database, campaign: str) -> dict[str, Spent]:
    """What a campaign spent on each tail, failed calls among it."""
    call, job, unit, owner = schema.LlmCall, schema.Investigation, schema.Unit, schema.Campaign
    query = (
        sa.select(unit.unit, call.polarity, call.purpose, sa.func.sum(call.prompt_tokens + call.completion_tokens))
        .join(job, job.id == call.investigation_id)
        .join(unit, unit.id == job.unit_id)
        .join(owner, owner.id == job.campaign_id)
        .where(owner.name == campaign)
        .group_by(unit.unit, call.polarity, call.purpose)
    )
    found: dict[str, Spent] = defaultdict(Spent)
    with db.session() as session:
        for name, polarity, purpose, tokens in session.execute(query):
            key, before = f"{name}{polarity}", found[f"{name}{polarity}"]
            if purpose == "explain":
                found[key] = Spent(before.explaining + tokens, before.contest)
            else:
                found[key] = Spent(before.explaining, before.contest + tokens)
    return dict(found)


def matched_samples(spent: Mapping[str, Spent]) -> dict[str, int]:
    """How many descriptions of each tail cost what the agent spent on it."""
    return {
        key: min(MOST, DRAWN + round(one.contest / (one.explaining / DRAWN)))
        for key, one in spent.items() if one.explaining
    }  # fmt: skip


def settings_of(arm: str, samples: Path | None = None) -> dict[str, Any]:
    """Settings of a campaign: of the 'agent', or of the 'control' with its samples."""
    if arm == "agent":
        return {"contest": {"policy": "llm"}, "explainer_options": {"n": DRAWN}}
    return {"contest": "off", "explainer_options": {"n": DRAWN, "samples": str(samples)}}
