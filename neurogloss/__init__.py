"""neurogloss: find out, unit by unit, what the parts of a language model do.

    import neurogloss as ng

    ng.run("demo")                                    # or subject=..., units=..., corpus=...
    with ng.open() as results:
        for row in results.units("mlp:*:*", min_f1=0.5):
            print(row.unit, row.label, row.f1, (row.f1_low, row.f1_high))
        page = results.unit("mlp:2:17")
    model = ng.subject("pycode")
    ng.activate(model, "mlp:2:17", "def f(x):").activations

Everything is imported when it is first used, so that the command starts at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neurogloss.front import activate, open, run, subject
    from neurogloss.probe import Probe
    from neurogloss.results import Results

__all__ = ["Probe", "Results", "activate", "open", "run", "subject"]

_HOME = {"Probe": "neurogloss.probe", "Results": "neurogloss.results"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'neurogloss' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_HOME.get(name, "neurogloss.front")), name)


def __dir__() -> list[str]:
    return sorted(__all__)
