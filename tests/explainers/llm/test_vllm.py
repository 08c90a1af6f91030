"""Everything that is asked of a language model, asked of a real vLLM with random weights.

`make vllm` installs it and runs these; without `NEUROGLOSS_VLLM_PYTHON` they are skipped, with it they must run.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from agent.contest.llm.forms import RevisionsAsked, TrialsAsked
from explainers.llm.accounts import charged_to
from explainers.llm.check import check
from explainers.llm.client import LlmClient
from explainers.llm.endpoints import parse_endpoint
from explainers.llm.serve import VllmServer
from explainers.llm.types import CallError, LlmError, MemoryAccount, Message, Request
from explainers.llm.vllm_command import PYTHON
from explainers.prompted import forms
from tests.agent.test_llm_campaign import assert_all_ended, assert_nothing_is_made_up, rows
from tests.explainers.llm.chat_model import CONTEXT, make_chat_model

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not os.environ.get(PYTHON), reason=f"{PYTHON} names no interpreter with vLLM; see `make vllm`"),
]
FORMS = [
    forms.Described, forms.DescribedConcepts, forms.Marks, forms.Levels, forms.Judged, forms.Odd, forms.Rated,
    forms.Written, forms.Pairs, TrialsAsked, RevisionsAsked,
]  # fmt: skip
ROOT = Path(__file__).resolve().parents[3]
SENTINEL = "the heron stood in the reeds"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_chat_model(tmp_path_factory.mktemp("models") / "tiny-chat")


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    """As campaigns have it."""
    log = tmp_path_factory.mktemp("vllm") / "vllm.log"
    with VllmServer(str(folder), dtype="float32", log=log) as served:
        yield served
        assert SENTINEL not in log.read_text()  # what is asked is no business of the log


@pytest.fixture(scope="module")
def server_with_tools(folder: Path) -> Iterator[VllmServer]:
    with VllmServer(str(folder), dtype="float32", tool_parser="hermes") as served:
        yield served


@pytest.fixture
def account() -> Iterator[MemoryAccount]:
    account = MemoryAccount()
    with charged_to(account):
        yield account


@pytest.fixture
def client(server: VllmServer) -> Iterator[LlmClient]:
    with LlmClient([parse_endpoint(server.endpoint)], timeout=300.0) as llm:
        yield llm


def request(text: str = "Say something.", max_tokens: int = 12_000, **more: object) -> Request:
    # Random weights at temperature 1 end their texts sooner than at 0, where they go round in circles.
    settings = {"temperature": 1.0, "seed": 1, **more}
    messages = (Message("system", f"You describe units. {SENTINEL}"), Message("user", text))
    return Request("explain", messages, max_tokens=max_tokens, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_comes_back_valid(form: type[forms.Described], client: LlmClient, account: MemoryAccount) -> None:
    answer = client.ask(request(f"Fill in the form {form.__name__}."), form)
    assert isinstance(answer, form)
    (call,) = account.calls  # no repair turn
    assert call.status == "done"
    assert call.usage.prompt_tokens > 0
    assert call.usage.completion_tokens > 0


@pytest.mark.parametrize("form", FORMS)
def test_every_form_comes_back_valid_where_tools_are_served_too(
    form: type[forms.Described], server_with_tools: VllmServer, account: MemoryAccount
) -> None:
    with LlmClient([parse_endpoint(server_with_tools.endpoint)], timeout=300.0) as client:
        assert isinstance(client.ask(request(f"Fill in the form {form.__name__}."), form), form)
    assert [call.status for call in account.calls] == ["done"]


def test_many_are_asked_at_once(client: LlmClient, account: MemoryAccount) -> None:
    answers = client.ask_all([request(f"Text {n}?", seed=n) for n in range(24)], forms.Odd)
    assert all(isinstance(answer, forms.Odd) for answer in answers)
    assert len({call.request_hash for call in account.calls}) == 24


@pytest.mark.usefixtures("account")
def test_a_repair_turn_is_understood(client: LlmClient, account: MemoryAccount) -> None:
    with pytest.raises(LlmError, match="even after a repair turn"):
        client.ask(request(max_tokens=5), forms.Described)
    first, second = account.calls
    assert [m["role"] for m in second.request["messages"]] == ["system", "user", "assistant", "user"]
    assert second.usage.prompt_tokens > first.usage.prompt_tokens


def test_cached_beginnings_of_prompts_are_counted(client: LlmClient, account: MemoryAccount) -> None:
    shared = "A long beginning that two prompts share. " * 40
    for end in ("One.", "Another."):
        client.ask(request(shared + end), forms.Odd)
    first, second = account.calls
    assert first.usage.cached_tokens < 100
    assert second.usage.cached_tokens > 0.8 * second.usage.prompt_tokens


PROMPTS = ["The unit fires on brackets: (a, b).", "naïve 中文 🙂 «x»\n\tend", "ab"]


@pytest.mark.usefixtures("account")
def test_prompt_logprobs_are_those_of_the_model(client: LlmClient, folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for prompt, read in zip(PROMPTS, client.read("simulate", PROMPTS, top=20), strict=True):
        assert not isinstance(read, LlmError)
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        with torch.no_grad():
            logprobs = model(ids).logits[0].log_softmax(-1)
        assert len(read) == ids.shape[1]
        assert read[0].logprob is None
        for at in range(1, len(read)):
            told = read[at].logprob
            assert told == pytest.approx(logprobs[at - 1, ids[0, at]].item(), abs=1e-3)
            best = max(read[at].top.values())
            assert best == pytest.approx(logprobs[at - 1].max().item(), abs=1e-3)


@pytest.mark.usefixtures("account")
def test_a_prompt_in_ascii_is_read_token_by_token(client: LlmClient) -> None:
    (read,) = client.read("simulate", PROMPTS[:1])
    assert not isinstance(read, LlmError)
    assert "".join(token.token for token in read) == PROMPTS[0]


@pytest.mark.usefixtures("account")
def test_a_prompt_beyond_the_context_fails_alone(client: LlmClient) -> None:
    long = request("word " * CONTEXT)
    bad, good = client.ask_all([long, request()], forms.Odd)
    assert isinstance(bad, CallError)
    assert str(CONTEXT) in str(bad)
    assert isinstance(good, forms.Odd)


@pytest.mark.usefixtures("account")
def test_a_server_without_embeddings_says_so_and_serves_on(client: LlmClient) -> None:
    with pytest.raises(LlmError, match="404"):
        client.embed(["one"])
    assert isinstance(client.ask(request(), forms.Odd), forms.Odd)


@pytest.mark.usefixtures("account")
def test_embeddings_where_they_are_served(folder: Path) -> None:
    with (
        VllmServer(str(folder), dtype="float32", extra=("--runner", "pooling", "--convert", "embed")) as served,
        LlmClient([parse_endpoint(served.endpoint)], timeout=300.0) as client,
    ):
        texts = [f"text {n}" for n in range(70)]  # more than one batch
        vectors = client.embed(texts)
        assert check(served.url).abilities.embeddings
    assert vectors.shape == (70, 128)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-3)
    assert not np.allclose(vectors[0], vectors[1])


def test_check_finds_what_campaigns_need(server: VllmServer) -> None:
    report = check(server.url)
    can = report.abilities
    assert report.usable
    assert can.models == (server.model,)
    assert can.context == CONTEXT
    assert can.json_schema
    assert can.choice
    assert can.logprobs
    assert can.prompt_logprobs
    assert can.streaming
    assert not can.tools
    assert not can.embeddings
    assert "--tool-call-parser" in report.of("tools").told
    assert "404" in report.of("embeddings").told


def test_check_finds_tools_where_they_are_asked_for(server_with_tools: VllmServer) -> None:
    report = check(server_with_tools.url, server_with_tools.model)
    assert report.abilities.tools, report.of("tools")
    assert report.abilities.json_schema
    assert report.abilities.choice
    assert report.abilities.streaming


def test_a_model_that_cannot_be_served_says_why(folder: Path, tmp_path: Path) -> None:
    from explainers.llm.vllm_command import ServeError

    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text('{"architectures": ["NoSuchModel"], "model_type": "llama"}')
    with pytest.raises(ServeError) as error, VllmServer(str(broken), log=tmp_path / "vllm.log"):
        pass
    assert "NoSuchModel" in str(error.value) or "Error" in str(error.value)
    assert str(tmp_path / "vllm.log") in str(error.value)


def test_a_campaign_on_random_weights_runs_to_its_end(folder: Path, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "neurogloss", "--home", str(tmp_path), "campaign", "run", "--name", "random",
        "--subject", "pycode", "--corpus", "stdlib:", "--corpus-limit", "100", "--max-tokens", "100000",
        "--units", "mlp:2:0-19", "--explainer", f"vllm:{folder}", "--yes", "--json",
    ]  # fmt: skip
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=1500)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["summary"]["campaign"]["status"] == "done"
    database = tmp_path / "neurogloss.db"
    assert_all_ended(database, 20)
    assert_nothing_is_made_up(database)
    calls = rows(database, "SELECT status, error, prompt_tokens FROM llm_calls WHERE NOT cached")
    assert calls
    assert all(call["error"] for call in calls if call["status"] == "failed")
    assert all(call["prompt_tokens"] > 0 for call in calls if call["status"] == "done")
    (log,) = (tmp_path / "logs").glob("*.log")
    pid = re.search(r"Started server process \[(\d+)\]", log.read_text())
    assert pid is not None
    assert not Path(f"/proc/{pid[1]}").exists()  # stopped with the campaign
