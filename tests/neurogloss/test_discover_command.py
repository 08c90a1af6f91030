"""``neurogloss discover`` from a sentence: written by a language model, or looked up."""

from __future__ import annotations

import json

import pytest

from tests.neurogloss.conftest import Run
from tests.serving import ProgrammableServer

UNITS = ("--units", "mlp:0:0-99", "--no-causal")


def test_a_sentence_is_written_about_by_a_language_model(run: Run, llm_server: ProgrammableServer) -> None:
    endpoint = f"openai:test-model@{llm_server.url}"
    asked = ("discover", 'mentions of "import"', *UNITS, "--subject", "pycode", "--json")
    answer = run(*asked, "--llm", endpoint, "--llm-price", "1,2")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert found["source"].startswith("texts that test-model wrote of")
    assert all("import" in text for text in found["examples"])
    tokens = llm_server.billed.prompt_tokens + llm_server.billed.completion_tokens
    assert f"{tokens:,} tokens, ${llm_server.billed.dollars(1, 2):.4f}" in answer.err


@pytest.mark.slow
def test_without_one_it_is_looked_up_and_says_so(run: Run) -> None:
    answer = run("discover", "raise ValueError", *UNITS, "--subject", "pycode")
    assert answer.code == 0, answer.err
    assert "by bm25 (lexical)" in " ".join(answer.out.split())
    assert "--llm" in answer.err
