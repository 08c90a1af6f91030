"""What language models cost a campaign, and how busy a campaign keeps them.

    python -m benchmarks.llm tokens [DATABASE CAMPAIGN] [--tokenizer tekken|FOLDER]
    python -m benchmarks.llm throughput [--units N] [--concurrency N] [--workers N]

`tokens` takes the ledger of a finished campaign, or runs one on the built-in model against the programmable server:
tokens per description by purpose and asker, and how much of the prompts an earlier prompt of the campaign began with
(vLLM's rule, blocks of 16). What is asked for by the default settings stands beside detection and fuzzing, which are
asked for on top, and beside the published cost of such a pipeline.

`throughput` runs a campaign against the programmable server, in a process of its own and with the same latency for all
answers: which share of the allowed concurrency was busy, and whether memory stays flat.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import store
from benchmarks.llm import throughput, tokens
from benchmarks.llm.campaign import NAME, run, settings
from benchmarks.llm.ledger import calls_of, tokenizer_of
from tests.serving.process import server_process


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.llm", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    spent = kinds.add_parser("tokens", help="tokens per description and per score")
    spent.add_argument("database", nargs="?", type=Path, help="of a finished campaign; none: one is run")
    spent.add_argument("campaign", nargs="?", default=NAME)
    spent.add_argument("--tokenizer", help="'tekken' (needs mistral-common), or a folder; default: the server's own")
    spent.add_argument("--sample", type=int, default=10, help="units of each layer")
    spent.add_argument("--explainer", default="quantiles")
    spent.add_argument("--n", type=int, default=1, help="descriptions that are drawn")
    spent.add_argument("--contest", choices=["auto", "llm", "off"], default="auto", help="who tells rivals apart")
    busy = kinds.add_parser("throughput", help="busy share of the allowed concurrency, and memory")
    busy.add_argument("--units", type=int, default=1000)
    busy.add_argument("--concurrency", type=int, default=32)
    busy.add_argument("--workers", type=int, default=64)
    busy.add_argument("--latency", type=float, default=0.05, help="seconds that each answer takes")
    busy.add_argument(
        "--output", choices=["tested", "off"], default="tested",
        help="off: without the tests of output halves, which run the model under study and ask no language model",
    )  # fmt: skip
    busy.add_argument("--client", action="store_true", help="the client alone, without a campaign around it")
    for one in (spent, busy):
        one.add_argument("--max-tokens", type=int, default=300_000, help="of the corpus")
        one.add_argument("--home", type=Path, help="keep the index and the database here")
        one.add_argument("--json", action="store_true", help="print everything as JSON")
    args = parser.parse_args()
    found, shown = count(args) if args.kind == "tokens" else measure(args)
    print(json.dumps(found, indent=1) if args.json else shown)


def count(args: argparse.Namespace) -> tuple[object, str]:
    """Figures of tokens, and their table."""
    tokenizer = tokenizer_of(args.tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        database = args.database
        if database is None:
            kept = args.home or Path(folder)
            kept.mkdir(parents=True, exist_ok=True)
            database = Path(tempfile.mkdtemp(dir=kept)) / "campaign.db"
            with server_process() as server:
                spec = settings(
                    server.url, units=("mlp:*:*",), sample=args.sample, max_tokens=args.max_tokens,
                    explainer=args.explainer, explainer_options={"n": args.n},
                    diagnostics=["detection", "fuzzing"],
                    contest="off" if args.contest == "off" else {"policy": args.contest},
                )  # fmt: skip
                run(spec, database, kept)
        with store.open_database(database, create=False) as db:
            calls = list(calls_of(db, args.campaign, tokenizer))
    claims = len({(call.investigation, call.polarity) for call in calls})
    found = {"tokenizer": tokenizer.name, **tokens.figures(tokens.grouped(calls), claims)}
    return found, f"{tokens.render(found)}\n\ntokens are {tokenizer.name}"


def measure(args: argparse.Namespace) -> tuple[object, str]:
    """Figures of throughput, and their lines."""
    if args.client:
        found = throughput.measure_client(
            askers=args.workers, each=max(1, args.units // args.workers), batch=8, concurrency=args.concurrency,
            latency=args.latency,
        )  # fmt: skip
    else:
        found = throughput.measure_campaign(
            units=("mlp:*:*",), sample=-(-args.units // 4), concurrency=args.concurrency, workers=args.workers,
            latency=args.latency, max_tokens=args.max_tokens, home=args.home,
            output=args.output,
        )  # fmt: skip
    return found, throughput.render(found)


if __name__ == "__main__":
    main()
