"""What is sent to an endpoint, and what is read out of its answer."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from explainers.llm.types import Form, Message, Reply, Request, ToolCall, Usage

#: Where the schema goes for an endpoint that takes none.
_SCHEMA_IN_WORDS = "\n\nAnswer with one JSON object and nothing else. It must fit this JSON schema:\n"
_FENCED = re.compile(r"```[a-zA-Z]*\s*\n(.*?)```", re.DOTALL)
#: Characters of an invalid answer that are sent back in the repair turn.
_QUOTED = 2000
#: Annotations of a schema that constrain nothing.
_NOTES = ("title", "default", "examples")


class InvalidAnswerError(Exception):
    """An answer is not what was asked for. The message says what is wrong, as the model is told it.

    Args:
        why: What is wrong.
        said: What was answered instead, as far as it was text.
    """

    def __init__(self, why: str, said: str = "") -> None:
        super().__init__(why)
        self.said = said


@functools.cache
def strict_schema(form: type[BaseModel], *, lengths: bool = True) -> dict[str, Any]:
    """A form's JSON schema as structured output asks for it: no other properties, all of them required.

    The same dict is given each time: not to be changed.

    Args:
        form: A pydantic model.
        lengths: Whether to keep the bounds on lengths of texts, which OpenAI's own service does not take.
    """
    schema = form.model_json_schema()
    _make_strict(schema, lengths)
    return schema


def _make_strict(node: Any, lengths: bool) -> None:
    if isinstance(node, list):
        for item in node:
            _make_strict(item, lengths)
    elif isinstance(node, dict):
        if "$ref" in node:
            ref = node["$ref"]
            node.clear()
            node["$ref"] = ref
            return
        for key in (*_NOTES, *(() if lengths else ("minLength", "maxLength"))):
            node.pop(key, None)
        properties = node.get("properties")
        if isinstance(properties, dict):
            node["additionalProperties"] = False
            node["required"] = list(properties)
        for key, value in node.items():
            if key in ("properties", "$defs"):
                for inner in value.values():
                    _make_strict(inner, lengths)
            elif key not in ("enum", "const", "required"):
                _make_strict(value, lengths)


def chat_body(
    model: str, request: Request, form: type[BaseModel], *, json_schema: bool = True, own_service: bool = False
) -> dict[str, Any]:
    """The body of a chat request for an answer in a form.

    Args:
        model: As the endpoint knows it.
        request: What is asked.
        form: What the answer must be.
        json_schema: Whether the endpoint takes a schema. Otherwise it is put at the end of the first message, which is
            the one that requests share.
        own_service: Whether it goes to OpenAI itself, which takes no lengths of texts and has renamed `max_tokens`.
    """
    schema = strict_schema(form, lengths=not own_service)
    body = _plain_body(model, request, own_service)
    if not json_schema:
        first = body["messages"][0]
        body["messages"][0] = {**first, "content": first["content"] + _SCHEMA_IN_WORDS + json.dumps(schema)}
    else:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": form.__name__, "schema": schema, "strict": True},
        }
    return body


def talk_body(
    model: str, request: Request, tools: Sequence[Mapping[str, Any]], *, own_service: bool = False
) -> dict[str, Any]:
    """The body of a chat request for words or calls of tools.

    Args:
        model: As the endpoint knows it.
        request: The conversation so far.
        tools: As OpenAI's format has them; none are offered where there are none.
        own_service: As for `chat_body`.
    """
    body = _plain_body(model, request, own_service)
    if tools:
        body["tools"] = [dict(tool) for tool in tools]
        body["tool_choice"] = "auto"
    return body


def _plain_body(model: str, request: Request, own_service: bool) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": model,
        "messages": [_sent(message) for message in request.messages],
        "max_completion_tokens" if own_service else "max_tokens": request.max_tokens,
        "temperature": request.temperature,
    }
    if request.seed is not None:
        body["seed"] = request.seed
    return body


def _sent(message: Message) -> dict[str, Any]:
    sent: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.calls:
        sent["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.calls
        ]
    if message.result_of is not None:
        sent["tool_call_id"] = message.result_of
    return sent


def repair_body(body: Mapping[str, Any], wrong: InvalidAnswerError) -> dict[str, Any]:
    """The body of the repair turn: the conversation so far, the answer, and what is wrong with it."""
    said = wrong.said if len(wrong.said) <= _QUOTED else wrong.said[:_QUOTED] + " […]"
    return {
        **body,
        "messages": [
            *body["messages"],
            {"role": "assistant", "content": said or "(no answer)"},
            {
                "role": "user",
                "content": f"That answer cannot be used: {wrong}\nAnswer again, with the JSON object alone.",
            },
        ],
    }


def read_usage(response: Mapping[str, Any]) -> Usage:
    """Tokens as an answer counts them; zeros where it does not."""
    usage = response.get("usage")
    if not isinstance(usage, Mapping):
        return Usage()
    details = usage.get("prompt_tokens_details")
    prompt = _count(usage.get("prompt_tokens"))
    cached = _count(details.get("cached_tokens")) if isinstance(details, Mapping) else 0
    return Usage(prompt, _count(usage.get("completion_tokens")), min(cached, prompt))


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def read_answer(response: Mapping[str, Any], form: type[Form], max_tokens: int) -> Form:
    """An answer in the form that was asked for.

    Words around the JSON object, a fence of three backticks and a model's thoughts in <think> are passed over; control
    characters inside its texts are taken as they are meant.

    Args:
        response: A chat completion, as it came.
        form: What was asked for.
        max_tokens: What the answer was limited to.

    Raises:
        InvalidAnswerError: It was refused, is empty, was cut off, or does not fit.
    """
    said = read_text(response, max_tokens)
    first: InvalidAnswerError | None = None
    for candidate in _candidates(said):
        try:
            return form.model_validate_json(_escaped(candidate))
        except ValidationError as error:
            first = first or InvalidAnswerError(f"it does not fit the form: {problems_of(error)}.", said)
    raise first or InvalidAnswerError("it holds no JSON object.", said)


def read_text(response: Mapping[str, Any], max_tokens: int) -> str:
    """What a chat completion says.

    Raises:
        InvalidAnswerError: It says nothing, refuses, or was cut off.
    """
    try:
        choice = response["choices"][0]
        message = choice["message"]
        content, refusal, finish = message.get("content"), message.get("refusal"), choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise InvalidAnswerError("it has no message.") from None
    said = content if isinstance(content, str) else ""
    if refusal:
        raise InvalidAnswerError(f"the model refused: {_short(str(refusal))}", str(refusal))
    if finish == "content_filter":
        raise InvalidAnswerError("it was withheld by a content filter.", said)
    if finish == "length":
        raise InvalidAnswerError(f"it was cut off after {max_tokens} tokens; it must be shorter.", said)
    if not said.strip():
        raise InvalidAnswerError("it is empty.", said)
    return said


def read_reply(response: Mapping[str, Any]) -> Reply:
    """What a chat completion says and which tools it asks for; a model's thoughts in <think> are passed over.

    Raises:
        InvalidAnswerError: It has no message, or was withheld.
    """
    try:
        choice = response["choices"][0]
        message = choice["message"]
        content, refusal, asked = message.get("content"), message.get("refusal"), message.get("tool_calls") or ()
        calls = tuple(
            ToolCall(str(call.get("id") or f"call_{number}"), str(call["function"]["name"]), _arguments(call))
            for number, call in enumerate(asked)
        )
    except (KeyError, IndexError, TypeError, AttributeError):
        raise InvalidAnswerError("it has no message that can be read.") from None
    if choice.get("finish_reason") == "content_filter":
        raise InvalidAnswerError("it was withheld by a content filter.")
    said = str(refusal) if refusal else content if isinstance(content, str) else ""
    return Reply(said.rpartition("</think>")[2].strip(), calls, choice.get("finish_reason") == "length")


def _arguments(call: Mapping[str, Any]) -> str:
    given = call["function"].get("arguments")
    return given if isinstance(given, str) else json.dumps(given or {})


def _escaped(candidate: str) -> str:
    """JSON with line ends and other control characters inside its texts escaped, which some servers let through even
    under a schema; as it is where it is no JSON."""
    try:
        return json.dumps(json.loads(candidate, strict=False))
    except (ValueError, RecursionError):
        return candidate


def _candidates(said: str) -> Iterator[str]:
    """Where the JSON may be, likeliest first."""
    said = said.rpartition("</think>")[2].strip()
    if not said.startswith("{"):
        fenced = _FENCED.search(said)
        if fenced is not None:
            yield fenced[1].strip()
    start, end = said.find("{"), said.rfind("}")
    if start >= 0:
        # Without its end it is given as it is, for the sake of the complaint.
        yield said[start : end + 1] if end > start else said[start:]


def problems_of(error: ValidationError) -> str:
    """What is wrong, place by place; never with the values, which may be long."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    lines = [
        f"{'.'.join(str(part) for part in problem['loc']) or 'the answer'}: {problem['msg']}"
        for problem in problems[:4]
    ]
    return "; ".join(lines) + (f"; and {len(problems) - 4} more" if len(problems) > 4 else "")


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 200 else text[:200] + "…"


def most_tokens(body: Mapping[str, Any]) -> tuple[int, int]:
    """The most tokens that a body's prompt and answer can have, for budgets.

    A token has at least one byte of text; each message is allowed 64 tokens of the model's own template.
    """
    texts = [message["content"] for message in body.get("messages", ())]
    texts += [json.dumps(message["tool_calls"]) for message in body.get("messages", ()) if "tool_calls" in message]
    texts += [json.dumps(body["tools"])] if "tools" in body else []
    prompt = body.get("prompt") or body.get("input") or ()
    texts += [prompt] if isinstance(prompt, str) else list(prompt)
    schema = body.get("response_format")
    texts += [json.dumps(schema)] if schema else []
    return sum(len(text.encode("utf-8", "replace")) + 64 for text in texts), body.get(
        "max_tokens", body.get("max_completion_tokens", 0)
    )
