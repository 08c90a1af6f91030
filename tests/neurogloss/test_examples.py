"""The examples in the help of verbs that run the model do what they show, on the built-in model."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from neurogloss.cli.app import app

Run = Callable[..., Any]
ROOT = Path(__file__).resolve().parent.parent.parent
COMMANDS: Any = get_command(app)
#: Verbs that want a database or an index beside the model.
NEED_MORE = {"chat", "discover"}
VERBS = [
    name for name, one in COMMANDS.commands.items() if one.rich_help_panel == "Run the model" and name not in NEED_MORE
]


def examples() -> list[str]:
    """Commands as they stand in the help."""
    lines = [line.strip() for verb in VERBS for line in (COMMANDS.commands[verb].help or "").splitlines()]
    return [line for line in lines if re.match(r"(cat \S+ \| )?neurogloss ", line)]


def test_every_verb_has_examples() -> None:
    assert {"activate", "lens", "attribute", "ablate", "patch", "steer", "heads", "flow", "circuit"} <= set(VERBS)
    shown = examples()
    for verb in VERBS:
        assert sum(f"neurogloss {verb} " in f"{line} " for line in shown) >= 2, verb


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("example", examples())
def test_an_example_does_what_it_shows(run: Run, example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "stories260k" in example or "t5-small" in example:
        pytest.skip("names a model of the user's own")
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    code = "import os\nimport sys\n\n\ndef read(path):\n    with open(path) as file:\n        return file.read()\n"
    (tmp_path / "file.py").write_text(code)
    (tmp_path / "snippets.jsonl").write_text("".join(json.dumps({"text": code[i:]}) + "\n" for i in (0, 10, 22)))
    monkeypatch.chdir(tmp_path)
    if "--tuned" in example:
        assert run("lens", "--fit", "stdlib:", "--tokens", "2000", "--method", "least-squares").code == 0
    # As it stands it takes minutes.
    piped, _, command = example.replace("--tokens 50000", "--tokens 2000 --method least-squares").rpartition(" | ")
    answer = run(*shlex.split(command)[1:], stdin=code if piped else None)
    assert answer.code == 0, answer.err
    assert len(answer.out.splitlines()) > 3
    assert all(len(line) <= 80 for line in answer.out.splitlines())
    for word in shlex.split(command):
        if word.endswith((".png", ".svg")):
            assert (tmp_path / word).stat().st_size > 2000
