"""The tools `logit_lens` and `read_lens`: what streams and read directions say through the vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from agent.plain import short
from agent.toolbox.base import Arguments, Finding
from agent.toolbox.fields import Layers, Text, TopK, Unit
from agent.toolbox.registry import tool
from agent.toolbox.texts import encoded, token_of
from agent.toolbox.workbench import Workbench
from tools import lenses
from tools.errors import SubjectError, UnitError
from tools.lenses.logit import LensReading, layer_sites, logit_lens
from tools.lenses.tuned import TunedLens, lens_path
from tools.subject import Subject
from tools.types import Site, UnitId

#: Cells (layers times positions) of one reading.
MOST_CELLS = 4_000
Streams = Annotated[
    Literal["alone", "embedding"],
    Field(description="What stands for a token: its stream where the unit reads, alone after the first token of a "
          "text; or its embedding."),
]  # fmt: skip


class LogitLensArguments(Arguments):
    """Arguments of `logit_lens`."""

    text: Text
    target: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None, description="The token to look up everywhere; left out: each position's next token of the text."
    )
    layers: Layers | None = Field(default=None, description="Layers whose outputs to read; left out: all.")
    middle: bool = Field(default=False, description="Read the stream between attention and the MLP as well.")
    tuned: bool = Field(
        default=False, description="Read through the tuned lens of the data folder, which `fit_tuned_lens` makes."
    )
    k: TopK = 3


class ReadLensArguments(Arguments):
    """Arguments of `read_lens`."""

    unit: Unit
    streams: Streams = "alone"
    k: TopK = 10


def kept_lens(home: Path | None, subject: Subject) -> TunedLens:
    """The tuned lens that a data folder has of a subject.

    Raises:
        SubjectError: It has none.
    """
    place = None if home is None else lens_path(home, subject)
    if place is None or not place.is_file():
        raise SubjectError(
            f"No tuned lens of '{subject.name}' was fitted yet. Fit one: neurogloss lens --fit CORPUS, or the tool "
            "fit_tuned_lens."
        )
    return TunedLens.load(place, subject)


def lens_reading(subject: Subject, arguments: LogitLensArguments, home: Path | None = None) -> LensReading:
    """What `logit_lens` is asked for.

    Args:
        subject: The model.
        arguments: The request.
        home: The data folder, which has the tuned lens.

    Raises:
        UnitError: A layer or the stream between is not there, or there are too many cells.
        SubjectError: The text has no tokens, the target is not one token, or no lens was fitted.
    """
    tuned = kept_lens(home, subject) if arguments.tuned else None
    (ids,), _ = encoded(subject, [arguments.text])
    sites = layer_sites(subject)
    if arguments.layers is not None:
        sites = [Site(layer, "resid_post") for layer in dict.fromkeys(arguments.layers)]
    if arguments.middle:
        sites = [s for site in sites for s in _with_middle(site)]
    if len(sites) * len(ids) > MOST_CELLS:
        raise UnitError(
            f"{len(sites)} streams at {len(ids)} positions are more than the {MOST_CELLS:,} cells of one answer. Give "
            "a shorter text, or name fewer layers."
        )
    target = None if arguments.target is None else token_of(subject, arguments.target)
    return logit_lens(subject, ids, sites=sites, target=target, k=arguments.k, tuned=tuned)


def _with_middle(site: Site) -> list[Site]:
    return [Site(site.layer, "resid_mid"), site] if site.kind == "resid_post" else [site]


@tool("logit_lens", LogitLensArguments)
def logit_lens_tool(workbench: Workbench, arguments: LogitLensArguments) -> Finding:
    """Reads the residual stream of every layer at every position of a text as if it were the last one: which tokens it
    would predict, how likely and of what rank the target is there, the prediction's entropy, and its divergence from
    the model's own. Use it to see in which layer, and where, a prediction is made.
    """
    found = lens_reading(workbench.subject, arguments, workbench.home)
    last = found.rank[:, -1].tolist()
    # A rank of 0 counts from where it stays so.
    settled = next((i for i in range(len(last)) if not any(last[i:])), None)
    where = "in no layer" if settled is None else f"from {found.sites[settled]} on"
    summary = f"at the last position {found.targets[-1]!r} is the likeliest token {where}"
    rows = [
        {
            "site": site,
            "positions": [
                {
                    "top": [{"token": piece, "probability": short(p)} for piece, p in found.top[row][column]],
                    "probability": short(found.probability[row, column]),
                    "rank": int(found.rank[row, column]),
                    "entropy": short(found.entropy[row, column]),
                    "divergence": short(found.divergence[row, column]),
                }
                for column in range(len(found.tokens))
            ],
        }
        for row, site in enumerate(found.sites)
    ]
    data = {"tokens": list(found.tokens), "targets": list(found.targets), "tuned": found.tuned, "sites": rows}
    return Finding(summary, data)


@tool("read_lens", ReadLensArguments)
def read_lens_tool(workbench: Workbench, arguments: ReadLensArguments) -> Finding:
    """Reads off the weights which tokens excite a unit most and least when they come alone, and which tokens its read
    direction would predict: a unit that looks for what others wrote to predict a token shows that token there. It is
    for neurons, and for latents and directions of the residual stream.
    """
    unit = UnitId.parse(arguments.unit)
    found = lenses.read_lens(workbench.subject, unit, arguments.k, arguments.streams)
    if found is None:
        raise UnitError(f"'{unit}' has no single direction that it reads from the residual stream.")
    told = ", ".join(repr(piece) for piece, _ in found.exciting.promoted[:6])
    data = {"exciting": _sides(found.exciting)}
    if found.unembedding is not None:
        data["unembedding"] = _sides(found.unembedding)
    return Finding(f"{unit} is excited most by {told}", data)


def _sides(found: lenses.Promotion) -> dict[str, list[dict[str, object]]]:
    def rows(pairs: tuple[tuple[str, float], ...]) -> list[dict[str, object]]:
        return [{"token": piece, "score": short(score)} for piece, score in pairs]

    return {"most": rows(found.promoted), "least": rows(found.suppressed)}
