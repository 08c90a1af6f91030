"""Explainers by name. Adding one means one module that registers it, named in `_MODULES`."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

from explainers.types import Explainer
from tools.errors import NeuroglossError

_factories: dict[str, Callable[..., Explainer]] = {}
_MODULES = ("explainers.pattern.explainer", "explainers.symbolic.explainer")
"""Modules that register explainers when they are imported."""

F = TypeVar("F", bound=Callable[..., Explainer])


class ExplainerError(NeuroglossError):
    """No such explainer, or it has no such option."""


def register(name: str) -> Callable[[F], F]:
    """Class (or factory) decorator: offers the explainer under `name`."""

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


def get(name: str, **options: Any) -> Explainer:
    """Makes an explainer.

    Raises:
        ExplainerError: unknown name or option.
    """
    _load()
    if name not in _factories:
        raise ExplainerError(f"There is no explainer '{name}'. There are: {', '.join(sorted(_factories))}.")
    try:
        return _factories[name](**options)
    except (TypeError, ValueError) as error:
        raise ExplainerError(f"The explainer '{name}' does not take these options: {error}.") from error


def _load() -> None:
    for module in _MODULES:
        import_module(module)
