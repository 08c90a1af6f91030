"""Interruptions, two builders at once, full disks and damaged files."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from tools.corpora.corpus import Corpus, Document
from tools.dictionaries import DictionaryConfig, architectures
from tools.errors import IndexDataError
from tools.index import IndexSettings, Progress, ProgressCallback, build_index, open_index
from tools.index.reader import ActivationIndex
from tools.index.settings import FORMAT
from tools.subject import Direction, Subject, load_subject
from tools.types import Site, Split
from tools.units import expand

WORDS = re.findall(r"\w+", "Ann saw the red ball in the park and Bob ate a green apple at home on Monday after 12 days")
SETTINGS = IndexSettings(
    context=20, window=4, top_k=5, batch_tokens=200, checkpoint_seconds=0, panel_tokens={Split.EXPLORE: 300}
)
PATTERN = "mlp:0:*;head:*:*;sae:made:*"


def make_corpus() -> Corpus:
    draw = random.Random(0)
    texts = (" ".join(draw.choices(WORDS, k=draw.randint(1, 40))) for _ in range(120))
    return Corpus("made", [Document(f"d{i:03}", text) for i, text in enumerate(texts)])


def make_subject(folder: Path) -> Subject:
    subject = load_subject(str(folder), device="cpu")
    config = DictionaryConfig(architecture="standard", d_in=32, d_sae=40, hook_name="blocks.1.hook_resid_post")
    weights = torch.randn(32, 40, generator=torch.Generator().manual_seed(1))
    made = {"W_enc": weights, "b_enc": torch.full((40,), -0.3), "W_dec": weights.T.contiguous(), "b_dec": weights[:, 0]}
    subject.attach("made", architectures()["standard"](config, made, name="made", fingerprint="made"))
    return subject


@pytest.fixture(scope="module")
def subject(tiny_gpt2_folder: Path) -> Subject:
    return make_subject(tiny_gpt2_folder)


@pytest.fixture(scope="module")
def whole(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> ActivationIndex:
    return build(subject, tmp_path_factory.mktemp("home"))


def build(subject: Subject, home: Path, progress: ProgressCallback | None = None) -> ActivationIndex:
    return build_index(subject, make_corpus(), expand(subject, PATTERN), home, SETTINGS, progress=progress)


def assert_same_files(one: ActivationIndex, other: ActivationIndex) -> None:
    """All files but the manifest, which tells the time, are the same bytes."""
    assert one.manifest["files"] == other.manifest["files"]
    assert len(one.manifest["files"]) > 20
    one.verify()
    other.verify()


class Interruption(Exception):
    pass


def test_resumes_after_interruptions_anywhere(subject: Subject, whole: ActivationIndex, tmp_path: Path) -> None:
    draw, interrupted, stages = random.Random(1), 0, set()
    while True:
        left = draw.randint(0, 7)

        def progress(now: Progress) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                stages.add(now.stage)
                raise Interruption

        try:
            index = build(subject, tmp_path, progress)
            break
        except Interruption:
            interrupted += 1
            left = 0
            assert interrupted < 60
    assert interrupted > 3
    assert "activations" in stages
    assert_same_files(index, whole)
    assert not list(tmp_path.glob("indexes/*.building"))


def test_resumes_after_interruption_of_the_merge(subject: Subject, whole: ActivationIndex, tmp_path: Path) -> None:
    def progress(now: Progress) -> None:
        if now.stage == "postings":
            raise Interruption

    with pytest.raises(Interruption):
        build(subject, tmp_path, progress)
    batches = []
    index = build(subject, tmp_path, lambda now: batches.append(now.stage))
    assert batches == ["postings"]
    assert_same_files(index, whole)


@pytest.mark.slow
def test_resumes_after_kill(subject: Subject, whole: ActivationIndex, tiny_gpt2_folder: Path, tmp_path: Path) -> None:
    """Two processes are killed with SIGKILL in the middle of the corpus; a third finishes what they began."""
    for kill_at in (4, 9, 10**9):
        done = subprocess.run(
            [sys.executable, __file__, str(tiny_gpt2_folder), str(tmp_path), str(kill_at)],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
            check=False, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == (0 if kill_at == 10**9 else -signal.SIGKILL), done.stderr
    first_batch = int(done.stdout.split()[0])
    assert first_batch > 5, "the third run began anew"
    (path,) = (p for p in tmp_path.glob("indexes/*") if p.is_dir())
    assert_same_files(open_index(path), whole)


def test_second_builder_waits_for_the_first(subject: Subject, whole: ActivationIndex, tmp_path: Path) -> None:
    begun, waiting, stages, built = threading.Event(), threading.Event(), [], []

    def first(now: Progress) -> None:
        begun.set()
        assert waiting.wait(60)

    def second(now: Progress) -> None:
        stages.append(now.stage)
        waiting.set()

    threads = [threading.Thread(target=lambda: built.append(build(subject, tmp_path, first)))]
    threads[0].start()
    assert begun.wait(60)
    threads.append(threading.Thread(target=lambda: built.append(build(subject, tmp_path, second))))
    threads[1].start()
    for thread in threads:
        thread.join(60)
    assert stages == ["waiting"]
    assert len(built) == 2
    assert_same_files(built[0], whole)
    assert built[0].path == built[1].path


def test_batch_size_may_change_between_runs(subject: Subject, whole: ActivationIndex, tmp_path: Path) -> None:
    calls = 0

    def progress(now: Progress) -> None:
        nonlocal calls
        calls += 1
        if calls == 8:
            raise Interruption

    units = expand(subject, PATTERN)
    other = IndexSettings(**{**SETTINGS.__dict__, "batch_tokens": 90})
    with pytest.raises(Interruption):
        build_index(subject, make_corpus(), units, tmp_path, other, progress=progress)
    assert_same_files(build(subject, tmp_path), whole)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """The operating system refuses to let any file grow beyond `size` bytes, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("limit", [0, 3_000, 20_000, 60_000])
