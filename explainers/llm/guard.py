"""Runs a server and sees to it that it never outlives its owner: `python guard.py SECONDS SECONDS COMMAND ...`.

A server that holds a model is several processes. The guard starts them as one process group and ends the whole group
when its standard input closes, when the process that started it is gone, however that ended, or when it is told to
(SIGTERM): with SIGINT, after the first number of seconds with SIGTERM, after the second with SIGKILL. It ends with the
server's status, or 128 + the number of the signal that ended it. Standard library only: it runs as a script, in a
process of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType

_GRACE = 2.0
"""Seconds in which the others of the group may put things away after the first of them has ended."""
_TICK = 0.2
_PR_SET_PDEATHSIG = 1


def guard(command: Sequence[str], patience: Sequence[float]) -> int:
    """Runs a command to its end, or to that of the parent; its exit status.

    Args:
        command: The server's.
        patience: Seconds that are waited after SIGINT, and then after SIGTERM.
    """
    parent = os.getppid()
    told = False

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal told
        told = True

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the owner's to decide upon
    try:
        # There are no threads here that `preexec_fn` could meet in a bad moment.
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0, preexec_fn=_bound)  # noqa: PLW1509
    except OSError as error:
        print(f"{command[0]} cannot be started: {error.strerror}", file=sys.stderr)
        return 127
    while child.poll() is None and not told and os.getppid() == parent:
        with contextlib.suppress(InterruptedError):
            if select.select([0], [], [], _TICK)[0] and not os.read(0, 4096):
                break
    status = _end(child, patience)
    return status if status >= 0 else 128 - status


def _bound() -> None:
    """In the child: it asks to be ended should the guard itself be killed (Linux)."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _end(child: subprocess.Popen[bytes], patience: Sequence[float]) -> int:
    """Ends a group of processes, first politely, and leaves none of it behind."""
    for number, seconds in zip((signal.SIGINT, signal.SIGTERM), patience, strict=True):
        if child.poll() is not None:
            break
        _signal(child, number)
        ends = time.monotonic() + seconds
        while child.poll() is None and time.monotonic() < ends:
            time.sleep(0.05)
    ends = time.monotonic() + _GRACE
    while child.poll() is not None and _signal(child, 0) and time.monotonic() < ends:
        time.sleep(0.05)
    _signal(child, signal.SIGKILL)
    return child.wait()


def _signal(child: subprocess.Popen[bytes], number: int) -> bool:
    """Signals the whole group; whether any of it is there (0: only asks)."""
    try:
        os.killpg(child.pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    sys.exit(guard(sys.argv[3:], [float(seconds) for seconds in sys.argv[1:3]]))
