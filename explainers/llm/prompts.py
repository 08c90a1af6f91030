"""Prompts are files that people can read and override.

A prompt is a Markdown file of this folder: a text under `# system`, which has no variables and so is the same for all
units (servers cache it), then one under `# user`, a Jinja template. A file of the same name in the folder that a
campaign names takes its place. Its digest is stored with every score that rests on it.
"""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from explainers.llm.types import LlmError, Message

_SECTIONS = re.compile(r"\A# system\n(?P<system>.*?)\n# user\n(?P<user>.*)\Z", re.DOTALL)
_ENVIRONMENT = ImmutableSandboxedEnvironment(
    undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=False
)


@functools.lru_cache(maxsize=64)
def _template(text: str) -> jinja2.Template:
    """A template, compiled once: prompts are filled in some ten times for every unit."""
    return _ENVIRONMENT.from_string(text)


class PromptError(LlmError):
    """A prompt file is missing, is not one, or asks for a variable that there is not."""


@dataclass(frozen=True)
class Prompt:
    """One prompt."""

    name: str
    system: str
    user: str
    """A Jinja template."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 (16 hex digits) of its text."""
        return hashlib.sha256(f"{self.system}\0{self.user}".encode()).hexdigest()[:16]

    def render(self, **variables: Any) -> tuple[Message, ...]:
        """The system message, which is always the same, and the user message.

        Values are put in as they are: a text out of a corpus cannot become part of the template.

        Raises:
            PromptError: The template asks for a variable that is not among these.
        """
        try:
            user = _template(self.user).render(**variables)
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            raise PromptError(f"The prompt '{self.name}' cannot be filled in: {error}.") from error
        return Message("system", self.system), Message("user", user.strip())


class Prompts:
    """The prompts in force: those of the package, or of a folder where it has them.

    Args:
        folder: Holds files `NAME.md` that take the place of the package's.

    Raises:
        PromptError: The folder is not there, or has a prompt that the package does not know (a misspelt name).
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        if folder is not None:
            if not folder.is_dir():
                raise PromptError(f"There is no folder of prompts '{folder}'.")
            unknown = sorted({path.stem for path in folder.glob("*.md")} - set(self.names()))
            if unknown:
                raise PromptError(
                    f"'{folder}' has a prompt '{unknown[0]}', which nothing asks for. Known: {', '.join(self.names())}."
                )

    @staticmethod
    def names() -> list[str]:
        """All prompts that something asks for."""
        files = resources.files("explainers.llm").joinpath("prompts").iterdir()
        return sorted(Path(file.name).stem for file in files if file.name.endswith(".md"))

    def get(self, name: str) -> Prompt:
        """The prompt of that name.

        Raises:
            PromptError: It is missing or not made of the two sections.
        """
        own = self._folder / f"{name}.md" if self._folder is not None else None
        file = (
            own if own is not None and own.is_file() else resources.files("explainers.llm") / "prompts" / f"{name}.md"
        )
        try:
            text = file.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise PromptError(f"The prompt '{name}' cannot be read: {error}.") from error
        found = _SECTIONS.match(text)
        if found is None:
            raise PromptError(f"The prompt '{name}' must be a part '# system' followed by a part '# user'.")
        if "{{" in found["system"] or "{%" in found["system"]:
            raise PromptError(
                f"The system part of the prompt '{name}' must have no variables: it is shared by all units."
            )
        return Prompt(name, found["system"].strip(), found["user"].strip())
