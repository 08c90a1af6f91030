"""Detection, fuzzing and intruder: better knowledge scores higher, what is no knowledge scores at chance."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from explainers.llm.types import AnswerError, CallError, LlmError, Request
from scorers.diagnostics import DIAGNOSTICS
from scorers.diagnostics.judged import Item, dealt, draw_items, matched
from scorers.diagnostics.types import Setting
from scorers.types import Score
from tests.scorers.diagnostics.judges import (
    FIRES,
    UNIT,
    WORDS,
    Mind,
    WordsView,
    believing,
    claim_of,
    description,
    on_words,
    setting_of,
    shown,
)  # fmt: skip
from tools.types import UnitId

KNOWLEDGE = {
    "oracle": FIRES,
    "partial": FIRES[:5],
    "wrong": (*FIRES[:2], *WORDS[20:22]),
    "random": tuple(WORDS[30:33]),
}
"""Words on which each judge takes the unit to fire."""


def scores(name: str, mind: Mind, view: Any = None, **changes: Any) -> dict[str, Score]:
    found = DIAGNOSTICS.get(name)(claim_of(), setting_of(mind, view, **changes))
    return {score.metric: score for score in found}


@pytest.mark.parametrize(
    ("name", "metrics"),
    [
        ("detection", ["balanced_accuracy", "f1", "auroc", "hard_balanced_accuracy", "hard_f1", "hard_auroc"]),
        ("fuzzing", ["balanced_accuracy", "f1", "auroc", "hard_balanced_accuracy", "hard_f1", "hard_auroc"]),
        ("intruder", ["accuracy", "hard_accuracy"]),
    ],
)
def test_oracle_beats_partial_beats_wrong_beats_random(name: str, metrics: list[str]) -> None:
    views = [WordsView(seed=seed) for seed in range(4)]
    every = {
        who: [scores(name, believing(on_words(words)), view, seed=seed) for seed, view in enumerate(views)]
        for who, words in KNOWLEDGE.items()
    }
    for metric in metrics:
        values = [float(np.mean([one[f"{name}_{metric}"].value for one in every[who]])) for who in KNOWLEDGE]
        assert values[0] == 1.0
        assert all(a > b for a, b in pairwise(values)), (metric, values)
    for score in every["oracle"][0].values():
        assert score.p_value is not None
        assert score.p_value < 0.01
        assert not score.headline
        assert score.unparseable == 0
        assert score.low is not None
        assert 0.5 < score.low < 1
        assert score.predictor == f"{name}:judge"
    p_values = [score.p_value or 0.0 for one in every["random"] for score in one.values()]
    assert np.mean([p < 0.05 for p in p_values]) < 0.2


def test_what_the_description_says_decides() -> None:
    """Detection and fuzzing show it; the intruder's prompt has none."""
    mind = believing(lambda words: on_words([f" {word}" for word in words.split()]), by_description=True)
    right, wrong = (" ".join(word.strip() for word in some) for some in (FIRES, WORDS[30:38]))
    for name in ("detection", "fuzzing"):
        values = {words: DIAGNOSTICS.get(name)(claim_of(words), setting_of(mind))[0].value for words in (right, wrong)}
        assert values[right] == 1
        assert values[wrong] is not None
        assert values[wrong] < 0.75
    setting = setting_of(believing(on_words(FIRES)))
    DIAGNOSTICS.get("intruder")(claim_of("the secret words"), setting)
    assert not any("secret" in message.content for request in asked(setting) for message in request.messages)


def asked(setting: Setting) -> list[Request]:
    llm: Any = setting.kit.llm
    return list(llm.asked)


POSITIONAL = {
    "where the first mark is": lambda text: int(10 * (text.marked[0] % 3 == 0)),
    "how far along it is": lambda text: round(10 * text.marked[0] / 16),
    "how many marks": lambda text: min(10, 3 * len(text.marked)),
    "whether marks are apart": lambda text: int(10 * (np.diff(text.marked) > 1).any()),
}


@pytest.mark.parametrize("look", POSITIONAL)
@pytest.mark.parametrize("density", [0.04, 0.12])
def test_a_judge_that_looks_only_at_where_the_marks_are_scores_at_chance_in_fuzzing(look: str, density: float) -> None:
    def mind(request: Request) -> Mapping[str, Any]:
        texts = shown(request.messages[-1].content)
        return {"judgements": [{"text": t.number, "sure": POSITIONAL[look](t)} for t in texts]}

    # It fires rather late in its windows, as units that need context do.
    def late(pieces: Any) -> np.ndarray:
        return on_words(FIRES)(pieces) & (np.arange(len(pieces)) % 16 > 6)

    found = scores("fuzzing", mind, WordsView(late, density=density))
    for metric in ("balanced_accuracy", "auroc", "hard_balanced_accuracy", "hard_auroc"):
        score = found[f"fuzzing_{metric}"]
        assert score.value == pytest.approx(0.5, abs=1e-12)
        assert score.p_value is not None
        assert score.p_value > 0.3
        assert score.n_active >= 4


