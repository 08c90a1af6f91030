"""Who pays for a call: an account is named around the work, and the client finds it there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from explainers.llm.types import Account

_ACCOUNT: ContextVar[Account] = ContextVar("account")


class NoAccountError(RuntimeError):
    """A language model was asked outside `charged_to`: a mistake in the program, not in its use."""


@contextmanager
def charged_to(account: Account) -> Iterator[Account]:
    """Calls made within, in this thread, are reported to the account.

    A thread started within knows nothing of it, unless it is run in a copy of this context
    (`contextvars.copy_context().run`).
    """
    token = _ACCOUNT.set(account)
    try:
        yield account
    finally:
        _ACCOUNT.reset(token)


def current_account() -> Account:
    """The account that calls made here are charged to.

    Raises:
        NoAccountError: There is none.
    """
    try:
        return _ACCOUNT.get()
    except LookupError:
        raise NoAccountError(
            "No account: a language model is asked outside `with charged_to(account)`, so the call could not be kept."
        ) from None
