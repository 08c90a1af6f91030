"""Embedding and surprisal: texts ranked by likeness to the description, and by what the description makes of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from explainers.llm.likeness import Embeddings
from explainers.llm.types import Abilities, AnswerError, CallError, EndpointError, LlmError, TokenLogprobs
from scorers.diagnostics import DIAGNOSTICS
from scorers.diagnostics.judged import draw_items
from scorers.diagnostics.surprisal import NEUTRAL, UNABLE
from scorers.diagnostics.types import Setting
from scorers.types import Score
from tests.scorers.diagnostics.judges import FIRES, WORDS, FakeLlm, believing, claim_of, on_words, setting_of

RIGHT = " ".join(word.strip() for word in FIRES)
UNRELATED = " ".join(word.strip() for word in WORDS[40:44])


def scores(name: str, words: str, setting: Setting) -> dict[str, Score]:
    return {score.metric: score for score in DIAGNOSTICS.get(name)(claim_of(words), setting)}


def base() -> Setting:
    return setting_of(believing(on_words(FIRES)))


def test_a_description_that_quotes_is_like_active_texts_and_the_score_says_lexical() -> None:
    right, unrelated = (scores("embedding", words, base()) for words in (RIGHT, UNRELATED))
    assert right["embedding_auroc"].value == 1
    assert right["embedding_auroc"].p_value is not None
    assert right["embedding_auroc"].p_value < 0.01
    assert right["embedding_auroc"].predictor == "embedding:bm25 (lexical)"
    assert unrelated["embedding_auroc"].value is not None
    assert 0.2 < unrelated["embedding_auroc"].value < 0.8
    assert set(right) == {"embedding_auroc", "embedding_hard_auroc"}


def test_embeddings_decide_where_there_are_any() -> None:
    """An embedding that knows what the words mean: one axis for those of the unit and for their description."""

    def embed(texts: Sequence[str]) -> np.ndarray:
        meant = [any(word in text for word in FIRES) or text == "small animals" for text in texts]
        return np.array([[1.0, 0.0] if m else [0.2, 1.0] for m in meant], dtype=np.float32)

    setting = base()
    setting = replace(setting, kit=replace(setting.kit, likeness=Embeddings("embeddings:made", embed)))
    found = scores("embedding", "small animals", setting)
    assert found["embedding_auroc"].value == 1
    assert found["embedding_auroc"].predictor == "embedding:embeddings:made"


def test_a_failed_call_for_embeddings_is_a_reason_and_a_dead_endpoint_stops() -> None:
    def failing(error: LlmError) -> Setting:
        def embed(texts: Sequence[str]) -> np.ndarray:
            raise error

        setting = base()
        return replace(setting, kit=replace(setting.kit, likeness=Embeddings("embeddings:made", embed)))

    for name, n in (("embedding", 2), ("detection", 6), ("fuzzing", 6), ("intruder", 2)):
        found = scores(name, RIGHT, failing(CallError("timed out")))
        assert len(found) == n
        assert all(s.value is None and s.reason == "a call failed: timed out" for s in found.values())
    with pytest.raises(EndpointError):
        scores("embedding", RIGHT, failing(EndpointError("down")))


class Reader:
    """Gives each word of a prompt a log-probability; words that the description names are likelier after it."""

    def __init__(self, noise: float = 0.0) -> None:
        self.rng = np.random.default_rng(0)
        self.noise = noise

    def __call__(self, prompt: str) -> tuple[TokenLogprobs, ...]:
        description = prompt.partition("DESCRIPTION\n")[2].partition("\n")[0]
        text = prompt.rpartition("TEXT\n")[2]
        tokens = re.findall(r"\s|\S+", prompt)
        n_text = len(re.findall(r"\s|\S+", text))
        named = set(description.split())
        found = []
        for number, token in enumerate(tokens):
            own = number >= len(tokens) - n_text
            # What stands before the text must not count: it is made to speak against the description.
            logprob = (-2.0 if token in named else -6.0) if own else -50.0 * (description != NEUTRAL)
            found.append(TokenLogprobs(token, None if not number else logprob, {}))
        return tuple(found)


def reading(logprobs: Callable[[str], Any]) -> Setting:
    llm = FakeLlm(believing(on_words(FIRES)), abilities=Abilities(prompt_logprobs=True), logprobs=logprobs)
    setting = base()
    return replace(setting, kit=replace(setting.kit, llm=llm))


def test_active_texts_are_less_surprising_after_a_right_description() -> None:
    right, unrelated = (scores("surprisal", words, reading(Reader())) for words in (RIGHT, UNRELATED))
    assert right["surprisal_auroc"].value == 1
    assert right["surprisal_hard_auroc"].value == 1
    assert right["surprisal_auroc"].p_value is not None
    assert right["surprisal_auroc"].p_value < 0.01
    assert unrelated["surprisal_auroc"].value is not None
    assert unrelated["surprisal_auroc"].value < 0.7


def test_the_gain_is_the_difference_of_mean_cross_entropies_of_the_texts_own_tokens() -> None:
    from scorers.diagnostics.surprisal import _gains

    setting = reading(Reader())
    items = draw_items(claim_of(RIGHT), setting)
    gains, problem = _gains(setting, setting.kit.prompts.get("surprisal"), RIGHT, items)
    assert problem is None
    for item, gain in zip(items.all, gains, strict=True):
        tokens = re.findall(r"\s|\S+", item.text)
        assert gain == pytest.approx(4.0 * sum(f" {token}" in FIRES for token in tokens) / len(tokens))


def test_without_log_probabilities_of_prompts_there_is_a_reason_and_no_call() -> None:
    for score in scores("surprisal", RIGHT, base()).values():
        assert score.value is None
        assert score.reason == UNABLE
    for score in scores("surprisal", RIGHT, reading(lambda prompt: AnswerError("no prompt_logprobs"))).values():
        assert score.value is None
        assert score.reason == "no answer could be had: no prompt_logprobs"


def test_texts_that_could_not_be_read_count_as_wrong() -> None:
    reader, lost = Reader(), 0

    def read(prompt: str) -> Any:
        nonlocal lost
        if RIGHT in prompt and len(prompt) % 5 == 0:
            lost += 1
            return CallError("cut off")
        return reader(prompt)

    found = scores("surprisal", RIGHT, reading(read))
    assert lost > 3
    for score in found.values():
        assert 0 < score.unparseable < 0.6
        assert score.value is not None
        assert score.value < 1
