"""What the Markdown and HTML forms of a campaign's report say in the same words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neurogloss.render.text import count, duration, interval, number, probability, share

if TYPE_CHECKING:
    from agent.reporting import CampaignReport, Check
    from agent.reporting.evidence import Claim
    from agent.reporting.sections import CostRow
    from agent.reporting.statistics import Share

#: State of a check -> mark.
MARKS = {"passed": "✔", "failed": "✘", "undecided": "?", "not applicable": "–"}
KINDS = {
    "real": "real units",
    "shuffled": "shuffled weights",
    "direction": "random direction",
    "swapped": "swapped description",
    "constant": "constant unit",
}
#: Columns of the cost table: field -> heading.
COSTS = {"seconds": "time", "tool_calls": "tool calls", "forward_passes": "passes", "tokens": "LLM tokens"}
BANNERS = {
    "green": "Every check passed.",
    "amber": "No check failed, but not all that is needed is there.",
    "red": "At least one check failed: do not rely on these descriptions before it is explained.",
}


def kind_name(kind: str) -> str:
    """What a kind of unit is called; one that has no name here goes by its own."""
    return KINDS.get(kind, kind)


def facts(report: CampaignReport) -> list[tuple[str, str]]:
    """Names and values of what was asked for, and how it stands."""
    head, counts = report.head, report.counts
    units = ", ".join(f"{count(n)} {status}" for status, n in counts.units.items()) or "none"
    controls = ", ".join(f"{count(n)} {kind_name(kind)}" for kind, n in counts.controls.items()) or "none"
    verdicts = ", ".join(f"{count(n)} {verdict}" for verdict, n in counts.verdicts.items())
    return [
        ("subject", head.subject),
        ("corpus", head.corpus),
        ("explainer", head.explainer),
        ("scorer", head.scorer),
        ("error rate", f"{head.alpha:g}, by {head.error_method}"),
        ("spec", head.spec_hash),
        ("begun", head.began or "–"),
        ("closed", head.ended or f"not closed ({count(head.pending)} units to go)"),
        ("units", units),
        ("controls", controls),
        ("descriptions", f"{count(counts.claims)}" + (f": {verdicts}" if verdicts else "")),
    ]


CHECKS = (
    "A check fails when its value exceeds its limit. Where the value is an estimate, it is the end of the 95 % "
    "interval that speaks for the campaign, so that bad luck alone rarely fails one."
)


def value_of(check: Check) -> str:
    """A check's value in few characters."""
    return "–" if check.value is None else number(check.value)


def limit_of(check: Check) -> str:
    """A check's limit in few characters."""
    return "–" if check.limit is None else number(check.limit)


def controls_sentence(report: CampaignReport) -> str:
    """Real scores against those of the controls, in a sentence or two."""
    scores = report.scores
    if len(scores.populations) == 1:
        return "No controls: nothing shows what a description without merit would have scored here."
    if scores.percentile is None:
        return "Either no real unit or no control has a score."
    told = (
        f"The median real description scores {number(scores.populations[0].median)}, above "
        f"{share(scores.percentile)} of the controls."
    )
    if scores.separated is not None:
        area = scores.separated.score
        told += (
            f" A real description scores above a control with probability {area.auc:.2f} "
            f"[{area.low:.2f}, {area.high:.2f}]; p = {probability(scores.separated.p_value)} that there is no "
            "difference in scores or in shares accepted."
        )
    return told


