"""Answers in the formats of OpenAI's API, with vLLM's additions (`prompt_logprobs`, `structured_outputs`)."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.serving.chat import Chat
from tests.serving.faults import spoil
from tests.serving.minds import Mind, example_of
from tests.serving.talkers import Ask, Talker
from tests.serving.tokens import PrefixCache, chat_tokens, pieces, token_id

WIDTH = 256
"""Of an embedding."""


@dataclass(frozen=True)
class Answer:
    """What is sent back."""

    content: Any
    """The body as a value, or its server-sent events."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    status: int = 200
    media_type: str = "application/json"

    def body(self) -> bytes:
        """As it goes over the wire."""
        if self.media_type == "text/event-stream":
            events = [*(json.dumps(event) for event in self.content), "[DONE]"]
            return "".join(f"data: {event}\n\n" for event in events).encode()
        return json.dumps(self.content).encode()


def answer_chat(
    mind: Mind, chat: Chat, fault: str | None, abilities: Collection[str], context: int, cache: PrefixCache
) -> Answer:
    """A chat completion: a value under a schema, a choice, a tool call or plain text."""
    body = chat.body
    if body.get("response_format") and "json_schema" not in abilities:
        return Answer("`response_format` is not supported.", status=400)
    prompt = chat_tokens(body["messages"])
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or 4096
    if len(prompt) + limit > context:
        return Answer(
            f"This model's maximum context length is {context} tokens. However, you requested {len(prompt) + limit} "
            f"tokens ({len(prompt)} in the messages, {limit} in the completion).", status=400,
        )  # fmt: skip
    message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
    choices = (body.get("structured_outputs") or {}).get("choice") or body.get("guided_choice")
    finish = "stop"
    if body.get("tools") and "tools" not in abilities and "no tools" in abilities:
        return Answer('"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser.', status=400)
    offered = body.get("tools") and body.get("tool_choice") != "none" and "tools" in abilities
    said = mind.talk(chat) if offered and isinstance(mind, Talker) else None
    if isinstance(said, Ask):
        text = json.dumps(said.arguments)
        call = {"name": said.tool, "arguments": text}
        message["tool_calls"] = [{"id": f"call_{token_id(text)}", "type": "function", "function": call}]
        text, finish, completion = "", "tool_calls", len(pieces(text)) + 3
    elif offered and said is None:
        asked, text = body["tools"][0]["function"], ""
        call = {"name": asked["name"], "arguments": json.dumps(example_of(asked.get("parameters", {})))}
        message["tool_calls"] = [{"id": "call_1", "type": "function", "function": call}]
        finish, completion = "tool_calls", len(pieces(call["arguments"])) + 3
    else:
        value = choices[0] if choices and "choice" in abilities else mind(chat) if said is None else said
        whole = value if isinstance(value, str) else json.dumps(value)
        told = spoil(fault, value, whole)
        text = told or ""
        completion = len(pieces(whole if told is None else text)) + 1
        if completion > limit:
            text, completion, finish = "".join(pieces(text)[:limit]), limit, "length"
        if told is None:
            message["refusal"] = "I cannot help with that."
        else:
            message["content"] = text
    cached = cache.seen(prompt)
    wants_logprobs = body.get("logprobs") and "logprobs" in abilities and fault != "no logprobs"
    logprobs = _chat_logprobs(text, int(body.get("top_logprobs") or 0)) if wants_logprobs else None
    usage = {
        "prompt_tokens": len(prompt), "completion_tokens": completion, "total_tokens": len(prompt) + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }  # fmt: skip
    head = {"id": f"chatcmpl-{token_id(text)}", "created": 1, "model": body["model"]}
    counts = (len(prompt), completion, cached)
    if body.get("stream") and "streaming" in abilities:
        events = _events(
            head, message, finish, usage if (body.get("stream_options") or {}).get("include_usage") else None
        )
        return Answer(events, *counts, media_type="text/event-stream")
    choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": logprobs}
    return Answer({**head, "object": "chat.completion", "choices": [choice], "usage": usage}, *counts)


