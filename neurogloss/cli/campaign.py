"""``neurogloss campaign``: describe a set of units, see what came of it, go on with it."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from neurogloss.cli import replay, report
from neurogloss.cli.options import Call, pairs, prices, unwrapped, values, verb
from neurogloss.errors import UsageError
from neurogloss.render.campaign import campaign_list, campaign_page

app = typer.Typer(
    no_args_is_help=True,
    help=unwrapped(
        """Campaigns: a set of units, a plan and a budget.

    [bold]Examples[/bold]

      neurogloss campaign run demo
      neurogloss campaign run --subject ./model --corpus a.jsonl --units 'mlp:2:*'
      neurogloss campaign show demo"""
    ),
)

_WHAT, _HOW, _BUDGET = "What to describe", "How to describe it", "When to stop"
_LLM = "Language models"


def run(
    call: Call,
    *,
    spec: Annotated[
        str | None, typer.Argument(metavar="SPEC", help="A YAML file, or the name of a built-in campaign: demo.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", rich_help_panel=_WHAT, help="What to call it in the database.")
    ] = None,
    subject: Annotated[
        str | None,
        typer.Option(metavar="MODEL", rich_help_panel=_WHAT, help="Built-in name (pycode), folder or hub id."),
    ] = None,
    units: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", rich_help_panel=_WHAT, help="Units, such as 'mlp:2:*'; may be repeated."),
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", rich_help_panel=_WHAT, help="Only so many units of each layer or dictionary."),
    ] = None,
    dictionary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FOLDER",
            rich_help_panel=_WHAT,
            help="Sparse dictionary (SAELens format); its latents are sae:NAME:*; may be repeated.",
        ),
    ] = None,
    corpus: Annotated[
        str | None,
        typer.Option(
            metavar="CORPUS", rich_help_panel=_WHAT, help="stdlib:, a .jsonl, .txt or .parquet file, a folder, hf:NAME."
        ),
    ] = None,
    corpus_limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", rich_help_panel=_WHAT, help="Take at most so many documents.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, metavar="N", rich_help_panel=_WHAT, help="Index at most so many tokens.")
    ] = None,
    explainer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            rich_help_panel=_HOW,
            help="Who describes; see explainer list. Or an endpoint, as for --llm. (pattern, which needs no LLM)",
        ),
    ] = None,
    explainer_option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", rich_help_panel=_HOW, help="Option of the explainer, such as n=4."),
    ] = None,
    llm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ENDPOINT",
            rich_help_panel=_LLM,
            help="vllm:MODEL (started for the campaign) or openai:MODEL@URL; repeated: they share the load.",
        ),
    ] = None,
    llm_concurrency: Annotated[
        int | None, typer.Option(min=1, metavar="N", rich_help_panel=_LLM, help="Calls in flight at most. (32)")
    ] = None,
    llm_price: Annotated[
        str | None,
        typer.Option(
            metavar="PROMPT,ANSWER[,CACHED]",
            rich_help_panel=_LLM,
            help="US dollars for a million tokens, to count money.",
        ),
    ] = None,
    predictor: Annotated[
        str | None,
        typer.Option(
            metavar="marks|simulation|levels", rich_help_panel=_LLM, help="How words become predictions. (marks)"
        ),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", rich_help_panel=_LLM, help="Prompt files that take the place of the built-in."),
    ] = None,
    embeddings: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            rich_help_panel=_LLM,
            help="For hard negatives: endpoint, openai:MODEL@URL, sentence-transformers:NAME. (words in common)",
        ),
    ] = None,
    diagnostics: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", rich_help_panel=_LLM, help="Further tests: detection, fuzzing, …; may be repeated."
        ),
    ] = None,
    scorer: Annotated[
        str | None,
        typer.Option(metavar="NAME", rich_help_panel=_HOW, help="How descriptions are tested. (simulation)"),
    ] = None,
    interchange: Annotated[
        bool,
        typer.Option(
            "--interchange",
            rich_help_panel=_HOW,
            help="Also exchange units between texts that differ in what the rule says. (slow)",
        ),
    ] = False,
    contest: Annotated[
        str | None,
        typer.Option(
            metavar="auto|pattern|llm|off",
            rich_help_panel=_HOW,
            help="Who thinks of trials that tell rival descriptions apart. (auto: what fits the explainer)",
        ),
    ] = None,
    rivals_from: Annotated[
        list[str] | None,
        typer.Option(
            metavar="output|database",
            rich_help_panel=_HOW,
            help="Rivals from what a unit writes (default), or from finished campaigns too; may be repeated.",
        ),
    ] = None,
    scoring: Annotated[
        str | None,
        typer.Option(
            metavar="fixed|sequential",
            rich_help_panel=_HOW,
            help="Test on the whole sealed sample, or stop as soon as it is decided.",
        ),
    ] = None,
    controls: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            metavar="SHARE",
            rich_help_panel=_HOW,
            help="Blind controls that must fail, relative to the units; 0 for none. (0.1)",
        ),
    ] = None,
    error_method: Annotated[
        str | None,
        typer.Option(
            metavar="bh|by|storey|e-bh",
            rich_help_panel=_HOW,
            help="How the share of false descriptions is kept below alpha.",
        ),
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, metavar="RATE", rich_help_panel=_HOW, help="Share of false descriptions allowed. (0.05)"
        ),
    ] = None,
    polarity: Annotated[
        str | None, typer.Option(metavar="both|+|-", rich_help_panel=_HOW, help="Which side of the activation.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="DEVICE", rich_help_panel=_HOW, help="auto, cpu, cuda, cuda:1, mps.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(metavar="DTYPE", rich_help_panel=_HOW, help="auto, float32, bfloat16, float16.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", rich_help_panel=_HOW, help="Investigations at once.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", rich_help_panel=_HOW, help="Seed of every random choice.")
    ] = None,
    shuffle_weights: Annotated[
        int | None,
        typer.Option(
            metavar="SEED",
            rich_help_panel=_HOW,
            help="Control: study the model with its weights shuffled; nothing should be found.",
        ),
    ] = None,
    budget_units: Annotated[
        int | None, typer.Option(min=1, metavar="N", rich_help_panel=_BUDGET, help="Describe at most so many units.")
    ] = None,
    budget_seconds: Annotated[
        float | None,
        typer.Option(
            min=0, metavar="SECONDS", rich_help_panel=_BUDGET, help="Spend at most so many seconds describing."
        ),
    ] = None,
    budget_tool_calls: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", rich_help_panel=_BUDGET, help="Ask the model and its index so often at most."),
    ] = None,
    budget_llm_calls: Annotated[
        int | None, typer.Option(min=1, metavar="N", rich_help_panel=_BUDGET, help="Call language models so often.")
    ] = None,
    budget_llm_tokens: Annotated[
        int | None, typer.Option(min=1, metavar="N", rich_help_panel=_BUDGET, help="Tokens of language models.")
    ] = None,
    budget_llm_dollars: Annotated[
        float | None, typer.Option(min=0, metavar="USD", rich_help_panel=_BUDGET, help="Money; needs --llm-price.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", rich_help_panel=_BUDGET, help="Print the estimate of the cost and stop.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", rich_help_panel=_BUDGET, help="Do not ask, however long it will take.")
    ] = False,
) -> None:
    """Describe units and test the descriptions.

    The campaign is a YAML file, a built-in one, or made of the options below; options win over the file. Ctrl-C stops
    it cleanly; the same command, or 'campaign resume', goes on where it stopped and does nothing twice.

    [bold]Examples[/bold]

      neurogloss campaign run demo
      neurogloss campaign run plan.yaml --workers 4
      neurogloss campaign run demo --dry-run
      neurogloss campaign run --subject gpt2 --corpus stdlib: --units 'mlp:5:*'
      neurogloss campaign run demo --explainer vllm:./my-llama
    """
    if spec is None and subject is None:
        raise UsageError(
            "What is to be described? Give a YAML file, 'demo' for the built-in campaign, or at least\n"
            "--subject MODEL --corpus CORPUS --units PATTERN. See neurogloss campaign run --help."
        )
    call.load_libraries()
    from agent.spec import load_spec
    from neurogloss.cli.running import run_campaign

    overrides: dict[str, Any] = {
        "name": name, "subject": subject, "units": units or None, "sample": sample,
        "dictionaries": dict(pairs(dictionary, "--dictionary")) or None, "corpus": corpus,
        "corpus_limit": corpus_limit, "max_tokens": max_tokens, "explainer": explainer,
        "explainer_options": values(explainer_option, "--explainer-option"), "scorer": scorer,
        "contest": "off" if contest == "off" else {"policy": contest}, "rivals_from": rivals_from or None,
        "scoring": scoring, "controls": controls, "error_method": error_method, "alpha": alpha, "polarity": polarity,
        "device": device, "dtype": dtype, "workers": workers, "seed": seed, "shuffle_weights": shuffle_weights,
        "diagnostics": diagnostics or None, "interchange": interchange or None,
        "llm": {
            "endpoints": llm or None, "concurrency": llm_concurrency, "price": prices(llm_price),
            "predictor": predictor, "prompts": prompts, "embeddings": embeddings,
        },
        "budget": {
            "units": budget_units, "seconds": budget_seconds, "tool_calls": budget_tool_calls,
            "llm_calls": budget_llm_calls, "llm_tokens": budget_llm_tokens, "llm_dollars": budget_llm_dollars,
        },
    }  # fmt: skip
    run_campaign(call, load_spec(spec, overrides), dry_run=dry_run, yes=yes)


def resume(
    call: Call,
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A campaign of the database; see campaign list.")],
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", rich_help_panel=_HOW, help="Investigations at once.")
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", rich_help_panel=_HOW, help="Try once more what had failed for good.")
    ] = False,
    budget_units: Annotated[
        int | None, typer.Option(min=1, metavar="N", rich_help_panel=_BUDGET, help="New limit, over all runs.")
    ] = None,
    budget_seconds: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", rich_help_panel=_BUDGET, help="New limit, over all runs.")
    ] = None,
    budget_tool_calls: Annotated[
        int | None, typer.Option(min=1, metavar="N", rich_help_panel=_BUDGET, help="New limit, over all runs.")
    ] = None,
    budget_llm_calls: Annotated[
        int | None, typer.Option(min=1, metavar="N", rich_help_panel=_BUDGET, help="New limit, over all runs.")
    ] = None,
    budget_llm_tokens: Annotated[
        int | None, typer.Option(min=1, metavar="N", rich_help_panel=_BUDGET, help="New limit, over all runs.")
    ] = None,
    budget_llm_dollars: Annotated[
        float | None, typer.Option(min=0, metavar="USD", rich_help_panel=_BUDGET, help="New limit, over all runs.")
    ] = None,
    llm: Annotated[
        list[str] | None,
        typer.Option(metavar="ENDPOINT", rich_help_panel=_LLM, help="Where the same model is served now."),
    ] = None,
) -> None:
    """Go on with a campaign where it stopped, with the settings that it was begun with.

    [bold]Examples[/bold]

      neurogloss campaign resume demo
      neurogloss campaign resume demo --budget-units 500
    """
    import store

    with call.database() as database:
        known = store.get_campaign(database, name)

    call.load_libraries()
    from agent.campaign import resume_spec
    from neurogloss.cli.running import run_campaign

    limits = {
        "units": budget_units, "seconds": budget_seconds, "tool_calls": budget_tool_calls,
        "llm_calls": budget_llm_calls, "llm_tokens": budget_llm_tokens, "llm_dollars": budget_llm_dollars,
    }  # fmt: skip
    changed: dict[str, Any] = {
        "budget": {**known.budget, **{limit: value for limit, value in limits.items() if value is not None}}
    }
    if workers is not None:
        changed["workers"] = workers
    if llm and known.spec.get("llm"):
        changed["llm"] = {**known.spec["llm"], "endpoints": llm}
    spec = resume_spec(known, changed)
    run_campaign(call, spec, dry_run=False, yes=True, retry_failed=retry_failed)


def list_(call: Call) -> None:
    """List the campaigns of the database, newest first."""
    from store.queries import list_campaigns

    with call.database() as database:
        rows = list_campaigns(database)
    empty = Text("There is no campaign yet. Begin with: neurogloss campaign run demo")
    call.emit(rows, campaign_list(rows) if rows else empty)


def show(
    call: Call,
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A campaign of the database; see campaign list.")],
    limit: Annotated[int, typer.Option(min=0, help="Best-supported descriptions to show.")] = 15,
) -> None:
    """Say what came of a campaign: by kind of unit, verdicts, medians, failures with reasons, budget, best results.

    [bold]Example[/bold]

      neurogloss campaign show demo
    """
    told, *page = summary_of(call, name, limit)
    call.emit(told, *page)


def summary_of(call: Call, name: str, limit: int) -> list[Any]:
    """A campaign's summary as a value for JSON, followed by the renderables of its page."""
    from store.queries import best_descriptions, campaign_summary

    with call.database() as database:
        summary = campaign_summary(database, name)
        best = best_descriptions(database, campaign=name, limit=limit) if limit else []
    page: list[RenderableType] = campaign_page(summary, best, width=call.out.width, command=call.command)
    return [{"summary": summary, "best": best}, *page]


verb(app, "run")(run)
verb(app, "list")(list_)
verb(app, "show")(show)
verb(app, "resume")(resume)
report.register(app)
replay.register_campaign(app)
