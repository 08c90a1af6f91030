"""A process's memory over time, from /proc."""

from __future__ import annotations

import os
import statistics
import threading
import time
from pathlib import Path
from typing import Self

PAGE = os.sysconf("SC_PAGE_SIZE")
EVERY = 0.5
"""Seconds between two samples."""
WARM = 0.25
"""Share of the time at the beginning that does not count: caches fill, libraries are loaded."""
MOST_GROWTH = 0.05
"""Of memory that is still called flat, over the rest of the time."""


class Memory:
    """Samples a process's memory while the block runs: what is its own, without files that are mapped into it.

    An index is such a file. Its pages are read as units are asked for and are the system's to drop; they would look
    like a leak that ends when all of the index has been read.

    Args:
        pid: Of the process; None: this one.
    """

    def __init__(self, pid: int | None = None) -> None:
        self._file = Path(f"/proc/{pid or 'self'}/statm")
        self.samples: list[tuple[float, int]] = []
        """Seconds since the beginning, and bytes of its own."""
        self.most_resident = 0
        """Bytes at most, files that are mapped included."""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="memory", daemon=True)

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            try:
                resident, mapped = (int(field) * PAGE for field in self._file.read_text().split()[1:3])
            except (OSError, IndexError):  # it has ended
                return
            self.most_resident = max(self.most_resident, resident)
            self.samples.append((time.monotonic() - self._began, resident - mapped))
            if self._over.wait(EVERY):
                return

    def since(self, seconds: float) -> list[tuple[float, int]]:
        """Samples from a moment on."""
        return [sample for sample in self.samples if sample[0] >= seconds]


def growth(samples: list[tuple[float, int]]) -> float | None:
    """Share by which memory grows from the first third to the last of the time after warming up; None of too few."""
    if len(samples) < 8:
        return None
    begin, end = samples[0][0], samples[-1][0]
    warm = [sample for sample in samples if sample[0] >= begin + WARM * (end - begin)]
    third = len(warm) // 3
    first, last = (statistics.median(size for _, size in part) for part in (warm[:third], warm[-third:]))
    return last / first - 1
