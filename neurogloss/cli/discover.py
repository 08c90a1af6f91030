"""``neurogloss discover``: which units respond to something, and do the predictions depend on them?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from neurogloss.cli.model import ModelCall, model_verb, texts_of
from neurogloss.cli.options import llm_settings
from neurogloss.errors import UsageError
from neurogloss.render.tables import simple_table
from neurogloss.render.text import clean, count, fit, number, score, visible

if TYPE_CHECKING:
    from agent.discover import Discovery, Found, Sets
    from agent.llm_settings import LlmSettings
    from tools.subject import Subject


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    model_verb(app, "discover")(discover)


def discover(
    call: ModelCall,
    *,
    query: Annotated[
        str | None, typer.Argument(metavar="[SENTENCE]", help='What to look for, such as "mentions of numbers".')
    ] = None,
    positive: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Texts that have it: .jsonl with a field 'text', or one a line."),
    ] = None,
    negative: Annotated[Path | None, typer.Option(metavar="FILE", help="Texts that do not.")] = None,
    units: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Where to look; may be repeated. (all neurons, heads and latents)"),
    ] = None,
    corpus: Annotated[
        str, typer.Option(metavar="SOURCE", help="Where a sentence is looked up, and units are investigated.")
    ] = "stdlib:",
    llm: Annotated[
        str | None,
        typer.Option(
            metavar="ENDPOINT",
            help="Writes texts of the sentence: openai:MODEL@URL, vllm:MODEL@URL, or vllm:MODEL to start one. "
            "(NEUROGLOSS_LLM; none: the corpus is searched for its words)",
        ),
    ] = None,
    llm_price: Annotated[
        str | None, typer.Option(metavar="IN,OUT", help="Dollars for a million tokens of prompts, answers.")
    ] = None,
    alpha: Annotated[float, typer.Option(min=0.0001, max=0.5, help="False-discovery rate of the list.")] = 0.05,
    most: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="Units to list.")] = 20,
    causal: Annotated[bool, typer.Option(help="Take the first ones away, and see what it does.")] = True,
    seed: Annotated[int, typer.Option(help="Of the halves and of the random units.")] = 0,
    investigate: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Then describe the confirmed ones: run a campaign of this name on them."),
    ] = None,
) -> None:
    """Find the units that respond to something: from two sets of texts, or from a sentence.

    Units are chosen on one half of the texts, false discoveries controlled over all units and both tails; the figures
    that are shown are of the other half. The first ones are then taken away on texts with and without it, beside random
    units of the same layer: ⚡ marks those that the predictions depend on there and not elsewhere.

    [bold]Examples[/bold]

      neurogloss discover --positive numbers.txt --negative others.txt
      neurogloss discover "raise ValueError" --units 'mlp:*:*'
      neurogloss discover "mentions of numbers" --llm vllm:MODEL@http://host:8000
      neurogloss discover "import statements" --investigate imports
    """
    if (query is None) == (positive is None and negative is None):
        raise UsageError("Say what to look for: a sentence, or two files, --positive and --negative.")
    if query is None and (positive is None or negative is None):
        raise UsageError("Two sets of texts are needed: --positive FILE and --negative FILE.")
    sets = None
    if positive is not None and negative is not None:
        from agent.discover import Sets

        sets = Sets(_lines(positive), _lines(negative), f"{positive.name} against {negative.name}")
    subject = call.load()
    from agent import discover as discovery
    from tools.units import expand

    patterns = units or _everything(subject)
    chosen = list(dict.fromkeys(unit for pattern in patterns for unit in expand(subject, pattern)))
    if sets is None:
        assert query is not None
        model = llm_settings(llm or call.settings.llm, llm_price)
        if model is None:
            call.err.print(Text("Looked up by its words; a language model (--llm) writes texts of its meaning.", "dim"))
        sets = _looked_up(query, corpus, subject) if model is None else _written(call, query, model)
    with Progress(TextColumn("{task.description}"), BarColumn(), console=call.err, transient=True) as bar:
        tasks: dict[str, int] = {}

        def told(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)  # type: ignore[arg-type]

        found = discovery.discover(
            subject, chosen, sets, alpha=alpha, most=most, causal=causal, seed=seed, progress=told
        )
    call.emit(found.to_json(), *_page(found))
    if investigate is not None:
        _investigate(call, found, investigate, corpus, subject)


def _lines(file: Path) -> tuple[str, ...]:
    if file.suffix in (".jsonl", ".json"):
        return tuple(texts_of(None, file))
    [whole] = texts_of(None, file)
    return tuple(dict.fromkeys(line.strip() for line in whole.splitlines() if line.strip()))


def _everything(subject: Subject) -> list[str]:
    from tools.kinds import kind_of

    return [f"{kind}:*:*" for kind in ("mlp", "head") if kind_of(f"{kind}:0").groups(subject)] + [
        f"sae:{name}:*" for name in sorted(subject.dictionaries)
    ]


def _written(call: ModelCall, query: str, settings: LlmSettings) -> Sets:
    """Texts that the language model writes; what they cost is told."""
    from agent.chat.model import open_talker
    from agent.discover import sets_from_model
    from explainers.llm.accounts import charged_to
    from explainers.llm.budget import Limits
    from explainers.llm.types import MemoryAccount

    account, logs = MemoryAccount(), call.settings.home.expanduser() / "logs"
    with open_talker(settings, limits=Limits(), logs=logs) as model, charged_to(account):
        sets = sets_from_model(query, model)
    tokens = sum(one.usage.prompt_tokens + one.usage.completion_tokens for one in account.calls)
    dollars = "" if settings.price is None else f", ${sum(one.cost_usd or 0.0 for one in account.calls):.4f}"
    call.err.print(Text(f"{clean(settings.model)} wrote the texts: {count(tokens)} tokens{dollars}", "dim"))
    return sets


def _looked_up(query: str, corpus: str, subject: Subject) -> Sets:
    from agent.discover import sets_from_corpus
    from tools.corpora import load_corpus

    return sets_from_corpus(query, load_corpus(corpus), subject)


def _page(found: Discovery) -> list[RenderableType]:
    confirmed = sum(one.confirmed for one in found.found)
    head = [
        Text.assemble((clean(found.source), "bold")),
        Text(
            f"{count(found.units)} units of {clean(found.subject)}, both tails, on {found.positive} and "
            f"{found.negative} texts",
            "dim",
        ),
        Text(f"such as “{fit(visible(found.examples[0]), 60)}”", "dim"),
        Text(),
    ]
    if not found.found:
        return [*head, Text(f"No unit tells them apart (false-discovery rate {found.alpha:.0%}).")]
    table = simple_table(
        ("", "left"), ("unit", "left"), ("AUROC [95 %]", "right"), ("q", "right"), ("with", "right"),
        ("without", "right"), ("KL", "right"),
    )  # fmt: skip
    for one in found.found:
        table.add_row(*_line(one))
    causal = [one for one in found.found if one.cause is not None]
    tail = [
        Text(),
        Text(f"✔ {confirmed} of {len(found.found)} confirmed on texts that did not choose them.", "dim"),
    ]
    if causal:
        depends = sum(one.cause is not None and one.cause.causal for one in causal)
        tail.append(
            Text(f"⚡ {depends} of the {len(causal)} that were taken away matter there more than elsewhere.", "dim")
        )
        tail.append(Text("KL: what that changes of the next token on texts with it, nats a token.", "dim"))
    return [*head, table, *tail]


def _line(one: Found) -> list[str]:
    cause = one.cause
    mark = ("✔" if one.confirmed else "~") + ("⚡" if cause is not None and cause.causal else "")
    return [
        mark, f"{one.unit}{one.polarity}", f"{score(one.auroc)} [{score(one.low)}, {score(one.high)}]",
        f"{one.q_value:.2g}", number(one.mean_positive), number(one.mean_negative),
        "" if cause is None else number(cause.kl_positive),
    ]  # fmt: skip


def _investigate(call: ModelCall, found: Discovery, name: str, corpus: str, subject: Subject) -> None:
    wanted = tuple(dict.fromkeys(one.unit for one in found.found if one.confirmed))
    if not wanted:
        raise UsageError("There is nothing to investigate: no unit was confirmed.")
    from agent import load_spec, run_campaign
    from neurogloss.cli.interrupt import stopping_on_ctrl_c
    from neurogloss.cli.watch import Watcher
    from neurogloss.render.progress import make_display

    settings = {
        "name": name, "subject": call.choice.subject or subject.name, "corpus": corpus, "units": wanted,
        "dictionaries": dict(call.choice.dictionaries) or None, "dtype": call.choice.dtype,
        "device": call.choice.device,
    }  # fmt: skip
    spec = load_spec(None, settings)
    with make_display(call.err) as display, stopping_on_ctrl_c(display) as stop, call.database() as database:
        run_campaign(spec, db=database, home=call.settings.home.expanduser(), observer=Watcher(display), stop=stop)
    call.err.print(Text(f"See neurogloss units --campaign {name}", "dim"))
