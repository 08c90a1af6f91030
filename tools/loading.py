"""Reads a Hugging Face checkpoint from a folder or the hub: safetensors only, no code from the checkpoint."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from tools.errors import SubjectError
from tools.generated import generated_folder

BUILTIN = Path(__file__).resolve().parent / "builtin"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_HUB_FILES = ["model*.safetensors", "model*.safetensors.index.json", "*config.json", "tokenizer*", "*.model",
              "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json"]  # fmt: skip
_TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "vocab.txt", "*.model")
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "float64": torch.float64}


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' progress bars and advice off the user's terminal while the context lasts."""
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


def find_folder(name_or_path: str, *, download: bool = True) -> tuple[str, Path]:
    """The subject's short name and the local folder with its files.

    Args:
        name_or_path: A built-in name, a folder or a hub id.
        download: Fetch from the hub what is not on this machine yet.

    Raises:
        SubjectError: No such folder, or the hub does not give it; the message says what to do.
    """
    if name_or_path == "pycode":
        folder = BUILTIN / "pycode"
        if not folder.is_dir():
            raise SubjectError("The built-in model 'pycode' is not in this installation. Install neurogloss again.")
        return "pycode", folder
    if (made := generated_folder(name_or_path)) is not None:
        return made
    path = Path(name_or_path).expanduser()
    if name_or_path.strip() and path.is_dir():
        return path.resolve().name, path
    if path.is_file():
        raise SubjectError(f"'{name_or_path}' is a file. Give the folder that holds config.json and model.safetensors.")
    looks_local = name_or_path.startswith((".", "~", os.sep)) or "\\" in name_or_path or name_or_path.count("/") > 1
    if looks_local or not name_or_path.strip():
        raise SubjectError(
            f"There is no folder '{name_or_path}'. Give 'pycode', 'planted', an existing model folder, or a hub id "
            "such as 'openai-community/gpt2'."
        )
    return name_or_path, _from_hub(name_or_path, download=download)