def errors_sentences(report: CampaignReport) -> list[str]:
    """How many accepted descriptions are expected to be false, in one sentence each way."""
    errors, alpha = report.errors, report.head.alpha
    n = errors.accepted
    told = [
        f"{count(n)} of {count(errors.tested)} tested descriptions of real units were accepted (verdict 'supported')."
    ]
    if errors.accepted_before != n:
        told[0] += f" Judged each by itself, {count(errors.accepted_before)} would have been."
    if not n:
        return told
    if errors.by_q is not None:
        told.append(
            f"By their q-values ({report.head.error_method}), {errors.by_q.expected:.1f} of them are expected to be "
            f"false, {share(errors.by_q.share)}; {count(errors.above_alpha)} have a q-value above {alpha:g}, "
            f"and {count(errors.without_q)} have none."
        )
    else:
        told.append("There are no q-values yet: they are set when the campaign closes.")
    if errors.by_controls is not None:
        told.append(
            f"By the controls, {errors.by_controls.expected:.1f} of them are expected to be false, "
            f"{share(errors.by_controls.share)} (95 % interval {errors.by_controls.low:.1f} to "
            f"{errors.by_controls.high:.1f}): the share of controls accepted times the real descriptions tested, as if "
            "none of them had merit."
        )
    naive = errors.naive
    if naive.claims:
        told.append(
            f"Naive testing at p ≤ {naive.level:g} would have accepted {count(naive.claims)} descriptions, and "
            f"{naive.expected_false:.1f} by chance alone if none had merit"
            + (
                f"; and {count(naive.controls.count)} of {count(naive.controls.total)} controls."
                if naive.controls.total
                else "."
            )
        )
    return told


def calibration_sentences(report: CampaignReport) -> list[str]:
    """How well the refine score foretells the sealed one."""
    found = report.calibration
    if found.mean_error is None:
        return ["No description has both a refine and a sealed score."]
    told = [
        f"A description's F1 on the refine split, by which it was chosen, exceeds its F1 on sealed text by "
        f"{found.mean_error:+.3f} on average; the mean absolute difference is {number(found.mean_absolute_error)}"
        + (f", the correlation {found.correlation:.2f}." if found.correlation is not None else ".")
    ]
    if found.inside.value is not None:
        told.append(
            f"The refine F1 lies inside the sealed score's 95 % interval for {count(found.inside.count)} of "
            f"{count(found.inside.total)} ({share(found.inside.value)}). Two equally noisy scores of the same thing "
            "would do so 83 % of the time; the refine split is smaller, so somewhat less is expected."
        )
    return told


P_VALUES = (
    "p-values against chance of the controls. Those of swapped descriptions and constant units should be spread "
    "evenly; a random direction or a shuffled twin still fires on some text more than on other, so a description can "
    "do better than chance on it without meeting what acceptance asks for."
)


def p_value_sentence(report: CampaignReport) -> str:
    """Whether the controls' p-values are too small, by kind."""
    told = [
        f"{kind_name(one.kind)}: {count(one.n)}, p = {probability(one.too_small)} against an even spread"
        for one in report.calibration.p_values
        if one.n
    ]
    return "; ".join(told) + "." if told else "No control has a p-value."


def cost_cells(row: CostRow) -> list[str]:
    """A row of the cost table."""
    values = [row.tool_calls, row.forward_passes, row.tokens]
    return [row.part, count(row.units), duration(row.seconds), *(count(value) for value in values)]


def price_cells(name: str, prices: dict[str, float]) -> list[str]:
    """A row of the cost table that is an average."""
    return [name, "", duration(prices["seconds"]), *(_average(prices[key]) for key in COSTS if key != "seconds")]


def _average(value: float) -> str:
    return count(value) if value >= 1000 else number(value)


def cost_rows(report: CampaignReport) -> list[list[str]]:
    """The cost table below its heading: parts, total, averages."""
    cost = report.cost
    rows = [cost_cells(row) for row in [*cost.parts, cost.total]]
    for name, prices in (("per description", cost.per_description), ("per accepted one", cost.per_supported)):
        if prices is not None:
            rows.append(price_cells(name, prices))
    return rows


def claim_score(claim: Claim) -> str:
    """A claim's F1 with its interval."""
    return interval(claim.value, claim.low, claim.high)


def share_span(found: Share) -> str:
    """A share with its exact 95 % interval."""
    return "–" if found.value is None else f"{share(found.value)} [{share(found.low)}, {share(found.high)}]"
