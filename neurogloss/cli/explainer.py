"""``neurogloss explainer``: which explainers there are, and the language models that they ask."""

from __future__ import annotations

import os
import shlex
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from neurogloss.cli.options import Call, unwrapped, verb
from neurogloss.errors import ExitCode, UsageError
from neurogloss.render.tables import facts, simple_table
from neurogloss.render.text import clean, count, duration, verbatim

if TYPE_CHECKING:
    from explainers.llm.check import Report
    from explainers.llm.endpoints import Endpoint
    from explainers.registry import Offer

app = typer.Typer(
    no_args_is_help=True,
    help=unwrapped(
        """Explainers, and the language models that some of them ask.

    A campaign starts and stops a model by itself (--explainer vllm:MODEL). Serve one ahead to use it for several
    campaigns, or check what a server that runs already can do.

    [bold]Examples[/bold]

      neurogloss explainer list
      neurogloss explainer serve Qwen/Qwen3-8B --port 8000
      neurogloss explainer check http://127.0.0.1:8000"""
    ),
)

_SHARING, _TALKING = "Memory and speed", "Where it listens"
_WORDS = {
    "models": "models", "chat": "chat", "json_schema": "JSON schema", "choice": "choice", "logprobs": "logprobs",
    "prompt_logprobs": "prompt logprobs", "tools": "tool calls", "streaming": "streaming", "embeddings": "embeddings",
}  # fmt: skip
#: What is done without an ability.
_INSTEAD = {
    "chat": "Nothing can be asked of it: this endpoint cannot explain.",
    "json_schema": "No JSON schema: the form is asked for in words, so more answers need a second turn.",
    "prompt_logprobs": "No prompt logprobs: --predictor simulation falls back to levels.",
    "tools": "No tool calls: enough for campaigns; vLLM needs --tool-parser for them.",
    "embeddings": "No embeddings: hard negatives go by words in common, or by --embeddings from elsewhere.",
}


def serve(
    call: Call,
    *,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A folder with safetensors, or a hub id.")],
    extra: Annotated[
        list[str] | None, typer.Argument(metavar="VLLM_OPTION", help="Further options of vLLM itself, after --.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, rich_help_panel=_TALKING, help="Port. (one that is free)")
    ] = None,
    host: Annotated[
        str,
        typer.Option(rich_help_panel=_TALKING, help="Address. One that others can reach needs NEUROGLOSS_LLM_KEY."),
    ] = "127.0.0.1",
    name: Annotated[
        str | None, typer.Option(rich_help_panel=_TALKING, help="Name to ask for. (the hub's, or folder and digest)")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(rich_help_panel=_SHARING, help="auto, bfloat16, float16, float32. (the model's)")
    ] = None,
    max_model_len: Annotated[
        int | None,
        typer.Option(
            min=256,
            metavar="TOKENS",
            rich_help_panel=_SHARING,
            help="Prompt and answer together. (all the model knows)",
        ),
    ] = None,
    tensor_parallel_size: Annotated[
        int, typer.Option(min=1, metavar="GPUS", rich_help_panel=_SHARING, help="GPUs that share the model.")
    ] = 1,
    gpu_memory: Annotated[
        float | None,
        typer.Option(
            min=0.05,
            max=1.0,
            metavar="SHARE",
            rich_help_panel=_SHARING,
            help="Part of each GPU that vLLM takes. (0.6, which leaves room for a subject)",
        ),
    ] = None,
    tool_parser: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="How the model writes tool calls, to allow them: hermes, llama3_json, …"),
    ] = None,
    log: Annotated[Path | None, typer.Option(metavar="FILE", help="Where vLLM's log goes. (standard error)")] = None,
    python: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Interpreter that has vLLM. (NEUROGLOSS_VLLM_PYTHON, else this one)"),
    ] = None,
) -> None:
    """Serve a language model with vLLM until Ctrl-C.

    vLLM gets the flags this work wants: prompts cached by their beginnings, answers held to a JSON schema, prompt
    log-probabilities allowed. It listens on this machine only. When it is healthy, its endpoint is printed; give that
    to a campaign as --explainer. Its log goes to standard error, with keys blotted out. However this command ends,
    vLLM ends with it.

    [bold]Examples[/bold]

      neurogloss explainer serve Qwen/Qwen3-8B --port 8000
      neurogloss explainer serve ./my-llama --dtype float32 --max-model-len 8192
      neurogloss explainer serve MODEL -- --reasoning-parser qwen3
    """  # fmt: skip
    from explainers.llm.endpoints import KEY, is_loopback
    from explainers.llm.serve import VllmServer

    key = None
    if not is_loopback(host):
        key = os.environ.get(KEY, "").strip()
        if not key:
            raise UsageError(
                f"At {host} others can reach the server, so it needs a key: set {KEY}, for the server and for clients."
            )

    def told(stage: str, seconds: float) -> None:
        call.err.print(Text(f"{stage} … {duration(seconds)}" if stage != "ready" else "ready", "dim"))

    def line(text: str) -> None:
        call.err.print(Text(verbatim(text), "dim"), soft_wrap=True)

    server = VllmServer(
        model, port=port, dtype=dtype, max_model_len=max_model_len, tensor_parallel=tensor_parallel_size,
        gpu_memory=gpu_memory, served_name=name, tool_parser=tool_parser, host=host, key=key,
        log=log if log is not None else line, progress=told, python=python, extra=extra or (),
    )  # fmt: skip
    with _ended_by_sigterm(), server:
        about = {
            "endpoint": server.endpoint, "url": server.url, "model": server.model, "key": key is not None,
            "vllm": f"{server.vllm.distribution} {server.vllm.version}", "command": server.command,
        }  # fmt: skip
        try:
            call.emit(
                about,
                Text(server.endpoint, "bold"),
                Text("Ctrl-C stops it. To use it: neurogloss campaign run demo --explainer", "dim"),
                Text(f"  {shlex.quote(server.endpoint)}", "dim"),
            )
            call.out.file.flush()
            while not server.wait(0.5):
                pass
        except KeyboardInterrupt:
            call.err.print(Text("Stopping vLLM.", "yellow"))
            return
        server.require_alive()


