"""What the workers of a process share with the rest of the machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from agent.workers import return_freed_memory


def own_memory() -> int:
    """Bytes of this process that are in memory and no file's."""
    resident, mapped = (int(field) for field in Path("/proc/self/statm").read_text().split()[1:3])
    return (resident - mapped) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and other C libraries cannot be told to")
def test_memory_below_what_is_still_in_use_goes_back_to_the_system() -> None:
    blocks = [bytearray(b"x" * 65_536) for _ in range(3_000)]
    last = blocks[-1]
    full = own_memory()
    blocks.clear()
    return_freed_memory()
    assert own_memory() < full - 100_000_000
    assert len(last) == 65_536