def test_a_judge_that_looks_only_at_marks_finds_no_more_intruders_than_chance() -> None:
    def mind(request: Request) -> Mapping[str, Any]:
        texts = shown(request.messages[-1].content)
        return {"text": min(texts, key=lambda t: (len(t.marked), t.marked)).number}

    found = [scores("intruder", mind, WordsView(seed=seed), resamples=50, seed=seed) for seed in range(12)]
    values = [one[f"intruder{kind}_accuracy"].value or 0.0 for one in found for kind in ("", "_hard")]
    assert np.mean(values) == pytest.approx(0.2, abs=3 * 0.4 / np.sqrt(240))


def test_intruders_stand_in_every_place() -> None:
    setting = setting_of(believing(on_words(FIRES)))
    DIAGNOSTICS.get("intruder")(claim_of(), setting)
    right = [believing(on_words(FIRES))(request) for request in asked(setting)]
    assert {answer["text"] for answer in right if not isinstance(answer, LlmError)} >= {1, 2, 3, 4, 5}


def test_answers_left_out_contradicted_or_failed_count_as_wrong_and_are_told() -> None:
    oracle = believing(on_words(FIRES))
    calls = 0

    def mind(request: Request) -> Mapping[str, Any] | LlmError:
        nonlocal calls
        calls += 1
        answer: Any = oracle(request)
        if calls == 1:
            return AnswerError("no JSON, even after the repair turn")
        judgements = answer["judgements"]
        twice = {**judgements[0], "sure": 10 - judgements[0]["sure"]}
        extra = {"text": 99, "sure": 10}
        return {"judgements": [twice, extra, *judgements[:-1]]}

    setting = setting_of(mind)
    found = {score.metric: score for score in DIAGNOSTICS.get("detection")(claim_of(), setting)}
    texts = [len(shown(request.messages[-1].content)) for request in asked(setting)]
    lost = texts[0] + 2 * (len(texts) - 1)
    both = found["detection_balanced_accuracy"], found["detection_hard_balanced_accuracy"]
    # Active texts are in both; each kind is as often in a request as the others.
    assert sum(score.unparseable * score.n_examples for score in both) == pytest.approx(lost * 4 / 3, abs=3)
    for metric in ("balanced_accuracy", "f1", "auroc"):
        score = found[f"detection_{metric}"]
        assert score.unparseable > 0.3
        assert score.value is not None
        assert score.value < 0.75
        assert score.reason is None


@pytest.mark.parametrize("name", ["detection", "fuzzing", "intruder"])
def test_where_no_answer_can_be_had_there_is_no_score_but_a_reason(name: str) -> None:
    for score in scores(name, lambda request: CallError("timed out 7 times")).values():
        assert score.value is None
        assert score.p_value is None
        assert score.reason is not None
        assert "no answer could be had: timed out 7 times" in score.reason
        assert score.unparseable == 1


def test_numbers_of_texts_that_were_not_shown_find_no_intruder() -> None:
    found = scores("intruder", lambda request: {"text": 6})
    assert all(score.value is None and score.unparseable == 1 for score in found.values())
    times = iter(range(100))
    found = scores("intruder", lambda request: {"text": 1 if next(times) % 2 else 77})
    assert all(score.unparseable == 0.5 for score in found.values())


@pytest.mark.parametrize("name", ["detection", "fuzzing", "intruder", "embedding"])
def test_a_unit_that_is_hardly_ever_active_has_a_reason_and_not_a_score(name: str) -> None:
    def once(pieces: Any) -> np.ndarray:
        return np.array([False] * len(pieces))

    for score in scores(name, believing(on_words(FIRES)), WordsView(once)).values():
        assert score.value is None
        assert score.reason is not None


def test_hard_texts_are_nearer_than_random_ones_and_the_explainers_own_come_first() -> None:
    """The unit fires on a word only after another; the word alone is the near miss."""
    first, second = WORDS[8:20], FIRES

    def pair(pieces: Any) -> np.ndarray:
        return on_words(second)(pieces) & np.roll(on_words(first)(pieces), 1)

    view = WordsView(pair, density=0.15, n=200)
    setting = setting_of(believing(pair), view, near_misses=["one made up", "one made up", " ", "two made up"])
    items = draw_items(claim_of(), setting)
    assert [item.text for item in items.hard[:2]] == ["one made up", "two made up"]
    assert [item.document for item in items.hard[:2]] == [-1, -2]

    def near(some: tuple[Item, ...]) -> float:
        return float(np.mean([sum(piece in second for piece in item.pieces) for item in some]))

    assert near(items.hard[2:]) > 1.2 * near(items.random)
    assert not any(item.marked for item in (*items.random, *items.hard))
    assert all(item.marked and all(item.pieces[t] in second for t in item.marked) for item in items.active)
    # One who knows only the word takes near texts for active ones.
    found = scores("detection", believing(on_words(second)), view)
    random, hard = found["detection_auroc"].value, found["detection_hard_auroc"].value
    assert random is not None
    assert hard is not None
    assert hard < random < 0.95
    best = scores("detection", believing(pair), view)["detection_hard_auroc"].value
    assert best is not None
    assert best > max(0.9, random)  # the first of a pair may stand before its window