def test_full_disk_is_said_and_nothing_is_lost(
    subject: Subject, whole: ActivationIndex, tmp_path: Path, limit: int
) -> None:
    with file_size_limit(limit), pytest.raises(IndexDataError, match="No room left on the disk"):
        build(subject, tmp_path)
    assert not list(tmp_path.rglob("*.part"))
    assert_same_files(build(subject, tmp_path), whole)


def test_disk_that_fills_up_later_keeps_the_last_checkpoint(
    subject: Subject, whole: ActivationIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Progress] = []
    fsync = os.fsync

    def full(handle: int) -> None:
        if len(seen) > 12:
            raise OSError(28, "No space left on device")
        fsync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(IndexDataError, match="last checkpoint"):
            build(subject, tmp_path, seen.append)
    reached = seen[-1].tokens_done
    seen.clear()
    index = build(subject, tmp_path, seen.append)
    assert seen[0].tokens_done >= reached
    assert_same_files(index, whole)


def test_folder_that_cannot_be_written(subject: Subject, tmp_path: Path) -> None:
    (tmp_path / "indexes").write_text("a file where the folder should be")
    with pytest.raises(IndexDataError, match="cannot be written"):
        build(subject, tmp_path)


def test_activations_beyond_float16_are_refused(subject: Subject, tmp_path: Path) -> None:
    settings = IndexSettings(context=20, dtype="float16")
    index = build_index(subject, make_corpus(), expand(subject, "mlp:0:0"), tmp_path, settings)
    assert np.load(index.path / "panel-explore.npy").dtype == np.float16
    subject.directions["huge"] = Direction(Site(0, "resid_post"), torch.full((32,), 1e9))
    with pytest.raises(IndexDataError, match="float32"):
        build_index(subject, make_corpus(), expand(subject, "dir:huge"), tmp_path, settings)


def test_activations_that_are_not_finite_are_refused(subject: Subject, tmp_path: Path) -> None:
    subject.directions["broken"] = Direction(Site(0, "resid_post"), torch.full((32,), torch.nan))
    with pytest.raises(IndexDataError, match="not finite"):
        build_index(subject, make_corpus(), expand(subject, "dir:broken"), tmp_path, SETTINGS)


@pytest.fixture
def damaged(subject: Subject, tmp_path: Path) -> Path:
    return build(subject, tmp_path).path


@pytest.mark.parametrize(
    "name", ["tokens.bin", "panel-explore.npy", "top_values-refine.npy", "document_ids.json", "context_starts.npy"]
)
def test_truncated_and_missing_files_are_named(subject: Subject, damaged: Path, name: str) -> None:
    size = (damaged / name).stat().st_size
    os.truncate(damaged / name, size // 2)
    with pytest.raises(IndexDataError, match=rf"(?s){name}.*damaged.*Delete the folder"):
        open_index(damaged)
    with pytest.raises(IndexDataError, match=name):
        build(subject, damaged.parent.parent)
    (damaged / name).unlink()
    with pytest.raises(IndexDataError, match=rf"(?s){name}.*missing"):
        open_index(damaged)


def test_changed_bytes_are_found_by_verifying(damaged: Path) -> None:
    with open(damaged / "panel-explore.npy", "r+b") as file:
        file.seek(-5, os.SEEK_END)
        byte = file.read(1)
        file.seek(-5, os.SEEK_END)
        file.write(bytes([byte[0] ^ 1]))
    index = open_index(damaged)
    with pytest.raises(IndexDataError, match=r"(?s)panel-explore.npy.*checksum"):
        index.verify()


def test_overwritten_headers_and_manifests_are_refused(damaged: Path) -> None:
    with open(damaged / "context_starts.npy", "r+b") as file:
        file.write(b"garbage")
    with pytest.raises(IndexDataError, match=r"context_starts\.npy"):
        open_index(damaged)
    manifest = damaged / "manifest.json"
    text = manifest.read_text()
    for wrong in ("", text[: len(text) // 2], "[]", json.dumps({"format": FORMAT, "files": {}})):
        manifest.write_text(wrong)
        with pytest.raises(IndexDataError, match=r"manifest.json is damaged"):
            open_index(damaged)
    manifest.write_text(json.dumps({**json.loads(text), "format": 99}))
    with pytest.raises(IndexDataError, match="format 99"):
        open_index(damaged)


def main() -> None:
    """Build, and kill this process after so many batches."""
    folder, home, kill_at = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    batches = 0

    def progress(now: Progress) -> None:
        nonlocal batches
        if now.stage == "activations":
            batches += 1
            if batches == 1:
                print(now.tokens_done // 200, flush=True)
        if batches == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    build(make_subject(folder), home, progress)


if __name__ == "__main__":
    main()
