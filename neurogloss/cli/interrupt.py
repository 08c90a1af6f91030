"""Ctrl-C: once to stop cleanly, twice to stop at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rich.text import Text

from neurogloss.errors import ExitCode
from neurogloss.render.progress import Display


@contextmanager
def stopping_on_ctrl_c(display: Display) -> Iterator[threading.Event]:
    """An event that the first Ctrl-C (or SIGTERM) sets; a second one ends the process at once.

    At once means without waiting for the workers, as a kill would: what is committed stays, and the next run takes up
    the rest.
    """
    stop, over = threading.Event(), threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            # Raw writes: a lock of the display may be held by what this interrupts.
            show_cursor = b"\x1b[?25h" if os.isatty(2) else b""
            os.write(2, show_cursor + b"\nStopped at once. What was committed is kept; the same command goes on.\n")
            os._exit(int(ExitCode.INTERRUPTED))
        stop.set()

    def tell() -> None:
        # Not from the handler: what it interrupts may be in the middle of a write to the same stream.
        stop.wait()
        if not over.is_set():
            display.say(Text("Stopping after the step in flight. Press Ctrl-C again to stop at once.", "yellow"))

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    earlier = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    teller = threading.Thread(target=tell, name="teller", daemon=True)
    teller.start()
    try:
        yield stop
    finally:
        if not stop.is_set():
            over.set()
            stop.set()  # nobody waits for it any more but the teller
        teller.join()
        for number, handler in earlier.items():
            signal.signal(number, handler)
