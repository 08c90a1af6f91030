"""Who holds a lease, in words from which others can tell whether it is still there."""

from __future__ import annotations

import contextlib
import os
import socket
import uuid
from pathlib import Path


def _machine() -> str:
    """This machine, or this container: process numbers mean something within it only."""
    namespace = ""
    with contextlib.suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
    return f"{socket.gethostname()}/{uuid.getnode():x}/{namespace}"


def _start(pid: int) -> str | None:
    """When a process started, in clock ticks since boot; None where the system does not say (not Linux)."""
    try:
        # The second field is the command's name in brackets and may hold anything; count from behind it.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def this_process() -> str:
    """The owner name of this process: machine, process number, start."""
    return f"{_machine()}|{os.getpid()}|{_start(os.getpid()) or ''}"


def is_alive(owner: str) -> bool:
    """Whether the process behind an owner name may still be at work; True when in doubt."""
    machine, _, rest = owner.partition("|")
    number, _, start = rest.partition("|")
    if machine != _machine() or not number.isdigit():
        return True
    pid = int(number)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    now = _start(pid)
    return not start or now is None or now == start