def list_(
    call: Call,
    *,
    url: Annotated[
        str | None, typer.Argument(metavar="URL", help="An endpoint, with or without /v1: list its models instead.")
    ] = None,
) -> None:
    """List the explainers there are or, with a URL, the models that an endpoint serves.

    [bold]Examples[/bold]

      neurogloss explainer list
      neurogloss explainer list http://127.0.0.1:8000
    """
    if url is None:
        from explainers.registry import offers

        found = offers()
        call.emit(
            found, _offers(found), Text(),
            Text("Those with ✔ ask a language model: --explainer NAME --llm ENDPOINT", "dim"),
        )  # fmt: skip
        return
    from explainers.llm.check import list_models

    models = list_models(_address(url))
    call.emit(models, _models(models), Text(), Text(f"What one can do: neurogloss explainer check {url}", "dim"))


def check(
    call: Call,
    *,
    url: Annotated[
        str,
        typer.Argument(metavar="URL", help="An endpoint: http://HOST:PORT, with or without /v1, or KIND:MODEL@URL."),
    ],
    model: Annotated[str | None, typer.Option(metavar="NAME", help="Which of its models. (the first it lists)")] = None,
    timeout: Annotated[float, typer.Option(min=1, metavar="SECONDS", help="For each request.")] = 120.0,
) -> None:
    """Find out what an endpoint can do, by trying it.

    Sends one small request of each shape: chat, JSON schema, choice, log-probabilities of the answer and of the
    prompt, a tool call, streaming, embeddings. Each asks for something that no model says by chance, so that a server
    which passes over a schema is not taken for one that heeds it. --json shows what was sent.

    Ends with status 2 when the endpoint cannot be used at all. The key comes from NEUROGLOSS_LLM_KEY or OPENAI_API_KEY.

    [bold]Examples[/bold]

      neurogloss explainer check http://127.0.0.1:8000
      neurogloss explainer check https://api.example.com/v1 --model NAME --json
    """
    from explainers.llm.check import check as try_all

    named = _named(url)
    report = try_all(_address(url), model or (named.model if named else None), timeout=timeout)
    call.emit(report, *_report(report))
    if not report.usable:
        raise typer.Exit(int(ExitCode.USAGE))


verb(app, "list")(list_)
verb(app, "serve")(serve)
verb(app, "check")(check)


def _named(url: str) -> Endpoint | None:
    """An endpoint that is given as campaigns name it, KIND:MODEL@URL."""
    from explainers.llm.endpoints import KINDS, parse_endpoint

    if url.partition(":")[0] not in KINDS:
        return None
    endpoint = parse_endpoint(url)
    if endpoint.url is None:
        raise UsageError(f"'{url}' does not run yet. Start it: neurogloss explainer serve {endpoint.model}")
    return endpoint


def _address(url: str) -> str:
    """A URL, also when it was given as `HOST:PORT` or as an endpoint."""
    named = _named(url)
    if named is not None:
        return named.url or ""
    return url if "://" in url else f"http://{url}"


def _offers(found: Sequence[Offer]) -> Table:
    table = simple_table(("explainer", "left"), ("LLM", "left"), ("what it does", "left"))
    table.columns[2].no_wrap = False
    table.columns[2].overflow = "fold"
    for offer in found:
        table.add_row(offer.name, "✔" if offer.needs_llm else "", clean(offer.summary))
    return table


def _models(models: Sequence[Mapping[str, Any]]) -> Table:
    table = simple_table(("model", "left"), ("context", "right"), ("by", "left"), grow="model")
    for one in models:
        length = one.get("max_model_len")
        shown = count(length) if isinstance(length, int) else "–"
        table.add_row(clean(str(one["id"])), shown, clean(str(one.get("owned_by") or "–")))
    return table


def _report(report: Report) -> list[Any]:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1, overflow="fold")
    table.add_column(justify="right", no_wrap=True)
    for finding in report.findings:
        mark = Text("✔", "green") if finding.works else Text("✘", "red" if finding.name == "chat" else "yellow")
        table.add_row(mark, _WORDS[finding.name], clean(finding.told), duration(finding.seconds))
    lacking = [f.name for f in report.findings if not f.works]
    notes = [Text(_INSTEAD[name], "red" if name == "chat" else "dim") for name in lacking if name in _INSTEAD]
    if "chat" in lacking:
        notes = notes[:1]
    head = facts(("endpoint", report.url), ("model", report.model))
    return [head, Text(), table, *([Text(), *notes] if notes else [])]


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM does what Ctrl-C does: the server is stopped before this process ends."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_signal(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    earlier = signal.signal(signal.SIGTERM, on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)
