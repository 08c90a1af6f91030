"""A real vLLM with random weights takes part in contests: no investigation breaks on what it asks for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from benchmarks.contest_faults import rows
from explainers.llm.vllm_command import PYTHON
from tests.agent.test_llm_campaign import assert_all_ended
from tests.explainers.llm.chat_model import make_chat_model

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not os.environ.get(PYTHON), reason=f"{PYTHON} names no interpreter with vLLM; see `make vllm`"),
]
ROOT = Path(__file__).resolve().parents[3]


def test_random_weights_break_no_investigation(tmp_path: Path) -> None:
    model = make_chat_model(tmp_path / "models" / "tiny-chat")
    plan = {
        "subject": "pycode", "corpus": "stdlib:", "corpus_limit": 100, "max_tokens": 100_000, "units": ["mlp:2:0-5"],
        "explainer": f"vllm:{model}", "contest": {"policy": "llm", "rounds": 2}, "output": "off",
    }  # fmt: skip
    file = tmp_path / "plan.yaml"
    file.write_text(yaml.safe_dump(plan))
    command = [
        sys.executable, "-m", "neurogloss", "--home", str(tmp_path), "campaign", "run", str(file), "--name", "random",
        "--yes", "--json",
    ]  # fmt: skip
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=1500)
    assert ran.returncode == 0, ran.stderr
    assert_all_ended(tmp_path / "neurogloss.db", 6)
    done = rows(tmp_path, "SELECT 1 FROM investigations WHERE status = 'done' AND control IS NULL")
    assert done, rows(tmp_path, "SELECT reason FROM investigations")
    asked = rows(tmp_path, "SELECT status, error FROM llm_calls WHERE purpose = 'trials'")
    assert asked
    assert all(call["error"] for call in asked if call["status"] == "failed")
    ends = [json.loads(row["details"]).get("contest", {}) for row in rows(tmp_path, "SELECT details FROM descriptions")]
    assert all(end["stopped"] for end in ends if end)
    assert any(ends)
