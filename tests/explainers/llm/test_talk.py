"""Conversations with tools: what is sent, and what is read out of the answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from explainers.llm.accounts import charged_to
from explainers.llm.types import CallError, MemoryAccount, Message, RejectedError, Request, Talker, ToolCall
from explainers.llm.wire import InvalidAnswerError, most_tokens, read_reply, talk_body
from tests.explainers.llm.helpers import client
from tests.serving import ProgrammableServer
from tests.serving import Talker as TalkingMind
from tests.serving.server import ABILITIES

TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "unit", "parameters": {
        "type": "object", "properties": {"unit": {"type": "string"}}}}}
]  # fmt: skip


@pytest.fixture(autouse=True)
def account() -> Iterator[MemoryAccount]:
    account = MemoryAccount()
    with charged_to(account):
        yield account


def request(*messages: Message) -> Request:
    return Request("chat", (Message("system", "You talk."), *messages))


def answer(finish: str = "stop", **message: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": None, **message}, "finish_reason": finish}]}


def test_a_tool_is_asked_for_and_its_result_answered(account: MemoryAccount) -> None:
    with ProgrammableServer(TalkingMind()) as server, client(server.url) as llm:
        assert isinstance(llm, Talker)
        question = Message("user", "What does mlp:0:3 do?")
        reply = llm.talk(request(question), TOOLS)
        (call,) = reply.calls
        assert (call.name, json.loads(call.arguments)) == ("unit", {"unit": "mlp:0:3"})
        told = json.dumps({"cite": "[result:2]", "summary": "it fires on 3", "data": {}})
        asked = Message("assistant", "", calls=(call,))
        reply = llm.talk(request(question, asked, Message("tool", told, result_of=call.id)), TOOLS)
        assert reply.text == "it fires on 3 [result:2]"
        sent = server.requests[-1].body["messages"]
        assert sent[2]["tool_calls"][0]["function"]["name"] == "unit"
        assert sent[3]["tool_call_id"] == sent[2]["tool_calls"][0]["id"]
    assert [one.status for one in account.calls] == ["done", "done"]


def test_an_endpoint_that_takes_no_tools_turns_the_call_away(account: MemoryAccount) -> None:
    abilities = ABILITIES - {"tools"} | {"no tools"}
    with (
        ProgrammableServer(TalkingMind(), abilities=abilities) as server,
        client(server.url) as llm,
        pytest.raises(RejectedError, match="tool-call-parser"),
    ):
        llm.talk(request(Message("user", "hello")), TOOLS)
    assert issubclass(RejectedError, CallError)
    assert account.calls[0].error is not None
    assert account.calls[0].error.startswith("RejectedError")


def test_reads_words_calls_thoughts_and_refusals() -> None:
    assert read_reply(answer(content="<think>hm 3</think> Yes.")).text == "Yes."
    assert read_reply(answer(refusal="No.")).text == "No."
    assert read_reply(answer("length", content="Yes, beca")).cut
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
    assert read_reply(answer("tool_calls", tool_calls=[call])).calls == (ToolCall("a", "f", '{"x": 1}'),)
    assert read_reply(answer()).text == ""
    for broken in ({}, {"choices": []}, answer(tool_calls=[{"id": "a"}]), answer("content_filter", content="x")):
        with pytest.raises(InvalidAnswerError):
            read_reply(broken)


def test_tools_count_in_the_most_that_a_call_can_cost() -> None:
    asked = request(Message("user", "hello"), Message("assistant", "", calls=(ToolCall("a", "unit", "{}" * 100),)))
    bare, offered = talk_body("m", asked, ()), talk_body("m", asked, TOOLS)
    assert "tools" not in bare
    assert most_tokens(offered)[0] >= most_tokens(bare)[0] + len(json.dumps(TOOLS)) - 5
    assert most_tokens(bare)[0] > 200
