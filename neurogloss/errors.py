"""From exceptions to what people read and to the status with which the command ends.

Status 0: done. 1: a fault of the program. 2: something the user can mend, said in one to three lines. 130: stopped
from the keyboard.
"""

from __future__ import annotations

import enum
import errno
from dataclasses import dataclass


class ExitCode(enum.IntEnum):
    """Statuses with which the command ends."""

    OK = 0
    FAULT = 1
    USAGE = 2
    INTERRUPTED = 130


class UsageError(Exception):
    """A request that cannot be met as it was put; the message alone is shown."""


@dataclass(frozen=True)
class Failure:
    """What is shown of an exception, and the status that goes with it."""

    message: str
    code: ExitCode


def failure_of(error: BaseException) -> Failure:
    """What to say about an exception.

    Conditions that the user can mend (ours, the database's, a value that does not validate, a full disk, a file that
    is missing or may not be read) give their message and status 2. Anything else is a fault of the program: one line,
    a hint at ``--debug``, and status 1.
    """
    # Deferred: on the way to success nobody pays for these imports.
    from pydantic import ValidationError

    from store.errors import StoreError
    from tools.errors import NeuroglossError

    if isinstance(error, KeyboardInterrupt):
        return Failure("Stopped.", ExitCode.INTERRUPTED)
    if isinstance(error, UsageError | NeuroglossError | StoreError):
        return Failure(str(error), ExitCode.USAGE)
    if isinstance(error, ValidationError):
        return Failure(_validation_message(error), ExitCode.USAGE)
    if isinstance(error, OSError) and (message := _system_message(error)):
        return Failure(message, ExitCode.USAGE)
    first_line = (str(error).strip().splitlines() or [""])[0]
    return Failure(
        f"Unexpected {type(error).__name__}: {first_line[:300]}\nRun the same command with --debug to see where.",
        ExitCode.FAULT,
    )


def _validation_message(error: object) -> str:
    from pydantic import ValidationError

    assert isinstance(error, ValidationError)
    problems = []
    for item in error.errors(include_url=False, include_context=False):
        where = ".".join(str(part) for part in item["loc"])
        given = item.get("input")
        shown = f" (given: {str(given)[:60]!r})" if isinstance(given, str | int | float | bool) else ""
        problems.append(f"{where + ': ' if where else ''}{item['msg'].removeprefix('Value error, ')}{shown}")
    more = f"\n... and {len(problems) - 2} more" if len(problems) > 2 else ""
    return "\n".join(problems[:2]) + more


def _system_message(error: OSError) -> str | None:
    """The message for conditions of the machine that the user can mend; None for the others."""
    where = f" {error.filename}" if error.filename is not None else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return (
            f"The disk is full: could not write{where or ' to the data folder'}.\n"
            "What was done so far is kept. Free some space, or name another folder with --home, and run it again."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"No permission to use{where}. Name another folder with --home, or another database with --db."
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR) and where:
        return f"{error.strerror}:{where}"
    return None
