"""Slash commands: arguments by name or by what they look like, and help that comes from the tools."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agent.chat import Session, SlashError
from agent.chat.slash import ALIASES, help_text, parse

Begin = Callable[..., Session]


@pytest.mark.parametrize(
    ("line", "tool", "arguments"),
    [
        ("/unit mlp:2:17", "unit", {"unit": "mlp:2:17"}),
        ("/UNIT mlp:2:17+ campaign=demo", "unit", {"unit": "mlp:2:17+", "campaign": "demo"}),
        ("/search opening bracket", "search", {"text": "opening bracket"}),
        ("/search 'opening bracket' limit=3", "search", {"text": "opening bracket", "limit": 3}),
        ("/units verdict=supported min_f1=0.5", "units", {"verdict": "supported", "min_f1": 0.5}),
        ("/units mlp:2:*", "units", {"pattern": "mlp:2:*"}),
        ('/activate mlp:2:17 "def f(x):" two', "activations", {"units": ["mlp:2:17"], "texts": ["def f(x):", "two"]}),
        ('/activate "a=b" mlp:2:17 mlp:2:18', "activations", {"units": ["mlp:2:17", "mlp:2:18"], "texts": ["a=b"]}),
        ("/compare mlp:2:17 mlp:2:18", "compare", {"units": ["mlp:2:17", "mlp:2:18"]}),
        ("/examples mlp:2:17 polarity=- limit=2", "kept_examples", {"unit": "mlp:2:17", "polarity": "-", "limit": 2}),
        ('/token_change mlp:2:17 "some text" value=3.5', "token_change",
         {"unit": "mlp:2:17", "texts": ["some text"], "value": 3.5}),
        ("/campaign demo", "campaign", {"campaign": "demo"}),
        ("/edit-tokens mlp:2:17 text positions=[3]", "edit_tokens",
         {"unit": "mlp:2:17", "texts": ["text"], "positions": [3]}),
    ],
)  # fmt: skip
def test_arguments_find_their_places(begin: Begin, line: str, tool: str, arguments: dict[str, Any]) -> None:
    command = parse(line, begin().shelf)
    assert (command.tool, command.arguments) == (tool, arguments)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("/frobnicate", "no command /frobnicate"), ("/unit mlp:2:17 campain=demo", "no argument 'campain'"),
        ('/search "open', "double quotes"), ("/unit mlp:2:17 campaign=a b c", "what is"),
        ("/edit mlp:2:17 text positions=[3", "not JSON"),
    ],
)  # fmt: skip
def test_what_cannot_be_understood_says_what_to_do(begin: Begin, line: str, why: str) -> None:
    with pytest.raises(SlashError, match=why):
        parse(line, begin().shelf)


def test_arguments_beyond_their_bounds_are_answers(begin: Begin) -> None:
    *_, answer = begin().turn("/units limit=5000")
    assert "limit" in answer.text  # type: ignore[attr-defined]
    assert "less than or equal to 50" in answer.text  # type: ignore[attr-defined]


def test_help_lists_every_tool_within_80_columns(begin: Begin) -> None:
    shelf = begin().shelf
    text = help_text(shelf)
    assert all(len(line) <= 80 for line in text.splitlines())
    assert text.count("\n  /") >= len(shelf.names) + 4
    listed = {line.split()[0] for line in text.splitlines() if line.startswith("  /")}
    assert {"/unit", "/why", "/activate", "/cost", "/quit"} <= listed
    assert len(listed) == len(shelf.names) + 4


def test_help_of_one_command_has_its_arguments_and_an_example(begin: Begin) -> None:
    shelf = begin().shelf
    commands = {tool: command for command, tool in ALIASES.items()}
    for name in shelf.names:
        text = help_text(shelf, commands.get(name, name))
        assert all(len(line) <= 80 for line in text.splitlines())
        for field in shelf.arguments_of(name).model_fields:
            assert f"  {field}: " in text
        example = text.splitlines()[-1].strip()
        assert parse(example, shelf).tool == name, example


def test_without_a_model_only_the_database_is_offered(begin: Begin) -> None:
    shelf = begin(model=False).shelf
    assert "activations" not in shelf.names
    with pytest.raises(SlashError, match="no command /activate"):
        parse("/activate mlp:0:3 x", shelf)
