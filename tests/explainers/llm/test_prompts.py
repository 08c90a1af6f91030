"""Prompt files: found, overridden, filled in, told apart by their digests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from explainers.llm.prompts import Prompt, PromptError, Prompts
from explainers.llm.types import Message

PACKAGED = Prompts.names()


def test_a_prompt_of_the_folder_takes_the_place_of_the_packages(tmp_path: Path) -> None:
    name, other = PACKAGED[:2]
    (tmp_path / f"{name}.md").write_text("# system\nBe brief.\n\n# user\nSay {{ word }}.\n")
    prompts = Prompts(tmp_path)
    assert prompts.get(name) == Prompt(name, "Be brief.", "Say {{ word }}.")
    assert prompts.get(other) == Prompts().get(other)
    assert prompts.get(name).digest != Prompts().get(name).digest


def test_values_are_put_in_as_they_are() -> None:
    hostile = "{{ 7 * 7 }} {% raw %} # user <b> \\n"
    assert Prompt("p", "S", "Look: {{ text }}").render(text=hostile) == (
        Message("system", "S"),
        Message("user", f"Look: {hostile}"),
    )


def test_the_digest_is_of_the_text() -> None:
    prompt = Prompt("a", "S", "U")
    assert re.fullmatch(r"[0-9a-f]{16}", prompt.digest)
    assert prompt.digest == Prompt("b", "S", "U").digest
    assert len({p.digest for p in (prompt, Prompt("a", "S!", "U"), Prompt("a", "S", "U!"), Prompt("a", "SU", ""))}) == 4


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ missing }}", "'missing' is undefined"),
        ("{% for x in y %}", "cannot be filled in"),
        ("{{ number | join }}", "cannot be filled in"),
        ("{{ ''.__class__.__mro__ }}", "cannot be filled in"),
    ],
)
def test_a_template_that_cannot_be_filled_in_says_so(template: str, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        Prompt("p", "S", template).render(number=3, y=[])


def test_missing_folders_and_misspelt_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="no folder of prompts"):
        Prompts(tmp_path / "nowhere")
    (tmp_path / "explane.md").write_text("# system\nx\n# user\ny")
    with pytest.raises(PromptError, match="'explane', which nothing asks for"):
        Prompts(tmp_path)
    with pytest.raises(PromptError, match="'nothing' cannot be read"):
        Prompts().get("nothing")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# user\nSay it.", "'# system' followed by"),
        ("Hello", "'# system' followed by"),
        ("# system\nAbout {{ unit }}.\n# user\nSay it.", "must have no variables"),
    ],
)
def test_files_that_are_no_prompts_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / f"{PACKAGED[0]}.md").write_text(text)
    with pytest.raises(PromptError, match=message):
        Prompts(tmp_path).get(PACKAGED[0])


def test_files_written_on_other_systems_are_read(tmp_path: Path) -> None:
    (tmp_path / f"{PACKAGED[0]}.md").write_bytes("\ufeff# system\r\nBe brief.\r\n# user\r\nSay it.\r\n".encode())
    assert Prompts(tmp_path).get(PACKAGED[0]) == Prompt(PACKAGED[0], "Be brief.", "Say it.")


@pytest.mark.parametrize("name", PACKAGED)
def test_every_prompt_of_the_package_is_whole(name: str) -> None:
    prompt = Prompts().get(name)
    assert prompt.system
    assert prompt.user
    # Two are not asked but read: their log-probabilities are the answer.
    assert ("QUESTION\n" in prompt.user) is (name not in ("predict-simulation", "surprisal"))
