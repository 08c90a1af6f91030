"""Files of an index: atomic writes, arrays reserved on disk before they are mapped, one builder at a time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tools.errors import IndexDataError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
Array = npt.NDArray[Any]


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what the file system refuses into an `IndexDataError` that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise IndexDataError(
                f"No room left on the disk for the index at {path}.\n"
                "Free some space (or pass another --home) and run the same command again: it goes on from its last "
                "checkpoint."
            ) from error
        raise IndexDataError(f"The index at {path} cannot be written: {error}.") from error


def sync_folder(folder: Path) -> None:
    """Make renames within `folder` durable."""
    sync_file(folder)


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[io.BufferedWriter]:
    """A new file that takes the place of `path` once it is whole and durable, and leaves nothing behind otherwise."""
    temporary = path.with_name(path.name + ".part")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old one or the whole new one, whatever happens in between."""
    with _replacing(path) as file:
        file.write(data)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically."""
    write_bytes(path, json.dumps(value, ensure_ascii=False, indent=1).encode())


def write_array(path: Path, array: Array) -> None:
    """Write a ``.npy`` file atomically."""
    with _replacing(path) as file:
        np.save(file, array, allow_pickle=False)


def write_arrays(path: Path, arrays: dict[str, Array]) -> None:
    """Write an uncompressed ``.npz`` file atomically."""
    with _replacing(path) as file:
        np.savez(file, allow_pickle=False, **arrays)


def reserve_array(path: Path, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> int:
    """Make a ``.npy`` file whose space on the disk is already taken, unless it exists; returns where its data begin.

    So a disk that is too full says so before the work, not after it. (And writing through a memory map into a hole of a
    file that the disk cannot fill would kill the process with SIGBUS.)
    """
    if not path.exists():
        with _replacing(path) as file:
            header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            _reserve(file, int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize)
    with open(path, "rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        return file.tell()


def write_at(handle: int, data: Array, offset: int) -> None:
    """Write all of a contiguous array at `offset` of an open file."""
    view = data.data.cast("B")
    while len(view):
        written = os.pwrite(handle, view, offset)
        view, offset = view[written:], offset + written


def sync_file(path: Path) -> None:
    """Make a file's content durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _reserve(file: io.BufferedWriter, size: int) -> None:
    """Extend `file` by `size` zero bytes that exist on disk."""
    file.flush()
    start = file.tell()
    if size and hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), start, size)
        return
    chunk = bytes(1 << 20)
    for offset in range(0, size, len(chunk)):
        file.write(chunk[: size - offset])


def load_array(path: Path, *, mapped: bool = True) -> Array:
    """Read or map a ``.npy`` file; a damaged one raises `IndexDataError`."""
    try:
        # A map of nothing is refused by the operating system, hence the size check for empty arrays.
        array: Array = np.asarray(np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False))
    except ValueError as error:
        if mapped and "empty" in str(error):
            return load_array(path, mapped=False)
        raise damaged(path, str(error)) from error
    except (OSError, EOFError) as error:
        raise damaged(path, str(error)) from error
    return array


def load_json(path: Path) -> Any:
    """Read a JSON file; a damaged one raises `IndexDataError`."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise damaged(path, str(error)) from error


def damaged(path: Path, why: str) -> IndexDataError:
    """The error for a file that is missing or not what the manifest says."""
    return IndexDataError(
        f"The index file {path} is damaged ({why}).\nDelete the folder {path.parent} and build the index again."
    )


def sha256_file(path: Path) -> str:
    """Hex digest of a whole file (about 1 GB a second)."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def exclusive(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock file at `path`. When another process holds it, call `waiting` once and wait for it."""
    with open(path, "a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        # Closing the file releases the lock, also when the process is killed.
        yield
