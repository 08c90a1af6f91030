"""Campaigns, indexes and activations on a tiny random model: run, stop, go on, and what is printed meanwhile."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

ROOT = Path(__file__).resolve().parent.parent.parent
Run = Callable[..., Any]


@pytest.fixture
def plan(tiny_gpt2_folder: Path, tiny_corpus_file: Path, tmp_path: Path) -> Path:
    """A campaign over three neurons that takes seconds."""
    path = tmp_path / "plan.yaml"
    path.write_text(
        f"name: tiny\nsubject: {tiny_gpt2_folder}\ncorpus: {tiny_corpus_file}\nunits: mlp:1:0-2\nresamples: 20\n"
        "null_units: 2\npolarity: '+'\npanel: {explore_tokens: 1000, refine_tokens: 500, score_tokens: 1000}\n"
    )
    return path


def environment(home: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "NEUROGLOSS_HOME": str(home),
        "COLUMNS": "80",
        "OMP_NUM_THREADS": "1",
    }


def fits(text: str) -> bool:
    return all(cell_len(line) <= 80 for line in text.splitlines())


def test_a_campaign_from_estimate_to_table_and_again(run: Run, plan: Path, tmp_path: Path) -> None:
    database = tmp_path / "home" / "neurogloss.db"
    estimated = run("campaign", "run", plan, "--dry-run")
    assert estimated.code == 0, estimated.err
    assert estimated.out.startswith("Estimate: 3 units to describe, ")
    assert not database.exists()
    assert json.loads(run("campaign", "run", plan, "--dry-run", "--json").out)["estimate"]["units"] == 3

    limited = run("campaign", "run", plan, "--budget-units", "2", "--json")
    assert limited.code == 0, limited.err
    told = json.loads(limited.out)
    assert told["run"]["status"] == "stopped: budget"
    assert told["summary"]["total"]["investigations"] == {"done": 2, "pending": 1}
    assert "campaign resume tiny" in limited.err

    resumed = run("campaign", "resume", "tiny", "--budget-units", "10")
    assert resumed.code == 0, resumed.err
    assert "Best-supported descriptions" in resumed.out
    assert "neurogloss show" in resumed.out
    assert "Describing units: 3/3 units" in resumed.err
    assert fits(resumed.out)

    before = database.read_bytes()
    again = run("campaign", "run", plan, "--budget-units", "10", "--json")
    assert json.loads(again.out)["run"]["already_done"] is True
    assert "nothing was run" in again.err
    assert database.read_bytes() == before
    with sqlite3.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM investigations WHERE control IS NULL").fetchone() == (3,)

    page = run("show", "mlp:1:2")
    assert page.code == 0
    assert fits(page.out)
    assert "«" in page.out
    # The model of the campaign that studied the unit is the one that is asked.
    asked = json.loads(run("activate", "mlp:1:2", "Ann saw the red ball", "--json").out)
    assert asked["subject"] == json.loads(run("show", "mlp:1:2", "--json").out)["unit"]["subject"]


def test_flags_alone_make_a_campaign(run: Run, tiny_gpt2_folder: Path, tiny_corpus_file: Path) -> None:
    args = ["--subject", tiny_gpt2_folder, "--corpus", tiny_corpus_file, "--units", "mlp:1:0", "--units", "head:1:*"]
    more = [
        "--corpus-limit",
        "300",
        "--max-tokens",
        "5000",
        "--workers",
        "2",
        "--seed",
        "3",
        "--device",
        "cpu",
        "--yes",
    ]
    answer = run("campaign", "run", *args, *more, "--budget-tool-calls", "1", "--json")
    assert answer.code == 0, answer.err
    spec = json.loads(answer.out)["summary"]["spec"]
    assert (spec["units"], spec["corpus_limit"], spec["max_tokens"]) == (["mlp:1:0", "head:1:*"], 300, 5000)
    assert (spec["seed"], spec["device"]) == (3, "cpu")
    assert "tool calls" in answer.err


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(run: Run, plan: Path, tmp_path: Path) -> None:
    many = ["--units", "mlp:*:*", "--sample", "10"]  # so many that the signal finds some still to be done
    command = [sys.executable, "-m", "neurogloss", "campaign", "run", str(plan), *many, "--json"]
    with subprocess.Popen(
        command, env=environment(tmp_path / "home"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        seen = []
        for line in process.stderr:
            seen.append(line)
            if line.startswith("Describing units: 0/30"):
                process.send_signal(signal.SIGINT)
                break
        out, err = process.communicate(timeout=120)
    told = "".join(seen) + err
    assert process.returncode == 130, told
    assert "Ctrl-C again" in told
    assert "campaign resume tiny" in told
    assert "Traceback" not in told
    assert json.loads(out)["run"]["status"] == "interrupted"
    resumed = run("campaign", "resume", "tiny", "--json")
    assert json.loads(resumed.out)["run"]["status"] == "done"


TWICE = """
import threading, time
from neurogloss.cli.interrupt import stopping_on_ctrl_c
from neurogloss.render.console import make_console
from neurogloss.render.progress import PlainDisplay
import sys
threading.Thread(target=time.sleep, args=(60,)).start()
with stopping_on_ctrl_c(PlainDisplay(make_console(sys.stderr))) as stop:
    print("ready", flush=True)
    stop.wait(30)
    print("first", flush=True)
    time.sleep(30)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
