"""Explainers by name. Adding one means one module that registers it, named in `_MODULES`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from explainers.types import Explainer
from tools.errors import NeuroglossError

if TYPE_CHECKING:
    from explainers.llm.kit import LlmKit

_factories: dict[str, Callable[..., Explainer]] = {}
_MODULES = (
    "explainers.pattern.explainer",
    "explainers.symbolic.explainer",
    "explainers.prompted.max_activating",
    "explainers.prompted.quantiles",
    "explainers.prompted.contrastive",
    "explainers.prompted.pairs",
    "explainers.prompted.output",
    "explainers.prompted.input_output",
    "explainers.prompted.concepts",
    "explainers.prompted.pattern_llm",
)
"""Modules that register explainers when they are imported."""

F = TypeVar("F", bound=Callable[..., Explainer])


class ExplainerError(NeuroglossError):
    """No such explainer, or it has no such option."""


@dataclass(frozen=True)
class Offer:
    """One explainer, as a list of them shows it."""

    name: str
    summary: str
    """The first line of its documentation."""
    needs_llm: bool
    """Whether it asks a language model."""


def register(name: str) -> Callable[[F], F]:
    """Class (or factory) decorator: offers the explainer under `name`.

    A factory with a true attribute `needs_llm` is called with a keyword `kit`, the language model that it asks.
    """

    def decorate(factory: F) -> F:
        if name in _factories:
            raise ValueError(f"an explainer named '{name}' is registered already")
        _factories[name] = factory
        return factory

    return decorate


def names() -> list[str]:
    """Names of all explainers, sorted."""
    _load()
    return sorted(_factories)


def offers() -> list[Offer]:
    """All explainers, those without a language model first."""
    found = [
        Offer(name, (inspect.getdoc(_factory(name)) or "").partition("\n")[0], needs_llm(name)) for name in names()
    ]
    return sorted(found, key=lambda offer: (offer.needs_llm, offer.name))


def needs_llm(name: str) -> bool:
    """Whether an explainer asks a language model.

    Raises:
        ExplainerError: unknown name.
    """
    return bool(getattr(_factory(name), "needs_llm", False))


def get(name: str, kit: LlmKit | None = None, **options: Any) -> Explainer:
    """Makes an explainer.

    Args:
        name: Of the explainer.
        kit: The language model, for those that ask one; others are made without it.
        options: Of the explainer.

    Raises:
        ExplainerError: unknown name or option, or it asks a language model and none is given.
    """
    factory = _factory(name)
    if needs_llm(name):
        if kit is None:
            raise ExplainerError(
                f"The explainer '{name}' asks a language model, and none is given. Name an endpoint in the "
                f"campaign's section llm, or with --explainer "
                "vllm:MODEL or openai:MODEL@URL, or use an explainer that needs none: "
                f"{', '.join(offer.name for offer in offers() if not offer.needs_llm)}."
            )
        options["kit"] = kit
    try:
        return factory(**options)
    except (TypeError, ValueError) as error:
        raise ExplainerError(f"The explainer '{name}' does not take these options: {error}.") from error


def _factory(name: str) -> Callable[..., Explainer]:
    _load()
    if name not in _factories:
        raise ExplainerError(f"There is no explainer '{name}'. There are: {', '.join(sorted(_factories))}.")
    return _factories[name]


def _load() -> None:
    for module in _MODULES:
        import_module(module)
