"""What a planted subject is asked for by: ``planted:seed=7,size=large,arch=llama``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tools.errors import NeuroglossError, SubjectError

SIZES = ("small", "large")
ARCHITECTURES = ("gpt2", "llama")
KEYS = ("seed", "size", "arch")
#: The name by which planted subjects and their corpora are called.
PREFIX = "planted"
_LARGEST_SEED = 1_000_000


@dataclass(frozen=True)
class PlantedSpec:
    """Everything that decides a planted subject, apart from this version of the code."""

    seed: int = 0
    size: str = "small"
    arch: str = "gpt2"

    @property
    def text(self) -> str:
        """The canonical way to write it."""
        return f"{PREFIX}:seed={self.seed},size={self.size},arch={self.arch}"

    @property
    def name(self) -> str:
        """The subject's name, fit for a folder."""
        return f"{PREFIX}-s{self.seed}-{self.size}-{self.arch}"


def is_planted(text: str) -> bool:
    """Whether a subject is asked for by this scheme."""
    return text == PREFIX or text.startswith(f"{PREFIX}:")


def read_options(text: str, known: tuple[str, ...], error: type[NeuroglossError]) -> Mapping[str, str]:
    """The options of ``key=value,key=value``, each known and given once.

    Raises:
        NeuroglossError: Of the given class; it names the known keys.
    """
    options: dict[str, str] = {}
    for part in text.split(",") if text.strip() else ():
        key, equals, value = (side.strip() for side in part.partition("="))
        if key not in known or not equals or not value:
            raise error(
                f"'{part.strip()}' is no option of '{PREFIX}'. Options are {', '.join(f'{name}=…' for name in known)}, "
                "with commas between them."
            )
        if key in options:
            raise error(f"The option '{key}' of '{PREFIX}' is given twice.")
        options[key] = value
    return options


def whole(key: str, value: str, error: type[NeuroglossError], low: int = 0, high: int = _LARGEST_SEED) -> int:
    """A whole number of an option.

    Raises:
        NeuroglossError: Of the given class, when it is none or not within the bounds.
    """
    if not value.isdecimal() or not low <= int(value) <= high:
        raise error(f"'{key}={value}': {key} is a whole number from {low} to {high:,}.")
    return int(value)


def spec_of(options: Mapping[str, str], error: type[NeuroglossError]) -> PlantedSpec:
    """The spec that options ask for; those of the corpus alone are passed over.

    Raises:
        NeuroglossError: Of the given class; it names the choices.
    """
    for key, choices in (("size", SIZES), ("arch", ARCHITECTURES)):
        if options.get(key, choices[0]) not in choices:
            raise error(f"'{key}={options[key]}': {key} is one of {', '.join(choices)}.")
    return PlantedSpec(
        seed=whole("seed", options.get("seed", "0"), error),
        size=options.get("size", SIZES[0]),
        arch=options.get("arch", ARCHITECTURES[0]),
    )


def planted_spec(text: str) -> PlantedSpec:
    """Read ``planted`` or ``planted:seed=7,size=large,arch=llama``; what is left out has its default.

    Raises:
        SubjectError: It is not of this form; the message names the known keys or choices.
    """
    if not is_planted(text):
        raise SubjectError(f"'{text}' is no planted subject. Write '{PREFIX}' or '{PREFIX}:seed=7,size=large'.")
    return spec_of(read_options(text.partition(":")[2], KEYS, SubjectError), SubjectError)