def test_a_second_ctrl_c_does_not_wait_for_workers(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", TWICE],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for expected in ("ready", "first"):
            assert process.stdout.readline().strip() == expected
            process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Stopped at once" in err


def test_an_index_is_built_once_and_described(run: Run, tiny_gpt2_folder: Path, tiny_corpus_file: Path) -> None:
    args = ["index", "build", "--subject", tiny_gpt2_folder, "--corpus", tiny_corpus_file, "--units", "mlp:0:0-7"]
    first = run(*args)
    assert first.code == 0, first.err
    assert fits(first.out)
    assert "tokens" in first.err
    again = run(*args, "--json")
    assert "Running the model" not in again.err
    told = json.loads(again.out)
    assert told["units"] == {"mlp:0": 8}
    listed = run("index", "info")
    assert told["key"] in listed.out
    assert fits(listed.out)
    assert json.loads(run("index", "info", told["key"][:6], "--json").out) == told
    assert json.loads(run("index", "info", told["path"], "--json").out) == told
    assert fits(run("index", "info", told["key"]).out)


def test_activate_shows_every_token(run: Run, tiny_gpt2_folder: Path) -> None:
    text = "Ann saw [red] the \x1b[2J ball.\nBob"
    page = run("activate", "mlp:1:3", text, "--subject", tiny_gpt2_folder)
    assert page.code == 0, page.err
    assert fits(page.out)
    assert "\x1b" not in page.out
    assert "[red]" in page.out.replace("‹", "").replace("›", "").replace("«", "").replace("»", "")
    told = json.loads(run("activate", "mlp:1:3", "-", "--subject", tiny_gpt2_folder, "--json", stdin=text).out)
    assert "".join(told["tokens"][1:]) == text
    assert len(told["activations"]) == len(told["tokens"])
    assert told["attended"] is None
    head = json.loads(run("activate", "head:1:3", text, "--subject", tiny_gpt2_folder, "--json").out)
    assert all(0 <= a["position"] <= i and 0 < a["weight"] <= 1 for i, a in enumerate(head["attended"]))
    cut = run("activate", "mlp:1:3", "the ball " * 100, "--subject", tiny_gpt2_folder)
    assert "longer than the model's context" in cut.out


def test_activations_are_those_of_the_model(tiny_gpt2_folder: Path) -> None:
    import torch

    import neurogloss as ng

    subject = ng.subject(str(tiny_gpt2_folder), device="cpu")
    found = ng.activate(subject, "mlp:1:3", "Ann saw the red ball")
    kept: list[torch.Tensor] = []
    hook = subject.model.transformer.h[1].mlp.c_proj.register_forward_pre_hook(lambda _, args: kept.append(args[0]))
    with torch.no_grad():
        subject.model(torch.tensor([found.ids]))
    hook.remove()
    assert found.activations == pytest.approx(kept[0][0, :, 3].tolist(), abs=1e-5)


def test_the_python_front_runs_and_reads(tiny_gpt2_folder: Path, tiny_corpus_file: Path, tmp_path: Path) -> None:
    import neurogloss as ng

    options = {"subject": str(tiny_gpt2_folder), "corpus": str(tiny_corpus_file), "units": ["mlp:1:0"], "resamples": 20}
    summary = ng.run(options, home=tmp_path, name="front")
    assert summary.status == "done"
    with ng.open(home=tmp_path) as results:
        assert [row.campaign for row in results.campaigns()] == ["front"]
        assert results.campaign("front").total.investigations == {"done": 1}
        row = results.units("mlp:*:*", campaign="front")[0]
        assert row.unit == "mlp:1:0"
        page = results.unit(row.unit)
        assert page.descriptions
        assert results.search(page.descriptions[0].label)
    assert dir(ng) == ["Probe", "Results", "activate", "open", "run", "subject"]
    with pytest.raises(AttributeError, match="nothing"):
        ng.nothing  # noqa: B018


def test_doctor_says_what_is_there_and_what_is_not(run: Run, example_db: Path, tmp_path: Path) -> None:
    page = run("doctor", "--db", example_db)
    assert fits(page.out)
    for part in ("python", "sqlite", "torch", "cpu", "revision", "pycode", "FTS5"):
        assert part in page.out, part
    told = json.loads(run("doctor", "--db", example_db, "--json").out)
    by_name = {finding["name"]: finding for finding in told["findings"]}
    assert by_name["database"]["details"]["counts"]["units"] == 7
    assert by_name["home"]["details"]["free_bytes"] > 0
    assert all(finding["remedy"] for finding in told["findings"] if finding["status"] != "ok")
    assert page.code == (0 if told["healthy"] else 2)
    broken = tmp_path / "broken.db"
    broken.write_text("no database " * 500)
    ill = run("doctor", "--db", broken, "--json")
    assert ill.code == 2
    assert "database" in json.loads(ill.out)["broken"]


def test_doctor_says_which_extra_brings_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    from neurogloss import health
    from neurogloss.settings import resolve

    real = importlib.metadata.version

    def version(name: str) -> str:
        if name in ("datasets", "rich"):
            raise importlib.metadata.PackageNotFoundError(name)
        return "0.0.1" if name == "numpy" else real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    found = {finding.name: finding for finding in health.examine(resolve())}
    assert (found["datasets"].status, found["datasets"].remedy) == ("missing", 'pip install "neurogloss[hub]"')
    assert (found["rich"].status, found["numpy"].status) == ("broken", "broken")
    assert "0.0.1, but" in found["numpy"].value


READING_ONLY = """
import sys
from neurogloss.cli import main
for args in (["--help"], ["campaign", "list"], ["show", "mlp:2:17"], ["search", "the"], ["units"]):
    sys.argv = ["neurogloss", *args]
    try:
        main()
    except SystemExit as end:
        assert not end.code, args
    heavy = {"torch", "transformers", "langgraph", "scipy", "pandas", "openai", "numpy"} & sys.modules.keys()
    assert not heavy, (args, heavy)
"""


def test_reading_does_not_load_the_model_libraries(example_db: Path, tmp_path: Path) -> None:
    home = environment(tmp_path) | {"NEUROGLOSS_DB": str(example_db)}
    done = subprocess.run([sys.executable, "-c", READING_ONLY], env=home, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_module_runs_as_a_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "neurogloss"]
    helped = subprocess.run(
        [*command, "campaign", "run", "--help"], env=environment(tmp_path), capture_output=True, text=True, check=False
    )
    assert helped.returncode == 0, helped.stderr
    assert "Usage: neurogloss campaign run" in helped.stdout
    assert "What to describe" in helped.stdout
    assert fits(helped.stdout)
    wrong = subprocess.run([*command, "shwo"], env=environment(tmp_path), capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "Did you mean 'show'?" in wrong.stderr


def test_doctor_looks_at_the_vllm_that_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from neurogloss.health import _serving

    monkeypatch.delenv("NEUROGLOSS_VLLM_PYTHON", raising=False)
    assert list(_serving()) == []
    monkeypatch.setenv("NEUROGLOSS_VLLM_PYTHON", str(tmp_path / "nothing"))
    (found,) = _serving()
    assert (found.name, found.status) == ("NEUROGLOSS_VLLM_PYTHON", "missing")
    assert "nothing" in found.value
    assert found.remedy
