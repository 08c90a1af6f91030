"""``python -m neurogloss``."""

from __future__ import annotations

from neurogloss.cli import main

if __name__ == "__main__":
    main()
