"""What a tool is, and what one use of it leaves behind."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from agent.budget import StoppedError
from agent.plain import digest, plain
from agent.state import Json
from agent.toolbox.workbench import Origin, Workbench
from explainers.llm.types import EndpointError, SpentError
from explainers.llm.wire import problems_of
from store.records import ExperimentRecord, ObservationRecord
from tools.errors import NeuroglossError

#: Characters of a result that a language model is shown; what is longer is told by its summary alone.
MOST_SHOWN = 24_000
#: Names that a record of an experiment takes for itself, beside the tool's arguments.
RESERVED = ("subject", "name", "dtype", "index", "dictionaries")

_log = logging.getLogger(__name__)


class Arguments(BaseModel):
    """Arguments of a tool: a field each, with a description and bounds (see `agent.toolbox.fields`).

    The same model checks what a language model asks for and what is typed at the command line. A field called `seed`
    is the one that the record of an experiment names.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Finding:
    """What the function of a tool hands back."""

    summary: str
    """What came of it, in a sentence or two: it is all that is shown of a result that is too long."""
    data: Any
    """The result: whatever `agent.plain.plain` takes, rows of it bounded by the arguments."""


@dataclass(frozen=True)
class Cost:
    """What one use of a tool took."""

    forward_passes: int = 0
    tokens: int = 0
    """Tokens run through the subject, with padding."""
    seconds: float = 0.0


@dataclass(frozen=True)
class ToolResult:
    """What came of one use of a tool: data, or an error that says what was wrong."""

    tool: str
    arguments: Json
    """As they were checked, defaults included; as they were given where they did not pass."""
    summary: str
    data: Any
    """Plain values; None when it failed."""
    cost: Cost
    origin: Origin
    error: str | None = None

    @property
    def ok(self) -> bool:
        """Whether it has data."""
        return self.error is None

    @property
    def seed(self) -> int | None:
        """The seed among the arguments, if there is one."""
        seed = self.arguments.get("seed")
        return seed if isinstance(seed, int) else None

    @property
    def digest(self) -> str | None:
        """Hash of the data; the same arguments on the same subject give the same one."""
        return digest(self.data) if self.ok else None

    def to_json(self) -> dict[str, Any]:
        """Plain values with stable keys."""
        return {**asdict(self), "origin": self.origin.to_json(), "seed": self.seed, "digest": self.digest}

    def message(self) -> str:
        """What a language model is told: one JSON object, short enough to read."""
        if self.error is not None:
            return json.dumps({"error": self.error})
        told = json.dumps({"summary": self.summary, "data": self.data}, ensure_ascii=False)
        if len(told) <= MOST_SHOWN:
            return told
        note = f"The data are kept, but are too long to show ({len(told):,} characters). Ask for less to see them."
        return json.dumps({"summary": self.summary, "note": note}, ensure_ascii=False)

    def experiment(self, *, hypothesis: str | None = None, outcome: str | None = None) -> ExperimentRecord:
        """The row of the notebook.

        Args:
            hypothesis: Key of the hypothesis that it bears on.
            outcome: What it says about that hypothesis: a verdict.
        """
        seen = () if self.error else (ObservationRecord(self.summary, {"result": self.data}, hypothesis, outcome),)
        return ExperimentRecord(
            kind=self.tool,
            arguments={**self.arguments, **self.origin.to_json()},
            seed=self.seed,
            status="failed" if self.error else "done",
            error=self.error,
            digest=self.digest,
            seconds=self.cost.seconds,
            observations=seen,
        )


@dataclass(frozen=True)
class Tool:
    """A named thing that can be done to a subject."""

    name: str
    description: str
    """What it answers and when to use it, as a language model is told."""
    arguments: type[Arguments]
    function: Callable[[Workbench, Any], Finding]
    """What does it; raises `NeuroglossError` for what cannot be done."""

    def schema(self) -> dict[str, Any]:
        """The tool as a chat request offers it (OpenAI's format)."""
        return function_schema(self.name, self.description, self.arguments)

    def run(self, workbench: Workbench, arguments: Mapping[str, Any] | str | Arguments) -> ToolResult:
        """Use it once.

        Args:
            workbench: The subject, and what else there is.
            arguments: Checked ones, a mapping, or the JSON text of a language model's tool call.

        Returns:
            A failed result where the arguments are wrong, or it cannot be done; nothing is raised.

        Raises:
            StoppedError, SpentError, EndpointError: The campaign's own conditions, which are no answers.
        """
        first_pass, first_token, began = workbench.passes.value, workbench.passes.tokens, time.perf_counter()
        origin = workbench.origin
        given: Json = {}
        try:
            checked = self._checked(arguments)
            given = plain(checked.model_dump(mode="json"))
            finding = self.function(workbench, checked)
            data, error, summary = plain(finding.data), None, finding.summary
        except (StoppedError, SpentError, EndpointError):
            raise
        except Exception as problem:
            data, error = None, _told(self.name, problem)
            summary = error
            given = given or _as_given(arguments)
        cost = Cost(
            workbench.passes.value - first_pass, workbench.passes.tokens - first_token, time.perf_counter() - began
        )
        return ToolResult(self.name, given, summary, data, cost, origin, error)

    def _checked(self, arguments: Mapping[str, Any] | str | Arguments) -> Arguments:
        if isinstance(arguments, Arguments):
            return self.arguments.model_validate(arguments.model_dump())
        if isinstance(arguments, str):
            return self.arguments.model_validate_json(arguments or "{}")
        return self.arguments.model_validate(dict(arguments))


def function_schema(name: str, description: str, arguments: type[Arguments]) -> dict[str, Any]:
    """A function as a chat request offers it (OpenAI's format)."""
    parameters = arguments.model_json_schema()
    _untitle(parameters)
    parameters.pop("description", None)
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


def _told(tool: str, problem: Exception) -> str:
    """What a failed result says."""
    if isinstance(problem, ValidationError):
        return f"The arguments of {tool} do not fit: {problems_of(problem)}."
    if isinstance(problem, NeuroglossError):
        return str(problem)
    if _out_of_memory(problem):
        return f"{tool} ran out of memory. Ask for fewer or shorter texts, or for fewer places at once."
    # A fault of ours: the agent goes on without the answer, and whoever reads the log can mend it.
    _log.warning("the tool %s failed", tool, exc_info=problem)
    return f"{tool} failed: {type(problem).__name__}: {' '.join(str(problem).split())[:300]}"


def _out_of_memory(problem: Exception) -> bool:
    import torch

    return isinstance(problem, torch.OutOfMemoryError | MemoryError) or "not enough memory" in str(problem)


def _as_given(arguments: Mapping[str, Any] | str | Arguments) -> Json:
    """Arguments that did not pass, for the record."""
    if isinstance(arguments, str):
        return {"text": arguments[:2000]}
    found = arguments.model_dump(mode="json") if isinstance(arguments, Arguments) else dict(arguments)
    try:
        given: Json = plain(found)
    except TypeError:
        return {"text": repr(found)[:2000]}
    return given


def _untitle(node: Any) -> None:
    """Takes out pydantic's titles, which repeat the names of fields."""
    if isinstance(node, list):
        for item in node:
            _untitle(item)
    elif isinstance(node, dict):
        if isinstance(node.get("title"), str):
            node.pop("title")
        for key, value in node.items():
            if key in ("properties", "$defs"):
                for inner in value.values():
                    _untitle(inner)
            elif key not in ("default", "enum", "const"):
                _untitle(value)