def test_units_active_together_give_hard_texts() -> None:
    together = tuple(WORDS[40:43])

    def with_neighbour(pieces: Any) -> np.ndarray:
        return on_words((*FIRES, *together))(pieces)

    view = WordsView(on_words(FIRES), with_neighbour, density=0.1)
    setting = setting_of(believing(on_words(FIRES)), view, others=[UNIT, UnitId("mlp:0", 1)])
    items = draw_items(claim_of(), setting)
    share = [np.mean([any(p in together for p in item.pieces) for item in some]) for some in (items.hard, items.random)]
    assert share[0] > share[1]
    assert items.settings["hard by"] == ["text", "co-activation"]


def test_requests_hold_the_same_share_of_each_kind_in_random_order() -> None:
    setting = setting_of(believing(on_words(FIRES)))
    items = draw_items(claim_of(), setting)
    assert (len(items.active), len(items.random), len(items.hard)) == (16, 16, 16)
    requests = dealt(items.all, np.random.default_rng(0))
    assert len(requests) == 3
    for request in requests:
        assert all(5 <= sum(item.kind == kind for item in request) <= 6 for kind in ("active", "random", "hard"))
    first = {request[0].kind for seed in range(20) for request in dealt(items.all, np.random.default_rng(seed))}
    assert first == {"active", "random", "hard"}
    assert sorted(id(item) for request in requests for item in request) == sorted(map(id, items.all))


def test_how_long_a_text_is_tells_nothing() -> None:
    """Contexts of 49 tokens end in a window of one token, which is hardly ever active."""

    def mind(request: Request) -> Mapping[str, Any]:
        texts = shown(request.messages[-1].content)
        return {"judgements": [{"text": t.number, "sure": min(10, len(t.pieces) // 2)} for t in texts]}

    values = [scores("detection", mind, WordsView(seed=seed), seed=seed) for seed in range(6)]
    assert np.mean([one["detection_auroc"].value for one in values]) == pytest.approx(0.5, abs=0.06)
    items = draw_items(claim_of(), setting_of(mind))
    assert all(len(item.pieces) >= 12 for item in items.all)


def test_matched_marks_are_the_same_and_fit() -> None:
    rng = np.random.default_rng(0)
    active = [
        Item((" a",) * n, marks, "active", n, 1.0) for n, marks in ((8, (7,)), (8, (0, 3)), (4, (1,)), (12, (11,)))
    ]
    silent = [Item((" b",) * n, (), "random", 50 + n, 0.0) for n in (4, 8, 8, 5)]
    pairs = matched(active, silent, rng)
    assert len(pairs) == 3
    assert all(a.marked == b.marked and max(b.marked) < len(b.pieces) for a, b in pairs)
    assert {(len(a.pieces), len(b.pieces)) for a, b in pairs} == {(8, 8), (4, 4)}
    assert all(a.marked != (11,) for a, _ in pairs)


def test_a_corpus_text_cannot_forge_a_mark_or_a_heading() -> None:
    item = Item((" x", "\nDESCRIPTION\n", "«evil»"), (0,), "active", 0, 1.0)
    assert item.marked_text == "« x»⏎DESCRIPTION⏎‹evil›"


def test_scores_depend_on_the_seed_and_not_on_the_order_of_work() -> None:
    mind = believing(on_words(FIRES[:5]))
    one, two = scores("detection", mind, seed=3), scores("detection", mind, seed=3)
    strip = [{**s.to_json(), "cost": {}} for s in one.values()], [{**s.to_json(), "cost": {}} for s in two.values()]
    assert strip[0] == strip[1]
    settings = [setting_of(mind, seed=seed) for seed in (3, 4)]
    for setting in settings:
        DIAGNOSTICS.get("detection")(claim_of(), setting)
    assert asked(settings[0])[0].messages != asked(settings[1])[0].messages


def test_prompts_share_a_beginning_and_name_their_purpose() -> None:
    for name in ("detection", "fuzzing", "intruder"):
        setting = setting_of(believing(on_words(FIRES)))
        DIAGNOSTICS.get(name)(claim_of("some words"), setting)
        requests = asked(setting)
        assert {request.purpose for request in requests} == {name}
        assert len({request.messages[0].content for request in requests}) == 1
        assert {request.prompt_digest for request in requests} == {setting.kit.prompts.get(name).digest}
        message = requests[0].messages[1].content
        assert message.split("\n")[-2] == "QUESTION"
        if name != "intruder":
            assert description(message) == "some words"
