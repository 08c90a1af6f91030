"""What went wrong with a call, whether to try again, and when."""

from __future__ import annotations

import email.utils
import enum
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass

import openai


class Kind(enum.Enum):
    """What a failure says about what to do next."""

    OVERLOADED = "overloaded"
    """The endpoint has too much to do (429, 503): send less, come back later."""
    SLOW = "slow"
    """It did not answer in time: send less, try again."""
    BROKEN = "broken"
    """It failed (5xx), the connection was cut, or what came is not JSON: try again."""
    UNREACHABLE = "unreachable"
    """Nothing listens there. Says nothing of the call: wait, or go elsewhere."""
    REJECTED = "rejected"
    """This call cannot succeed (400, 413, 422): too long, or with a parameter that is not known."""
    ABSENT = "absent"
    """404: no such model, or no such path."""
    DENIED = "denied"
    """The endpoint takes no call of ours (401, 402, 403; a quota that is used up)."""


@dataclass(frozen=True)
class Fault:
    """A failure of one attempt."""

    kind: Kind
    message: str
    wait: float | None = None
    """Seconds that the endpoint asks to wait, where it says so."""


@dataclass(frozen=True)
class Backoff:
    """Exponential, with full jitter (Brooker 2015, "Exponential backoff and jitter")."""

    base: float = 0.5
    """The longest first wait, in seconds; each further one is up to twice as long."""
    cap: float = 30.0

    def longest(self, attempt: int) -> float:
        """Upper end of the n-th wait, from 0."""
        return min(self.cap, self.base * 2.0 ** min(attempt, 30))

    def wait(self, attempt: int) -> float:
        """Seconds to wait before the n-th retry, from 0."""
        return random.uniform(0.0, self.longest(attempt))


class NotJsonError(Exception):
    """What came back with status 200 is not a JSON object, or is an error."""


def fault_of(error: Exception) -> Fault:
    """What an exception of the HTTP client, or one of ours, says.

    Raises:
        Exception: It is none of these: a mistake in the program, which is not to be retried.
    """
    if isinstance(error, TimeoutError | openai.APITimeoutError):
        return Fault(Kind.SLOW, "no answer in time")
    if isinstance(error, openai.APIStatusError):
        return _of_status(error)
    if isinstance(error, openai.APIConnectionError):
        cause = error.__cause__
        # By name: which HTTP library is underneath depends on the version of `openai`.
        name = type(cause).__name__
        if name == "ConnectError":
            return Fault(Kind.UNREACHABLE, f"no connection ({cause})")
        return Fault(Kind.BROKEN, f"the connection was cut ({name})")
    if isinstance(error, NotJsonError):
        return Fault(Kind.BROKEN, str(error))
    raise error


def _of_status(error: openai.APIStatusError) -> Fault:
    status = error.status_code
    message = f"HTTP {status}: {_detail(error)}"
    wait = retry_after(error.response.headers)
    if status == 429 and error.code == "insufficient_quota":
        return Fault(Kind.DENIED, message)
    if status in (429, 503, 529):
        return Fault(Kind.OVERLOADED, message, wait)
    if status in (408, 504):
        return Fault(Kind.SLOW, message, wait)
    if status in (401, 402, 403):
        return Fault(Kind.DENIED, message)
    if status == 404:
        return Fault(Kind.ABSENT, message)
    if status >= 500 or status in (409, 425):
        return Fault(Kind.BROKEN, message, wait)
    return Fault(Kind.REJECTED, message)


def _detail(error: openai.APIStatusError) -> str:
    body = error.body
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        inner = inner.get("message", inner) if isinstance(inner, Mapping) else inner
        body = body.get("message", body.get("detail", inner))
    text = " ".join(str(body or error.message).split())
    return text if len(text) <= 300 else text[:300] + "…"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the headers ask to wait: `retry-after-ms`, or `Retry-After` in seconds or as a date."""
    try:
        return max(0.0, float(headers["retry-after-ms"]) / 1000)
    except (KeyError, ValueError):
        pass
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        date = email.utils.parsedate_tz(value)
        return None if date is None else max(0.0, email.utils.mktime_tz(date) - time.time())