def answer_completion(
    mind: Mind, body: Mapping[str, Any], fault: str | None, abilities: Collection[str], context: int
) -> Answer:
    """A text completion of one word, with the log-probabilities of the prompt's tokens where they are asked for."""
    prompts = [body["prompt"]] if isinstance(body["prompt"], str) else list(body["prompt"])
    asked = body.get("prompt_logprobs")
    told = asked is not None and "prompt_logprobs" in abilities and fault != "no logprobs"
    choices, prompt_tokens = [], 0
    for index, prompt in enumerate(prompts):
        read = mind.read(prompt)
        if len(read) + int(body.get("max_tokens") or 16) > context:
            return Answer(f"This model's maximum context length is {context} tokens.", status=400)
        prompt_tokens += len(read)
        choice: dict[str, Any] = {"index": index, "text": " end", "logprobs": None, "finish_reason": "length"}
        if told:
            choice["prompt_logprobs"] = _prompt_logprobs(read, int(asked or 0))
        choices.append(choice)
    counts = (prompt_tokens, len(prompts), 0)
    usage = {"prompt_tokens": counts[0], "completion_tokens": counts[1], "total_tokens": sum(counts)}
    head = {"id": f"cmpl-{prompt_tokens}", "object": "text_completion", "created": 1, "model": body["model"]}
    return Answer({**head, "choices": choices, "usage": usage}, *counts)


def answer_embeddings(body: Mapping[str, Any], fault: str | None, abilities: Collection[str]) -> Answer:
    """Hashed bags of words, of length one."""
    if "embeddings" not in abilities:
        return Answer("This model does not support the embeddings API.", status=404)
    texts = [body["input"]] if isinstance(body["input"], str) else list(body["input"])
    vectors = [embedding(text) for text in texts]
    compact = body.get("encoding_format") == "base64"
    sent = [base64.b64encode(v.tobytes()).decode() if compact else v.tolist() for v in vectors]
    data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(sent)]
    count = sum(len(pieces(text)) for text in texts)
    usage = {"prompt_tokens": count, "total_tokens": count}
    content = {"object": "list", "data": [] if fault == "empty" else data, "model": body["model"], "usage": usage}
    return Answer(content, count)


def embedding(text: str) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """A text's bag of lower-case words, hashed into `WIDTH` places with signs; float32, of length one."""
    vector = np.zeros(WIDTH, np.float32)
    for word in re.findall(r"\w+|[^\w\s]", text.lower()):
        number = token_id(word)
        vector[number % WIDTH] += 1 if number & 0x10000 else -1
    norm = float(np.linalg.norm(vector))
    return vector / norm if norm else vector


def _chat_logprobs(text: str, top: int) -> dict[str, Any]:
    content = []
    for piece in pieces(text):
        likeliest = [
            {"token": token, "logprob": logprob, "bytes": list(token.encode())}
            for token, logprob in ((piece, -0.1), (" the", -3.0), (" a", -4.0), (" an", -5.0))[:top]
        ]
        content.append({"token": piece, "logprob": -0.1, "bytes": list(piece.encode()), "top_logprobs": likeliest})
    return {"content": content, "refusal": None}


def _prompt_logprobs(
    read: Sequence[tuple[str, float, Mapping[str, float]]], top: int
) -> list[dict[str, dict[str, Any]] | None]:
    """As vLLM sends them: for each token but the first, by token id, the one that is there, then `top` likeliest."""
    out: list[dict[str, dict[str, Any]] | None] = []
    for index, (token, logprob, likeliest) in enumerate(read):
        if index == 0:
            out.append(None)
            continue
        ranked = sorted(likeliest.items(), key=lambda item: -item[1])
        shown = dict(ranked[:top])
        shown.setdefault(token, likeliest.get(token, logprob))
        ranks = {name: rank + 1 for rank, name in enumerate(sorted(shown, key=lambda name: -shown[name]))}
        out.append(
            {
                str(token_id(name)): {"logprob": max(shown[name], -9999.0) if math.isfinite(shown[name]) else -9999.0,
                                      "rank": ranks[name], "decoded_token": name}
                for name in dict.fromkeys([token, *ranks])
            }
        )  # fmt: skip
    return out


def _events(
    head: Mapping[str, Any], message: Mapping[str, Any], finish: str, usage: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    def event(delta: Mapping[str, Any], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": dict(delta), "finish_reason": reason, "logprobs": None}
        return {**head, "object": "chat.completion.chunk", "choices": [choice]}

    events = [event({"role": "assistant", "content": ""})]
    events += [event({"content": piece}) for piece in pieces(message["content"] or "")]
    if message["refusal"]:
        events.append(event({"refusal": message["refusal"]}))
    for index, call in enumerate(message.get("tool_calls", [])):
        events.append(event({"tool_calls": [{"index": index, **call}]}))
    events.append(event({}, finish))
    return [*events, {**head, "object": "chat.completion.chunk", "choices": [], "usage": usage}] if usage else events