def _from_hub(repository: str, *, download: bool) -> Path:
    from huggingface_hub import constants, errors, snapshot_download

    offline = constants.HF_HUB_OFFLINE
    try:
        return Path(snapshot_download(repository, allow_patterns=_HUB_FILES, local_files_only=not download))
    except errors.GatedRepoError as error:
        raise SubjectError(
            f"'{repository}' is gated. Accept its terms at https://huggingface.co/{repository}, then run "
            "'hf auth login' or set HF_TOKEN."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise SubjectError(
            f"There is neither a folder nor a model '{repository}' on the hub. Check its spelling; if it is private, "
            "run 'hf auth login'."
        ) from error
    except errors.HFValidationError as error:
        raise SubjectError(f"'{repository}' is neither an existing folder nor a hub id (OWNER/NAME).") from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        if not download:
            raise SubjectError(
                f"'{repository}' is neither a folder nor a model on this machine, and is not fetched here. Give the "
                "path of a model folder."
            ) from error
        why = "HF_HUB_OFFLINE is set" if offline else "the hub cannot be reached"
        raise SubjectError(
            f"'{repository}' is no folder here and not in the local hub cache, and {why}. "
            "Check the spelling or the network, or give the path of a downloaded model folder."
        ) from error
    except (errors.HfHubHTTPError, OSError) as error:
        raise SubjectError(f"Cannot fetch '{repository}' from the hub: {_first_line(error)}") from error


def weight_files(folder: Path, name: str) -> list[Path]:
    """The safetensors files of a model folder.

    Raises:
        SubjectError: The folder has no model in it, or only pickled weights.
    """
    if not (folder / "config.json").is_file():
        raise SubjectError(f"'{name}' is not a model folder: {folder} has no config.json.")
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    if index.is_file():
        names = set(_read_json(index, name)["weight_map"].values())
        files = [folder / file for file in sorted(names)]
        if lost := [file.name for file in files if not file.is_file()]:
            raise SubjectError(f"'{name}' is incomplete: {folder} lacks {', '.join(lost)}. Download it again.")
        return files
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        raise SubjectError(
            f"'{name}' has only pickled weights ({pickles[0]}), which can run code when loaded. Convert them: "
            "model.save_pretrained(FOLDER) in transformers writes model.safetensors."
        )
    raise SubjectError(f"'{name}' has no weights: {folder} has no model.safetensors.")


def _read_json(path: Path, name: str) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SubjectError(f"'{name}' cannot be read: {path} is not valid JSON ({_first_line(error)}).") from error
    if not isinstance(data, dict):
        raise SubjectError(f"'{name}' cannot be read: {path} is not a JSON object.")
    return data


def choose_device(device: str) -> torch.device:
    """'auto' takes CUDA, then Apple's MPS, then the CPU."""
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise SubjectError(f"'{device}' is not a device. Use auto, cpu, cuda, cuda:N or mps.") from error
    if chosen.type == "cuda" and (not torch.cuda.is_available() or (chosen.index or 0) >= torch.cuda.device_count()):
        raise SubjectError(f"There is no device '{device}': {torch.cuda.device_count()} CUDA devices are available.")
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise SubjectError("There is no device 'mps' on this machine. Use auto or cpu.")
    return chosen


def choose_dtype(dtype: str, device: torch.device, stored: object) -> torch.dtype:
    """'auto' is float32, but bfloat16 on CUDA for checkpoints stored in 16 bits."""
    if dtype == "auto":
        half = str(stored).removeprefix("torch.") in ("bfloat16", "float16")
        return torch.bfloat16 if half and device.type == "cuda" else torch.float32
    if dtype not in _DTYPES:
        raise SubjectError(f"'{dtype}' is not a dtype for a subject. Use auto or one of {', '.join(_DTYPES)}.")
    return _DTYPES[dtype]


def load_checkpoint(
    folder: Path, name: str, device: torch.device, dtype: str
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model (in evaluation mode, on its device) and tokenizer from a local folder; touches no network.

    Raises:
        SubjectError: Unknown architecture, corrupt or incomplete weights, no tokenizer, or one that does not fit.
    """
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    with quiet():
        config_data = _read_json(folder / "config.json", name)
        model_class = _model_class(config_data, name)
        try:
            config = AutoConfig.from_pretrained(folder, **local)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SubjectError(f"'{name}' has a config.json that cannot be used: {_first_line(error)}") from error
        stored = getattr(config.get_text_config(), "dtype", None) or getattr(config, "dtype", None)
        try:
            model, report = model_class.from_pretrained(
                folder,
                config=config,
                dtype=choose_dtype(dtype, device, stored),
                use_safetensors=True,
                output_loading_info=True,
                local_files_only=True,
            )
        except SubjectError:
            raise
        except Exception as error:  # safetensors and transformers raise many types for damaged files
            raise SubjectError(
                f"The weights of '{name}' cannot be loaded ({_first_line(error)}). If the files are damaged, download "
                "them again."
            ) from error
        if missing := sorted(report["missing_keys"]):
            raise SubjectError(
                f"'{name}' lacks {len(missing)} of the weights of {model_class.__name__}, such as {missing[0]}; they "
                "would be random. Check the 'architectures' entry of its config.json."
            )
        # Without these files transformers makes up an empty tokenizer rather than complain.
        if not any(True for pattern in _TOKENIZER_FILES for _ in folder.glob(pattern)):
            raise SubjectError(f"'{name}' has no tokenizer: {folder} has none of {', '.join(_TOKENIZER_FILES)}.")
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, **local)
        except Exception as error:  # tokenizers raises bare Exception for damaged files
            raise SubjectError(f"'{name}' has no usable tokenizer in {folder}: {_first_line(error)}") from error
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise SubjectError(
            f"The tokenizer of '{name}' does not fit its model: {len(tokenizer)} tokens, but {rows} embeddings."
        )
    model.requires_grad_(False)
    return model.eval().to(device), tokenizer


def _model_class(config: dict[str, Any], name: str) -> type[PreTrainedModel]:
    wanted = config.get("architectures") or []
    for architecture in wanted:
        found = getattr(transformers, str(architecture), None)
        if isinstance(found, type) and issubclass(found, PreTrainedModel):
            return found
    if wanted:
        raise SubjectError(
            f"'{name}' is a {wanted[0]}, which transformers {transformers.__version__} does not contain. Upgrade "
            "transformers if it is a new model; code that comes with a checkpoint is never run."
        )
    raise SubjectError(f"The config.json of '{name}' does not name its model class under 'architectures'.")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
