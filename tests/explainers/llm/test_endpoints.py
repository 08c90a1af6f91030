"""Words that name endpoints, and where keys come from."""

from __future__ import annotations

import pytest

from explainers.llm.client import LlmClient
from explainers.llm.endpoints import KEY, OPENAI_KEY, Endpoint, EndpointNameError, KeyMissingError, parse_endpoint


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (KEY, OPENAI_KEY):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("text", "kind", "model", "url"),
    [
        ("openai:gpt@https://api.openai.com/v1", "openai", "gpt", "https://api.openai.com/v1"),
        ("openai:gpt@https://api.openai.com", "openai", "gpt", "https://api.openai.com/v1"),
        ("openai:org/m:free@https://host/api/v1/", "openai", "org/m:free", "https://host/api/v1"),
        ("openai:m@https://host/v1beta/openai", "openai", "m", "https://host/v1beta/openai"),
        ("openai:m@https://host/llm", "openai", "m", "https://host/llm/v1"),
        ("openai:team@7b@http://localhost:8000", "openai", "team@7b", "http://localhost:8000/v1"),
        (" vllm:Qwen/Qwen3-8B@http://[::1]:8000/v1 ", "vllm", "Qwen/Qwen3-8B", "http://[::1]:8000/v1"),
        ("vllm:/models/a folder", "vllm", "/models/a folder", None),
    ],
)
def test_endpoints_are_named_by_kind_model_and_url(text: str, kind: str, model: str, url: str | None) -> None:
    endpoint = parse_endpoint(text)
    assert (endpoint.kind, endpoint.model, endpoint.url) == (kind, model, url)
    assert parse_endpoint(str(endpoint)) == endpoint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no endpoint"),
        ("gpt", "names no endpoint"),
        ("azure:gpt@https://x", "names no endpoint: write openai:MODEL@URL"),
        ("openai:@https://x", "names no model"),
        ("vllm:", "names no model"),
        ("openai:gpt", "does not say where"),
        ("openai:gpt@localhost:8000", "must be http://HOST"),
        ("openai:gpt@file:///etc/passwd", "must be http://HOST"),
        ("openai:gpt@http://", "must be http://HOST"),
        ("openai:gpt@http://host:port", "cannot be used"),
        ("openai:gpt@https://host/v1?api_key=abc", "keys come from the environment"),
    ],
)
def test_words_that_name_none_are_refused_with_what_to_write(text: str, message: str) -> None:
    with pytest.raises(EndpointNameError, match=message):
        parse_endpoint(text)


def test_a_password_in_a_url_is_not_repeated() -> None:
    with pytest.raises(EndpointNameError) as raised:
        parse_endpoint("openai:gpt@https://me:hunter2@host/v1")
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "keys", "sent"),
    [
        ("openai:m@https://host", {OPENAI_KEY: "a"}, "a"),
        ("openai:m@https://host", {OPENAI_KEY: "a", KEY: "b"}, "b"),
        ("openai:m@http://127.0.0.1:1", {}, None),
        ("openai:m@http://localhost:1", {OPENAI_KEY: "a"}, "a"),
        ("openai:m@http://localhost:1", {OPENAI_KEY: "  "}, None),
        ("vllm:m@https://host", {}, None),
        ("vllm:m@https://host", {OPENAI_KEY: "a"}, None),
        ("vllm:m@https://host", {KEY: "b"}, "b"),
    ],
)
def test_keys_come_from_the_environment(
    text: str, keys: dict[str, str], sent: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    assert parse_endpoint(text).key() == sent


def test_an_endpoint_elsewhere_without_a_key_says_which_variable_to_set() -> None:
    endpoint = parse_endpoint("openai:m@https://host")
    with pytest.raises(KeyMissingError, match=f"openai:m@https://host/v1 needs a key: set {OPENAI_KEY} or {KEY}"):
        endpoint.key()
    with pytest.raises(KeyMissingError):
        LlmClient([endpoint])


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("[::1]", True),
        ("10.0.0.1", False),
        ("a.b", False),
    ],
)
def test_this_machine_is_known_by_its_names(host: str, local: bool) -> None:
    assert Endpoint("vllm", "m", f"http://{host}:8000/v1", None).local is local


def test_vllm_is_known_to_tell_log_probabilities() -> None:
    assert parse_endpoint("vllm:m@http://host").abilities().prompt_logprobs
    assert not parse_endpoint("openai:m@http://host").abilities().prompt_logprobs
