"""Conversations, and rows by the names under which they are cited."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import store
from store.chats import TITLE, add_message, start_chat
from store.queries.chats import chat_messages, list_chats
from store.queries.citations import Ref, cited_rows


@pytest.fixture
def chats(tmp_path: Path) -> store.Database:
    return store.open_database(tmp_path / "chats.db")


def test_messages_are_kept_in_their_order_and_read_from_any_place(chats: store.Database) -> None:
    chat = start_chat(chats, "  what   is it? " + "x" * 200)
    assert [add_message(chats, chat, role, role, {"n": 1}) for role in ("user", "tool", "assistant")] == [1, 2, 3]
    assert [row.role for row in chat_messages(chats, chat)] == ["user", "tool", "assistant"]
    assert [row.position for row in chat_messages(chats, chat, after=1)] == [2, 3]
    (row,) = list_chats(chats)
    assert row.title.startswith("what is it?")
    assert len(row.title) == TITLE
    assert (row.questions, row.tool_uses) == (1, 1)


def test_what_is_not_there_is_said(chats: store.Database) -> None:
    with pytest.raises(store.StoreError, match="no chat 7"):
        chat_messages(chats, 7)
    with pytest.raises(store.StoreError, match="no chat 7"):
        add_message(chats, 7, "user", "hello")
    with pytest.raises(store.StoreError, match="role"):
        add_message(chats, start_chat(chats, "x"), "robot", "hello")


def test_two_writers_take_two_places(chats: store.Database) -> None:
    chat = start_chat(chats, "x")
    threads = [
        threading.Thread(target=lambda: [add_message(chats, chat, "user", "hello") for _ in range(10)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [row.position for row in chat_messages(chats, chat)] == list(range(1, 41))


def test_results_are_cited_within_their_conversation(chats: store.Database) -> None:
    first, second = start_chat(chats, "a"), start_chat(chats, "b")
    add_message(chats, first, "user", "hello")
    add_message(chats, first, "tool", "14 found", {"tool": "units", "data": {"found": 14}, "unit": None, "seed": 3})
    wanted = [Ref("result", 2), Ref("result", 1), Ref("score", 1), Ref("dragon", 1), Ref("campaign", 9)]
    found = cited_rows(chats, wanted, chat=first)
    assert list(found) == [Ref("result", 2)]
    assert found[Ref("result", 2)].values == {"tool": "units", "data": {"found": 14}}
    assert cited_rows(chats, wanted, chat=second) == {}
    assert cited_rows(chats, wanted) == {}
