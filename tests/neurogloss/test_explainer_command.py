"""`neurogloss explainer`: explainers, servers and what they can do."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.explainers.llm.test_serve import FAKE, ROOT, gone
from tests.neurogloss.conftest import Run
from tests.serving import Faults, ProgrammableServer

KEY = "sk-verysecret"
ALL = {
    "models", "chat", "json_schema", "choice", "logprobs", "prompt_logprobs", "tools", "embeddings", "streaming",
}  # fmt: skip


def narrow(text: str) -> bool:
    return all(len(line) <= 80 for line in text.splitlines())


def findings(out: str) -> dict[str, dict[str, object]]:
    return {f["name"]: f for f in json.loads(out)["findings"]}


def test_lists_explainers_and_which_of_them_ask_a_model(run: Run) -> None:
    answer = run("explainer", "list")
    assert answer.code == 0
    assert narrow(answer.out)
    offers = {offer["name"]: offer for offer in json.loads(run("explainer", "list", "--json").out)}
    assert not offers["pattern"]["needs_llm"]
    assert offers["quantiles"]["needs_llm"]
    assert all(offer["summary"] for offer in offers.values())


def test_lists_the_models_of_an_endpoint(run: Run, llm_server: ProgrammableServer) -> None:
    answer = run("explainer", "list", llm_server.url)
    assert (answer.code, narrow(answer.out)) == (0, True)
    assert "test-model" in answer.out
    assert "32,768" in answer.out
    without_scheme = llm_server.url.removeprefix("http://").removesuffix("/v1")
    assert json.loads(run("explainer", "list", without_scheme, "--json").out)[0]["id"] == "test-model"


def test_check_finds_all_that_an_endpoint_can_do(run: Run, llm_server: ProgrammableServer) -> None:
    answer = run("explainer", "check", llm_server.url)
    assert (answer.code, narrow(answer.out)) == (0, True)
    assert "✘" not in answer.out
    told = json.loads(run("explainer", "check", llm_server.url, "--json").out)
    assert told["abilities"] == {
        "models": ["test-model"], "context": 32_768, "json_schema": True, "choice": True, "logprobs": True,
        "prompt_logprobs": True, "tools": True, "streaming": True, "embeddings": True,
    }  # fmt: skip
    found = findings(json.dumps(told))
    assert found.keys() == ALL
    assert found["choice"]["sent"]["structured_outputs"]  # type: ignore[index]


def test_check_takes_an_endpoint_as_campaigns_name_it(run: Run, llm_server: ProgrammableServer) -> None:
    told = json.loads(run("explainer", "check", f"vllm:test-model@{llm_server.url}", "--json").out)
    assert (told["url"], told["model"]) == (llm_server.url, "test-model")


@pytest.mark.parametrize("lacking", sorted(ALL - {"models", "chat"}))
def test_check_is_not_taken_in_by_a_server_that_passes_over_what_is_asked(run: Run, lacking: str) -> None:
    with ProgrammableServer(abilities=frozenset(ALL - {lacking})) as server:
        answer = run("explainer", "check", server.url, "--json")
    assert answer.code == 0
    found = findings(answer.out)
    assert [name for name, f in found.items() if not f["works"]] == [lacking]
    assert found[lacking]["told"]


def test_check_says_what_is_done_without(run: Run) -> None:
    with ProgrammableServer(abilities=frozenset({"json_schema", "streaming"})) as server:
        answer = run("explainer", "check", server.url)
    assert (answer.code, narrow(answer.out)) == (0, True)
    assert "falls back to levels" in answer.out
    assert "words in common" in answer.out


def test_check_of_an_endpoint_that_always_fails_ends_with_status_2(run: Run) -> None:
    with ProgrammableServer(faults=Faults(1.0, kinds=("500",))) as server:
        answer = run("explainer", "check", server.url)
    assert answer.code == 2
    assert "cannot explain" in answer.out


def test_a_missing_model_is_named_with_those_there_are(run: Run, llm_server: ProgrammableServer) -> None:
    answer = run("explainer", "check", llm_server.url, "--model", "gpt-9")
    assert answer.code == 2
    assert "no model 'gpt-9'. It has: test-model" in answer.err


@pytest.mark.parametrize("command", ["list", "check"])
def test_where_nothing_answers_one_line_says_so(run: Run, command: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    answer = run("explainer", command, f"http://127.0.0.1:{port}")
    assert answer.code == 2
    assert f"Nothing answers at http://127.0.0.1:{port}/v1" in answer.err


def test_keys_come_from_the_environment_and_are_not_shown(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROGLOSS_LLM_KEY", KEY)
    with ProgrammableServer(key=KEY) as server:
        answer = run("explainer", "check", server.url, "--json")
        assert answer.code == 0
        assert findings(answer.out)["chat"]["works"]
        assert KEY not in answer.out + answer.err
        monkeypatch.setenv("NEUROGLOSS_LLM_KEY", "sk-wrongsecret")
        refused = run("explainer", "check", server.url)
    assert refused.code == 2
    assert "does not accept the key" in refused.err
    assert "wrongsecret" not in refused.out + refused.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["check", "ftp://host"], "http://HOST"),
        (["check", "http://user:secret@host"], "no user or password"),
        (["check", "vllm:tiny"], "does not run yet"),
        (["serve", "./no-such-folder"], "There is no folder"),
        (["serve", ".", "--python", sys.executable], "no config.json|has no vLLM"),
        (["serve", ".", "--host", "0.0.0.0"], "set NEUROGLOSS_LLM_KEY"),
    ],
)
def test_what_cannot_be_is_said_in_a_line_or_two(
    run: Run, arguments: list[str], told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("NEUROGLOSS_LLM_KEY", raising=False)
    python = tmp_path / "python"
    python.write_text(FAKE.format(python=sys.executable))
    python.chmod(python.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("NEUROGLOSS_VLLM_PYTHON", str(python))
    answer = run("explainer", *arguments)
    assert answer.code == 2
    assert any(part in answer.err for part in told.split("|"))
    assert len(answer.err.splitlines()) <= 3
    assert "secret" not in answer.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_prints_the_endpoint_and_stops_on_a_signal(number: signal.Signals, tmp_path: Path) -> None:
    python, model, pids = tmp_path / "python", tmp_path / "tiny", tmp_path / "pids"
    python.write_text(FAKE.format(python=sys.executable))
    python.chmod(python.stat().st_mode | stat.S_IEXEC)
    model.mkdir()
    (model / "config.json").write_text("{}")
    command = [sys.executable, "-m", "neurogloss", "explainer", "serve", str(model), "--json", "--dtype", "float32"]
    environ = {**os.environ, "NEUROGLOSS_VLLM_PYTHON": str(python), "FAKE_PIDS": str(pids)}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        # Of a shell that runs this in the background it would inherit that SIGINT is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )  # fmt: skip
    try:
        assert process.stdout is not None
        lines: list[str] = []
        while not lines or lines[-1] != "}\n":
            lines.append(process.stdout.readline())
            assert lines[-1], process.communicate()
        about = json.loads("".join(lines))
        assert about["endpoint"].startswith("vllm:tiny-")
        assert about["command"][-1] != "--json"
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0
    assert out == ""
    assert "non-default args" in err  # vLLM's own log is passed through
    assert "Stopping vLLM" in err
    assert gone([int(pid) for pid in pids.read_text().split()])
