"""A campaign's report as one HTML file: styles and plots inside, nothing loaded from anywhere, no scripts."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import jinja2
from markupsafe import Markup

from neurogloss.render import report_llm, report_output, report_predictions
from neurogloss.render import report_plots as plots
from neurogloss.render import report_words as words
from neurogloss.render.text import clean, count, number, share

if TYPE_CHECKING:
    from agent.reporting import CampaignReport


@functools.cache
def _template() -> jinja2.Template:
    # Everything is escaped, whatever the template's name: labels and reasons come from corpora and models.
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("neurogloss.render", "templates"), autoescape=True, trim_blocks=True,
        lstrip_blocks=True, undefined=jinja2.StrictUndefined, finalize=_shown,
    )  # fmt: skip
    environment.filters.update(count=count, number=number, share=share)
    return environment.get_template("report.html")


def _shown(value: object) -> object:
    """Text with its control characters made visible; markup is ours and stays as it is."""
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def report_html(report: CampaignReport) -> str:
    """The whole report."""
    return _template().render(
        report=report,
        words=words,
        llm=report_llm,
        output=report_output,
        predictions=report_predictions,
        # matplotlib escapes the text that it draws.
        scores_plot=Markup(plots.scores_plot(report)),
        calibration_plot=Markup(plots.calibration_plot(report)),
        predictions_plot=Markup(plots.predictions_plot(report)),
        p_values_plot=Markup(plots.p_values_plot(report)),
    )
