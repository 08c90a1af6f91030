"""Running the subject on text that only the one who runs it may see."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tools.subject import Subject


@contextmanager
def unhooked(subject: Subject) -> Iterator[None]:
    """Within it, forward passes of this thread run without the hooks that others have put on the model.

    An explainer is given the subject, and may put hooks on its modules as anybody may. Those that it leaves behind, or
    that it has in use in another thread, would see the tokens and activations of every later pass, also of one over
    sealed text. Here they are put aside and come back afterwards; other threads' passes wait.
    """
    with subject.lock:
        kept = []
        for module in subject.model.modules():
            for hooks in (module._forward_pre_hooks, module._forward_hooks):
                if hooks:
                    kept.append((hooks, dict(hooks)))
                    # Emptied and not replaced: whoever holds a handle to a hook removes it from this very dictionary.
                    hooks.clear()
        try:
            yield
        finally:
            for hooks, found in kept:
                hooks.update(found)
