"""A real vLLM with random weights holds a conversation: nothing breaks, and nothing false is printed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import store
from agent.chat import Session, events
from explainers.llm.client import LlmClient
from explainers.llm.endpoints import parse_endpoint
from explainers.llm.serve import VllmServer
from explainers.llm.vllm_command import PYTHON
from tests.agent.chat.questions import unresolved
from tests.explainers.llm.chat_model import make_chat_model

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not os.environ.get(PYTHON), reason=f"{PYTHON} names no interpreter with vLLM; see `make vllm`"),
]
Begin = Callable[..., Session]
QUESTIONS = (
    "What does mlp:0:3 do?", "Why?", "/unit mlp:0:3", "Which units are supported?", "Does it fire on French?",
    "/campaign", "Which of these is the best?", "/cost",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_chat_model(tmp_path_factory.mktemp("models") / "tiny-chat")


@pytest.fixture(params=["hermes", None], ids=["with tools", "without tools"])
def served(folder: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[LlmClient]:
    with (
        VllmServer(str(folder), dtype="float32", log=tmp_path / "vllm.log", tool_parser=request.param) as server,
        LlmClient([parse_endpoint(server.endpoint)], timeout=300.0) as llm,
    ):
        yield llm


def test_random_weights_hold_a_conversation(begin: Begin, served: LlmClient, db: store.Database) -> None:
    session = begin(served, model=False, answer_tokens=200, history=6000, rounds=3)
    for question in QUESTIONS:
        *_, answer = session.turn(question)
        assert isinstance(answer, events.Answer)
        assert answer.text
        if question.startswith("/") and question != "/cost":
            assert answer.numbers > 5
        assert question == "/cost" or not list(unresolved(answer, Path(db.url))), answer.text
    later = begin(served, model=False, chat=session.chat, answer_tokens=200)
    *_, answer = later.turn("Go on.")
    assert isinstance(answer, events.Answer)
    asked = [row for row in later.messages() if row.role == "assistant" and row.payload["llm"]]
    assert asked
    assert sum(row.payload["llm"]["tokens"] for row in asked) > 0
