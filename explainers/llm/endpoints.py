"""Where a language model is served: `openai:MODEL@URL`, `vllm:MODEL@URL`, or `vllm:MODEL`, which is to be started."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlsplit, urlunsplit

from explainers.llm.types import Abilities, LlmError

Kind = Literal["openai", "vllm"]
KINDS: Final[tuple[Kind, ...]] = ("openai", "vllm")
KEY: Final = "NEUROGLOSS_LLM_KEY"
"""The environment's variable with the key, for endpoints of both kinds."""
OPENAI_KEY: Final = "OPENAI_API_KEY"
"""The one that is taken for kind 'openai' where the other is not set."""
#: Where the URL begins.
_URL = re.compile(r"@(?=https?://)")
#: A part of a URL's path that names a version of the interface, as in /v1 or /v1beta.
_VERSION = re.compile(r"v\d+[a-z\d]*")


class EndpointNameError(LlmError):
    """The words that name an endpoint cannot be understood."""


class KeyMissingError(LlmError):
    """An endpoint elsewhere asks for a key, and the environment has none."""


@dataclass(frozen=True)
class Endpoint:
    """A model at a URL. The key is not part of it, only the name of the variable that has it."""

    kind: Kind
    """'vllm' is known to be vLLM, with all it can do; 'openai' is any server that speaks OpenAI's interface."""
    model: str
    url: str | None
    """The base, ending with the version: https://host/v1. None: to be started."""
    key_env: str | None
    """The variable that has the key; None when none is sent."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.model}" + (f"@{self.url}" if self.url else "")

    @property
    def local(self) -> bool:
        """Whether it is on this machine."""
        return self.url is not None and is_loopback(urlsplit(self.url).hostname or "")

    def key(self) -> str | None:
        """The key, from the environment.

        Raises:
            KeyMissingError: The variable is not set.
        """
        if self.key_env is None:
            return None
        key = os.environ.get(self.key_env, "").strip()
        if not key:
            raise KeyMissingError(f"The endpoint {self} needs a key: set {OPENAI_KEY} or {KEY} in the environment.")
        return key

    def abilities(self) -> Abilities:
        """What is taken for granted of its kind, until it is tried."""
        if self.kind == "vllm":
            return Abilities(json_schema=True, choice=True, logprobs=True, prompt_logprobs=True, streaming=True)
        return Abilities(json_schema=True, streaming=True)


def is_loopback(host: str) -> bool:
    """Whether a host's name means this machine."""
    if host.lower() == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def parse_endpoint(text: str) -> Endpoint:
    """The endpoint that is meant.

    Which variable has the key is decided here: `NEUROGLOSS_LLM_KEY` where it is set; else, for kind 'openai',
    `OPENAI_API_KEY`. Endpoints on this machine and of kind 'vllm' are asked without a key where none is set.

    Args:
        text: `openai:MODEL@URL`, `vllm:MODEL@URL` or `vllm:MODEL`. The URL may leave out /v1.

    Raises:
        EndpointNameError: It is none of these, or the URL is not one that can be used.
    """
    kind, colon, rest = text.strip().partition(":")
    if not colon or kind not in KINDS:
        raise EndpointNameError(
            f"'{text}' names no endpoint: write openai:MODEL@URL, vllm:MODEL@URL, or vllm:MODEL to have one started."
        )
    # A model's name may have an @; so may a URL with a password, which is refused below.
    begins = _URL.search(rest)
    cut = begins.start() if begins else rest.rfind("@")
    model, at, address = (rest[:cut], "@", rest[cut + 1 :]) if cut >= 0 else (rest, "", "")
    if not model.strip():
        raise EndpointNameError(f"'{text}' names no model: write {kind}:MODEL@URL.")
    if not at:
        if kind == "openai":
            raise EndpointNameError(
                f"'{text}' does not say where: write {text}@URL, such as {text}@http://host:8000/v1."
            )
        return Endpoint("vllm", model, None, None)
    url = _base(address, text)
    local = is_loopback(urlsplit(url).hostname or "")
    if os.environ.get(KEY, "").strip():
        key_env: str | None = KEY
    elif kind == "openai" and (not local or os.environ.get(OPENAI_KEY, "").strip()):
        key_env = OPENAI_KEY
    else:
        key_env = None
    return Endpoint("vllm" if kind == "vllm" else "openai", model, url, key_env)


def _base(address: str, text: str) -> str:
    try:
        parts = urlsplit(address.strip())
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise EndpointNameError(f"The URL of '{text}' cannot be used: {error}.") from None
    if parts.scheme not in ("http", "https") or not host:
        raise EndpointNameError(f"The URL of '{text}' must be http://HOST[:PORT] or https://HOST, with or without /v1.")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise EndpointNameError(
            f"The URL of the endpoint at {host} must hold no user, password or query: keys come from the environment "
            f"({KEY} or {OPENAI_KEY})."
        )
    path = parts.path.rstrip("/")
    if not any(_VERSION.fullmatch(part) for part in path.split("/")):
        path += "/v1"
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))
