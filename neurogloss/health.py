"""What is installed, what device there is, where data goes, what is missing and how to get it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import sqlite3
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurogloss.render.text import count, size
from neurogloss.settings import Settings, sqlite_file, without_password

GOOD, MISSING, BROKEN = "ok", "missing", "broken"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    section: str
    name: str
    status: str
    """'ok'; 'missing': something optional that is not there; 'broken': something that is needed."""
    value: str
    remedy: str | None = None
    """How to get what is missing."""
    details: dict[str, Any] = field(default_factory=dict)


def examine(settings: Settings) -> list[Finding]:
    """Looks at everything. Never raises: what cannot be looked at is a finding itself."""
    parts: tuple[tuple[str, Callable[[], Iterator[Finding]]], ...] = (
        ("python", _python),
        ("packages", _packages),
        ("packages", _serving),
        ("device", _device),
        ("data", lambda: _home(settings)),
        ("data", lambda: _database(settings)),
        ("model", _model),
    )
    findings: list[Finding] = []
    for section, look in parts:
        try:
            findings.extend(look())
        except Exception as error:  # a doctor that falls ill helps nobody; the reason is shown instead
            findings.append(Finding(section, section, BROKEN, f"could not be examined: {error}"))
    return findings


def _python() -> Iterator[Finding]:
    version = platform.python_version()
    good = sys.version_info >= (3, 11)
    yield Finding(
        "python", "python", GOOD if good else BROKEN, f"{version} ({platform.system()} {platform.machine()})",
        None if good else "Install Python 3.11 or newer.", {"executable": sys.executable},
    )  # fmt: skip
    try:
        sqlite3.connect(":memory:").execute("CREATE VIRTUAL TABLE t USING fts5(x)")
        yield Finding("python", "sqlite", GOOD, f"{sqlite3.sqlite_version} with full-text search (FTS5)")
    except sqlite3.OperationalError:
        yield Finding(
            "python", "sqlite", BROKEN, f"{sqlite3.sqlite_version} without full-text search (FTS5)",
            "Use a Python whose SQLite has FTS5, such as the one of python.org, uv or conda.",
        )  # fmt: skip


def requirements() -> list[str]:
    """The distribution's requirements, from its metadata or, in a source tree, from pyproject.toml."""
    try:
        found = importlib.metadata.requires("neurogloss")
        if found:
            return found
    except importlib.metadata.PackageNotFoundError:
        pass
    project = Path(__file__).resolve().parent.parent / "pyproject.toml"
    table = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    extras = table.get("optional-dependencies", {})
    return [*table["dependencies"], *(f'{r}; extra == "{extra}"' for extra, group in extras.items() for r in group)]


def _serving() -> Iterator[Finding]:
    """vLLM in an environment of its own, where the user names one."""
    from explainers.llm.vllm_command import PYTHON, ServeError, find_vllm

    named = os.environ.get(PYTHON, "").strip()
    if not named:
        return
    try:
        found = find_vllm()
    except ServeError as error:
        what, _, remedy = str(error).partition("\n")
        yield Finding("packages", PYTHON, MISSING, what, remedy or f"Name an interpreter that has vLLM in {PYTHON}.")
    else:
        yield Finding("packages", PYTHON, GOOD, f"{found.distribution} {found.version} of {found.python}")


def _packages() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    try:
        yield Finding("packages", "neurogloss", GOOD, importlib.metadata.version("neurogloss"))
    except importlib.metadata.PackageNotFoundError:
        yield Finding("packages", "neurogloss", GOOD, "source tree, not installed")
    for line in requirements():
        need = Requirement(line)
        marker = re.search(r"extra == ['\"]([^'\"]+)['\"]", str(need.marker or ""))
        extra = marker.group(1) if marker else None
        if need.marker is not None and not need.marker.evaluate({"extra": extra or ""}):
            continue
        remedy = f'pip install "neurogloss[{extra}]"' if extra else f'pip install "{need.name}{need.specifier}"'
        absent = MISSING if extra else BROKEN
        details = {"extra": extra, "wanted": str(need.specifier)}
        try:
            have = importlib.metadata.version(need.name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding("packages", need.name, absent, "not installed", remedy, details)
            continue
        if need.specifier.contains(have, prereleases=True):
            yield Finding("packages", need.name, GOOD, have, None, details)
        else:
            yield Finding("packages", need.name, absent, f"{have}, but {need.specifier} is wanted", remedy, details)


def _device() -> Iterator[Finding]:
    import torch

    threads = torch.get_num_threads()
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(i)
            details = {"capability": f"{about.major}.{about.minor}", "bytes": about.total_memory}
            yield Finding("device", f"cuda:{i}", GOOD, f"{about.name}, {size(about.total_memory)}", None, details)
    elif torch.backends.mps.is_available():
        yield Finding("device", "mps", GOOD, "Apple GPU")
    else:
        yield Finding(
            "device", "gpu", MISSING, "none that PyTorch can use",
            "Small models run well without one; for large ones install a PyTorch built for your GPU (pytorch.org).",
        )  # fmt: skip
    yield Finding("device", "cpu", GOOD, f"{os.cpu_count()} cores, {threads} threads", None, {"threads": threads})


def _home(settings: Settings) -> Iterator[Finding]:
    home = settings.home.expanduser()
    there = next(folder for folder in (home, *home.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        yield Finding(
            "data", "home", BROKEN, f"{home}: cannot be written to ({error.strerror})",
            "Name another folder with --home or NEUROGLOSS_HOME.",
        )  # fmt: skip
        return
    state = "" if home.is_dir() else " (will be made)"
    low = free < 1 << 30
    yield Finding(
        "data", "home", MISSING if low else GOOD, f"{home}{state}, {size(free)} free",
        "Little room for activation indexes: free some space or name another --home." if low else None,
        {"path": str(home), "exists": home.is_dir(), "free_bytes": free},
    )  # fmt: skip


def _database(settings: Settings) -> Iterator[Finding]:
    from store.errors import StoreError

    shown = without_password(settings.database)
    file = sqlite_file(settings.database)
    if file is not None and not file.is_file():
        yield Finding(
            "data", "database", MISSING, f"{shown}: not there yet", "Make it with: neurogloss campaign run demo",
            {"url": shown},
        )  # fmt: skip
        return
    import store
    from neurogloss.database import table_counts

    try:
        with store.open_database(settings.database, create=False) as database:
            counts, revision = table_counts(database)
    except StoreError as error:
        yield Finding("data", "database", BROKEN, shown, str(error), {"url": shown})
        return
    told = ", ".join(f"{count(counts[name])} {name}" for name in ("subjects", "campaigns", "units", "descriptions"))
    yield Finding(
        "data", "database", GOOD, f"{shown} (revision {revision}): {told}", None,
        {"url": shown, "revision": revision, "counts": counts},
    )  # fmt: skip


def _model() -> Iterator[Finding]:
    import tools

    folder = Path(tools.__file__ or "").parent / "builtin" / "pycode"
    weights = folder / "model.safetensors"
    if weights.is_file():
        yield Finding("model", "pycode", GOOD, f"built in, {size(weights.stat().st_size)}", None, {"path": str(folder)})
    else:
        yield Finding(
            "model", "pycode", BROKEN, "the built-in model is not in this installation",
            "Install neurogloss again: pip install --force-reinstall --no-deps neurogloss",
        )  # fmt: skip
