"""What the command suggests to type next."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurogloss.cli.options import Call, Shared


def test_suggestions_reach_the_same_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", [".venv/bin/neurogloss"])
    monkeypatch.setattr("shutil.which", lambda _name: None)
    assert Call(Shared()).command == ".venv/bin/neurogloss"
    assert Call(Shared(home=Path("my home"))).command == ".venv/bin/neurogloss --home 'my home'"
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    assert Call(Shared(db="a.db")).command == "neurogloss --db a.db"
