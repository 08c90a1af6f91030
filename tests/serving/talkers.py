"""Minds that hold a conversation: they ask for tools, and answer from the results in their prompt.

`Talker` reads what was asked, uses the tool that fits, and answers with numbers and names of rows as they stand in the
results. `Liar` does the same and puts other numbers into its answers.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.serving.chat import Chat
from tests.serving.minds import Competent

_UNIT = re.compile(r"\b(?:mlp:\d+:\d+|head:\d+:\d+|sae:\w+:\d+)")


@dataclass(frozen=True)
class Ask:
    """A call of a tool."""

    tool: str
    arguments: Mapping[str, Any]


@dataclass
class Talker(Competent):
    """Answers questions about units from the results of tools."""

    def __call__(self, chat: Chat) -> Mapping[str, Any] | str:
        """One step, where the endpoint is asked for one as an object; else what `talk` says, in words."""
        said = self.talk(chat)
        if "tool" not in chat.fields:
            return said if isinstance(said, str) else super().__call__(chat)
        if isinstance(said, Ask):
            return {"tool": said.tool, "arguments": json.dumps(said.arguments), "answer": ""}
        return {"tool": "", "arguments": "", "answer": said}

    def talk(self, chat: Chat) -> str | Ask:
        """The next turn: a call of a tool, or the answer."""
        question, results = _turn(chat)
        units = _UNIT.findall(question)
        if not results:
            return self.ask(question, units)
        result = results[-1]
        if "error" in result:
            return f"That could not be found out: {result['error']} {result['cite']}"
        return self.answer(question, units, result)

    def ask(self, question: str, units: list[str]) -> Ask:
        """The tool that a question needs."""
        lower = question.lower()
        if "run " in lower and units:
            text = re.search(r'"([^"]*)"', question)
            return Ask("activations", {"units": units[:1], "texts": [text[1] if text else "x"], "every_token": False})
        if len(units) > 1:
            return Ask("compare", {"units": units})
        if units:
            return Ask("why" if lower.startswith("why") else "unit", {"unit": units[0]})
        if "campaign" in lower:
            return Ask("campaign", {})
        if found := re.search(r"\b(supported|refuted|inconclusive|untested)\b", lower):
            return Ask("units", {"verdict": found[1]})
        return Ask("search", {"text": question})

    def answer(self, question: str, units: list[str], result: Mapping[str, Any]) -> str:
        """What a result says, in words that cite its rows."""
        data, cite = result.get("data") or {}, result["cite"]
        if "descriptions" in data and "unit" in data:
            return self.about_unit(data)
        if "claims" in data:
            claim = data["claims"][0]
            if "rely" in question.lower():
                return self.how_sure(data["unit"], claim)
            score = claim["scores"][0]
            return (
                f"{data['unit']} is {claim['verdict_input']} {claim['cite']}. Its F1 is {score['value']:.2f} "
                f"{score['cite']}."
            )
        if "differences" in data:
            told = [
                f"{row['unit']} has F1 {row['f1']:.2f} {row['score']}."
                for row in data["units"]
                if row["f1"] is not None
            ]
            return " ".join(told) or f"Neither is described {cite}."
        if "kinds" in data:
            own = data["campaign"]
            done = f"Of {own['investigations']} units {own['done']} are done"
            return f"{done} and {own['supported']} supported {data['cite']}."
        if "found" in data:
            return f"{data['found']} descriptions fit {cite}."
        if "matches" in data:
            rows = data["descriptions"]
            told = "".join(f"\n- {row['unit']}: F1 {row['f1']:.2f} {cite}" for row in rows[:3] if row["f1"] is not None)
            return f"{data['matches']} descriptions match {cite}.{told}"
        return f"{result['summary']} {cite}"

    def how_sure(self, unit: str, claim: Mapping[str, Any]) -> str:
        """What a description said of itself, and what came of it."""
        f1 = next(one for one in claim["foretold"] if one["of"] == "f1")
        held = f"in [{f1['low']:.2f}, {f1['high']:.2f}]"
        return (
            f"Of {unit} it is said: {claim['confidence']} {claim['cite']} Foretold was an F1 of {f1['foretold']:.2f} "
            f"{held} {claim['cite']}; the F1 that came is {f1['came']:.2f} {claim['cite']}."
        )

    def about_unit(self, data: Mapping[str, Any]) -> str:
        """A unit's page in two sentences."""
        unit = data["unit"]
        told = [f"{unit['unit']} is active on {100 * unit['density']:.2g} % of tokens {unit['cite']}."]
        for row in data["descriptions"][:1]:
            score = next((one for one in row["scores"] if one["metric"] == "weighted_f1"), None)
            if score is not None and score["value"] is not None:
                told.append(
                    f"Its F1 is {score['value']:.2f} [{score['low']:.2f}, {score['high']:.2f}] on "
                    f"{score['n_documents']} documents {score['cite']}."
                )
        return " ".join(told)


@dataclass
class Liar(Talker):
    """Answers like a `Talker`, but with other numbers, and no better when it is asked to mend them.

    Args:
        lie: From a number as it is printed to another one.
    """

    lie: Callable[[str], str] = lambda text: other_number(text, random.Random(text))
    mends: bool = False
    """Whether it tells the truth when it is asked to."""
    told: list[str] = field(default_factory=list)
    """False numbers that it said."""

    def answer(self, question: str, units: list[str], result: Mapping[str, Any]) -> str:
        """The truth, with its first number that is no name changed."""
        true = super().answer(question, units, result)
        match = next(
            (m for m in re.finditer(r"(?<![\w:.\[])-?\d[\d,]*(?:\.\d+)?(?![\w:.]*[\]:]\d)(?![\w:])", true)), None
        )
        if match is None:
            return true
        false = self.lie(match[0])
        self.told.append(false)
        return true[: match.start()] + false + true[match.end() :]

    def talk(self, chat: Chat) -> str | Ask:
        if self.mends and "backed by no row" in str(chat.body["messages"][-1]["content"]):
            question, results = _turn(chat)
            return Talker.answer(self, question, _UNIT.findall(question), results[-1])
        return super().talk(chat)


def other_number(text: str, rng: random.Random) -> str:
    """Another number, printed like this one."""
    plain = text.replace(",", "")
    places = len(plain.partition(".")[2])
    value = float(plain)
    while True:
        scale = max(abs(value), 10.0**-places)
        other = f"{value + rng.choice((-1, 1)) * scale * rng.uniform(0.15, 3):.{places}f}"
        if float(other) != value:
            return other


def _turn(chat: Chat) -> tuple[str, list[dict[str, Any]]]:
    """The last question and the results of tools since then."""
    question, results = "", []
    for message in chat.body["messages"]:
        content = str(message.get("content") or "")
        if message["role"] == "tool":
            results.append(json.loads(content))
        elif message["role"] == "user":
            parts = content.split("RESULT\n")
            asked = parts[0].strip()
            if asked and "backed by no row" not in asked and not asked.startswith("Answer now"):
                question, results = asked, []
            for part in parts[1:]:
                results.append(json.JSONDecoder().raw_decode(part)[0])
    return question, results
