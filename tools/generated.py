"""Built-in subjects that are made on the user's machine when they are first asked for, such as ``find:seed=3``."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from tools.errors import SubjectError

#: What stands before the first colon of a subject's name -> the module whose `subject_folder` makes it.
BUILDERS = {"find": "tools.functions", "planted": "tools.planted"}


def generated_folder(name: str) -> tuple[str, Path] | None:
    """Short name and folder of a generated subject, made if it is not there yet; None when `name` is none.

    Raises:
        SubjectError: The options after the colon are not understood.
    """
    kind, _, options = name.partition(":")
    if kind not in BUILDERS:
        return None
    make: Callable[[str], tuple[str, Path]] = import_module(BUILDERS[kind]).subject_folder
    return make(options)


def cache_folder(kind: str) -> Path:
    """Where generated subjects of one kind are kept: below ``$XDG_CACHE_HOME``, else ``~/.cache``."""
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(root).expanduser() / "neurogloss" / kind


def build_once(folder: Path, fill: Callable[[Path], None]) -> Path:
    """Make a folder in one step: either it is there with all that `fill` writes, or it is not there.

    Several processes may build the same folder at once; the first to finish wins, and all have the same content.

    Raises:
        SubjectError: The cache cannot be written to.
    """
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            fill(work)
            work.chmod(0o755)
            try:
                work.rename(folder)
            except OSError:
                if not folder.is_dir():
                    raise
        finally:
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise SubjectError(
            f"The subject cannot be built in {folder.parent}: {error.strerror or error}. Set XDG_CACHE_HOME to a "
            "folder that can be written to."
        ) from error
    return folder
