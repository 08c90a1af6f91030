"""What an index folder says of itself, and whether its files are what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tools.errors import IndexDataError
from tools.index.settings import FORMAT
from tools.index.storage import damaged, load_json, sha256_file

NAME = "manifest.json"


@dataclass(frozen=True)
class IndexInfo:
    """What `neurogloss index info` shows."""

    path: str
    key: str
    subject: str
    corpus: str
    n_contexts: int
    n_documents: int
    tokens: dict[str, int]
    """Counted tokens by split (position 0 of contexts left out)."""
    panel_tokens: dict[str, int]
    units: dict[str, int]
    """Requested units by group."""
    latents: dict[str, int]
    """Latents by sparse group; all of them can be read."""
    bytes: int
    settings: dict[str, Any]
    seconds: float
    tokens_per_second: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def compress(indices: Sequence[int]) -> str:
    """Ascending indices as ranges: [0, 1, 2, 7] is '0-2,7'."""
    ranges: list[list[int]] = []
    for index in indices:
        if ranges and index == ranges[-1][1] + 1:
            ranges[-1][1] = index
        else:
            ranges.append([index, index])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)


def expand_ranges(text: str) -> list[int]:
    """The inverse of `compress`."""
    indices: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        indices.extend(range(int(first), int(last or first) + 1))
    return indices


def list_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file of an index, by path within it."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in (NAME, "state.npz"))
    return {
        p.relative_to(folder).as_posix(): {"bytes": p.stat().st_size, "sha256": sha256_file(p)} for p in paths
    }  # fmt: skip


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read an index's manifest and check that every file is there with its size.

    Raises:
        IndexDataError: no index there, another format, or a file missing or of another size.
    """
    if not (folder / NAME).is_file():
        raise IndexDataError(f"There is no activation index at {folder}. Build one with `neurogloss index build`.")
    manifest = load_json(folder / NAME)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise damaged(folder / NAME, "it is no manifest")
    if manifest.get("format") != FORMAT:
        raise IndexDataError(
            f"The index at {folder} has format {manifest.get('format')}; this version reads {FORMAT}.\n"
            "Delete the folder and build the index again, or use the version that built it."
        )
    for name, facts in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            raise damaged(path, "it is missing")
        if path.stat().st_size != facts["bytes"]:
            raise damaged(path, f"it has {path.stat().st_size} bytes instead of {facts['bytes']}")
    return manifest


def verify_files(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Read every file and compare its checksum; a difference raises `IndexDataError`."""
    for name, facts in manifest["files"].items():
        if sha256_file(folder / name) != facts["sha256"]:
            raise damaged(folder / name, "its checksum differs")


def describe(folder: Path) -> IndexInfo:
    """Facts about the index at `folder`, without reading its arrays."""
    manifest = read_manifest(folder)
    try:
        return IndexInfo(
            path=str(folder),
            key=manifest["key"],
            subject=manifest["subject"]["name"],
            corpus=manifest["corpus"]["spec"],
            n_contexts=manifest["n_contexts"],
            n_documents=manifest["n_documents"],
            tokens=manifest["tokens"],
            panel_tokens=manifest["panel_tokens"],
            units={group: len(expand_ranges(ranges)) for group, ranges in manifest["groups"].items()},
            latents=manifest["latents"],
            bytes=sum(facts["bytes"] for facts in manifest["files"].values()),
            settings=manifest["settings"],
            seconds=manifest["build"]["seconds"],
            tokens_per_second=manifest["build"]["tokens_per_second"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(folder / NAME, f"{type(error).__name__}: {error}") from error


def list_indexes(home: Path) -> list[IndexInfo]:
    """All complete indexes under a data folder, in order of their keys."""
    folders = sorted((home / "indexes").glob(f"*/{NAME}"))
    return [describe(path.parent) for path in folders if not path.parent.name.endswith(".building")]
