"""A chat request as a mind reads it: its parts by their headings, its texts by their numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

HEADINGS = (
    "TEXTS", "TEXT", "SILENT TEXTS", "GROUPS", "DESCRIPTION", "HYPOTHESIS", "ATTENTION", "RAISES", "LOWERS", "RULE",
    "MAXIMUM", "RIVALS", "RESULTS", "WEIGHTS", "FIT", "MISTAKES", "SENTENCE", "ACTIVE", "QUESTION",
)  # fmt: skip
"""Headings that prompts have, each alone on its line."""

_HEADING = re.compile(rf"^(?:#+ )?({'|'.join(HEADINGS)}):?[ \t]*$", re.MULTILINE)
_TEXT = re.compile(r"^\[(\d+)\](?: (.*))?$")
_LEVELS = re.compile(r"^\s*levels: ?(.*)$")
_LEVEL = re.compile(r"«([^»]*)»\s*=\s*(\d+)")


@dataclass(frozen=True)
class Text:
    """One numbered text of a prompt."""

    number: int
    plain: str
    """Without marks."""
    spans: tuple[tuple[int, int], ...]
    """Where the marked runs are in `plain`."""
    levels: tuple[tuple[str, int], ...] = ()
    """Active tokens with their levels, in order, where they are told."""

    @property
    def marked(self) -> list[str]:
        """The marked runs."""
        return [self.plain[a:b] for a, b in self.spans]


def read_text(number: int, shown: str, levels: str = "") -> Text:
    """A text out of the line that shows it and the line with its levels."""
    plain, spans, start = "", [], 0
    for part in re.split("([«»])", shown):
        if part == "«":
            start = len(plain)
        elif part == "»":
            spans.append((start, len(plain)))
        else:
            plain += part
    return Text(number, plain, tuple(spans), tuple((token, int(n)) for token, n in _LEVEL.findall(levels)))


@dataclass(frozen=True)
class Chat:
    """One chat request."""

    body: Mapping[str, Any]
    attempt: int = 0
    """How often the very same body came before."""

    @cached_property
    def system(self) -> str:
        """The system message."""
        return next((str(m["content"]) for m in self.body["messages"] if m["role"] == "system"), "")

    @cached_property
    def user(self) -> str:
        """The first thing that the user said; what is said of an invalid answer comes later."""
        return next((str(m["content"]) for m in self.body["messages"] if m["role"] == "user"), "")

    @property
    def repairs(self) -> bool:
        """Whether it asks for a better answer than one already given."""
        return any(m["role"] == "assistant" for m in self.body["messages"])

    @property
    def seed(self) -> int:
        """What tells apart samples of one request."""
        return int(self.body.get("seed") or 0)

    @cached_property
    def schema(self) -> Mapping[str, Any]:
        """The JSON schema of the answer, sent along or at the end of the first message; empty when there is none."""
        asked = (self.body.get("response_format") or {}).get("json_schema") or {}
        words = re.search(r"JSON schema:\n(\{.*\})\s*\Z", self.system, re.DOTALL)
        return dict(asked.get("schema") or (json.loads(words[1]) if words else {}))

    @property
    def fields(self) -> set[str]:
        """Names of the answer's fields."""
        return set(self.schema.get("properties", {}))

    @cached_property
    def sections(self) -> Mapping[str, str]:
        """The user message by its headings; a heading that comes twice has both contents."""
        found: dict[str, str] = {}
        heads = list(_HEADING.finditer(self.user))
        for head, after in zip(heads, [*heads[1:], None], strict=True):
            content = self.user[head.end() : after.start() if after else len(self.user)].strip("\n")
            found[head[1]] = f"{found[head[1]]}\n{content}" if head[1] in found else content
        return found

    @property
    def description(self) -> str:
        """What stands under DESCRIPTION, up to the first blank line."""
        return self.sections.get("DESCRIPTION", "").split("\n\n")[0]

    @property
    def question(self) -> str:
        """What stands under QUESTION."""
        return self.sections.get("QUESTION", "")

    def texts(self, heading: str = "TEXTS") -> list[Text]:
        """The numbered texts under a heading."""
        found: list[Text] = []
        for line in self.sections.get(heading, "").split("\n"):
            if text := _TEXT.match(line):
                found.append(read_text(int(text[1]), text[2] or ""))
            elif found and (levels := _LEVELS.match(line)):
                told = read_text(0, "", levels[1]).levels
                found[-1] = Text(found[-1].number, found[-1].plain, found[-1].spans, told)
        return found
