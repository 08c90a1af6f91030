"""The command line: one module a verb; `app` puts them together, `options` is what all of them share."""

from __future__ import annotations

from neurogloss.cli.app import main

__all__ = ["main"]
