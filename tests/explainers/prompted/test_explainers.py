from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from explainers import registry
from explainers.llm.kit import LlmKit
from explainers.llm.prompts import Prompts
from explainers.llm.types import AnswerError, CallError, EndpointError, Request
from explainers.predictors import MakesPredictors
from explainers.prompted.asking import quoted
from explainers.prompted.concepts import cluster, lexical_vectors, silhouette
from explainers.prompted.pattern_llm import shortened
from explainers.prompted.quantiles import mixed
from explainers.registry import ExplainerError
from explainers.rules.evaluate import RulePredictor
from explainers.rules.language import format_rule, parse_rule
from explainers.types import Evidence, Explanation, NullRecorder
from tools.heads import EdgeProfile
from tools.lenses import Promotion
from tools.types import UnitId

EvidenceOf = Callable[..., Evidence]
NAMES = ["concepts", "contrastive", "input-output", "max-activating", "output", "pairs", "pattern-llm", "quantiles"]
PROMOTION = Promotion(((" meow", 2.0), (" purr", 1.0)), ((" bark", -2.0),))
RULE = 'rule v1\n9 if token in {" cat"}\nelse 0'


class Keeps:
    """A recorder."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def event(self, kind: str, payload: Any) -> None:
        self.events.append((kind, json.loads(json.dumps(payload))))


def cat(pieces: Sequence[str], at: int) -> float:
    return 2.0 * (pieces[at] == " cat") - 3.0 * (pieces[at] == " dog")


def concepts(**fields: Any) -> dict[str, Any]:
    return {"concepts": [{"label": "one", "fires_on": "One.", **fields}, {"label": "two", "fires_on": "Two", **fields}]}


def explain(name: str, kit: LlmKit, evidence: Evidence, **options: Any) -> list[Explanation]:
    return registry.get(name, kit=kit, **options).explain(evidence, NullRecorder())


@pytest.fixture
def obliging(says: Any) -> Any:
    """The fake model, giving each form what it asks for."""
    described = dict(says.answer)
    says.answer = lambda request: (
        {"concepts": [described]} if '"concepts"' in request.messages[0].content else described
    )
    return says


def test_every_explainer_is_offered_with_a_line_about_it() -> None:
    # The benchmark of contests offers its own where its tests ran in this process.
    offers = {offer.name: offer for offer in registry.offers() if offer.name != "contrastive by rule"}
    assert [name for name, offer in sorted(offers.items()) if offer.needs_llm] == NAMES
    assert not registry.needs_llm("pattern")
    assert registry.needs_llm("quantiles")
    assert all(20 < len(offer.summary) < 130 and offer.summary.endswith(".") for offer in offers.values())
    assert [offer.needs_llm for offer in registry.offers()] == sorted(offer.needs_llm for offer in registry.offers())


@pytest.mark.parametrize("name", NAMES)
def test_an_explainer_that_asks_says_so_when_there_is_no_model(name: str) -> None:
    with pytest.raises(ExplainerError, match=r"asks a language model.*vllm:MODEL.*pattern"):
        registry.get(name)


def test_explainers_that_need_no_model_are_made_without_it(kit: LlmKit) -> None:
    assert registry.get("pattern", kit=kit, beam=3).name == "pattern"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("quantiles", {"n": 0}, "n, the number of samples"),
        ("quantiles", {"top": 0}, "top is at least 1"),
        ("contrastive", {"depth": 1}, "depth"),
        ("concepts", {"clusters": 9}, "at most 8"),
    ],
)
def test_bad_options_are_told(kit: LlmKit, name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ExplainerError, match=message):
        registry.get(name, kit=kit, **options)


@pytest.mark.parametrize("name", NAMES)
def test_each_makes_explanations_that_say_what_they_rest_on(
    name: str, kit: LlmKit, obliging: Any, evidence_of: EvidenceOf
) -> None:
    recorder = Keeps()
    explainer = registry.get(name, kit=kit)
    evidence = evidence_of(cat, promotion=PROMOTION)
    (found,) = explainer.explain(evidence, recorder)
    assert (found.explainer, found.label, found.input_half) == (name, "the word cat", 'The token " cat".')
    prompt = kit.prompts.get(explainer.prompt)  # type: ignore[attr-defined]
    assert found.details["prompt"] == {"name": prompt.name, "digest": prompt.digest}
    assert (found.details["model"], found.details["scale"], found.details["threshold"]) == ("says", 2.0, 0.5)
    assert json.loads(json.dumps(found.details)) == found.details
    (event,) = [payload for kind, payload in recorder.events if kind == "explain"]
    assert event["explainer"] == name
    assert event["answers"] == 1
    assert event["failed"] == []
    assert len(event["shown"]) == found.details["examples"]
    (request,) = obliging.asked
    assert (request.purpose, request.temperature, request.seed) == ("explain", 0.0, None)
    assert request.prompt_digest == prompt.digest
    assert request.messages[0].content == prompt.system
    assert explainer.explain(evidence, NullRecorder()) == [found]
    assert obliging.asked[0] == obliging.asked[1]


@pytest.mark.parametrize("name", NAMES)
def test_descriptions_are_predicted_from_by_the_model(
    name: str, kit: LlmKit, obliging: Any, evidence_of: EvidenceOf
) -> None:
    explainer = registry.get(name, kit=kit)
    assert isinstance(explainer, MakesPredictors)
    (found,) = explainer.explain(evidence_of(cat, promotion=PROMOTION), NullRecorder())
    predictor = explainer.predictor(found)
    assert predictor is not None
    assert predictor.name == "marks:says"


@pytest.mark.parametrize("name", [name for name in NAMES if name != "output"])
@pytest.mark.parametrize(("polarity", "token", "scale"), [("+", " cat", 2.0), ("-", " dog", 3.0)])
def test_texts_are_shown_with_the_tail_s_tokens_marked(
    name: str, polarity: str, token: str, scale: float, kit: LlmKit, obliging: Any, evidence_of: EvidenceOf
) -> None:
    (found,) = explain(name, kit, evidence_of(cat, polarity=polarity))
    user = obliging.user
    texts = user.partition("\nSILENT TEXTS")[0].partition("\nRULE")[0]
    assert texts.count(f"«{token}»") >= 5
    other = {" cat": " dog", " dog": " cat"}[token]
    assert f"«{other}»" not in user
    assert f"«{token}»=10" in user
    assert found.details["scale"] == scale
    assert "\nTEXTS\n[1] " in f"\n{user}"
    assert "\nMAXIMUM\n10 " in user
    heading, question = user.rsplit("\n", 2)[1:]
    assert heading == "QUESTION"
    assert question.endswith(("?", "."))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "output"])
def test_a_silent_unit_is_not_asked_about(name: str, kit: LlmKit, says: Any, evidence_of: EvidenceOf) -> None:
    (found,) = explain(name, kit, evidence_of(lambda pieces, at: 0.0, promotion=PROMOTION))
    assert not says.asked
    assert found.label == "nothing to explain"
    assert "no text of the explore split fires it" in found.input_half
    assert found.rule is None
    assert found.details["literals"] == 0
    assert found.details["scale"] == 0.0


def test_a_rule_stands_beside_the_words(kit: LlmKit, says: Any, evidence_of: EvidenceOf) -> None:
    says.answer["rule"] = RULE
    evidence = evidence_of(cat)
    (found,) = explain("quantiles", kit, evidence)
    assert found.rule == 'rule v1\n1.8 if token in {" cat"}\nelse 0.0\n'
    contexts, positions = evidence.explore.panel_index
    predicted = RulePredictor(parse_rule(found.rule)).predict(evidence.explore.texts, contexts, positions)
    values = evidence.explore.panel_matrix([evidence.unit])[0]
    np.testing.assert_array_equal(predicted > evidence.threshold, values > evidence.threshold)
    says.answer["rule"] = "cats, I think"
    (found,) = explain("quantiles", kit, evidence)
    assert found.rule is None
    assert "line 2" in found.details["rule_error"]
    assert found.input_half == 'The token " cat".'


@pytest.mark.parametrize("name", ["quantiles", "contrastive"])
def test_samples_differ_by_their_seed_and_become_rivals(
    name: str, kit: LlmKit, says: Any, evidence_of: EvidenceOf
) -> None:
    base = dict(says.answer)
    said = {0: "A.", 1: "B.", 2: "A.", 3: AnswerError("refused")}
    says.answer = lambda r: said[r.seed] if isinstance(said[r.seed], Exception) else {**base, "fires_on": said[r.seed]}
    recorder = Keeps()
    found = registry.get(name, kit=kit, n=4).explain(evidence_of(cat), recorder)
    assert [e.input_half for e in found] == ["A.", "B."]
    assert [(r.seed, r.temperature) for r in says.asked] == [(0, 0.7), (1, 0.7), (2, 0.7), (3, 0.7)]
    assert len({r.messages for r in says.asked}) == 1
    event = recorder.events[-1][1]
    assert event["answers"] == 3
    assert event["failed"] == ["refused"]


@pytest.mark.parametrize("n", [1, 3])
def test_no_answer_is_an_error_not_a_description(n: int, kit: LlmKit, says: Any, evidence_of: EvidenceOf) -> None:
    says.answer = lambda request: CallError("timed out")
    with pytest.raises(CallError, match="timed out"):
        explain("quantiles", kit, evidence_of(cat), n=n)


def test_an_endpoint_that_is_down_stops_it(kit: LlmKit, says: Any, evidence_of: EvidenceOf) -> None:
    def down(request: Request) -> Any:
        raise EndpointError("down")

    says.answer = down
    with pytest.raises(EndpointError):
        explain("quantiles", kit, evidence_of(cat), n=2)


def test_only_output_centric_ones_take_the_model_s_word_on_what_a_unit_does(
    kit: LlmKit, says: Any, evidence_of: EvidenceOf
) -> None:
    says.answer["does_when_on"] = "Makes it purr."
    evidence = evidence_of(cat, promotion=PROMOTION)
    weights = "By its weights it would raise “ meow”, “ purr” and lower “ bark”. Not measured: nobody tried."
    assert explain("quantiles", kit, evidence)[0].output_half == weights
    for name in ("output", "input-output"):
        (found,) = explain(name, kit, evidence)
        assert found.output_half == "Makes it purr."
        assert found.details["output"]["kind"] == "untested"
        assert "names no tokens" in found.details["output"]["reason"]
    says.answer["does_when_on"] = None
    assert explain("output", kit, evidence)[0].output_half == weights
    assert explain("quantiles", kit, evidence_of(cat))[0].output_half == (
        "What it does was not measured: nobody tried."
    )


def test_what_a_unit_raises_and_lowers_turns_round_on_the_negative_tail(
    kit: LlmKit, says: Any, evidence_of: EvidenceOf
) -> None:
    for polarity, raises, lowers in (("+", '" meow", " purr"', '" bark"'), ("-", '" bark"', '" meow", " purr"')):
        explain("output", kit, evidence_of(cat, polarity=polarity, promotion=PROMOTION))
        assert f"RAISES\n{raises}\n" in says.user
        assert f"LOWERS\n{lowers}\n" in says.user
        assert "TEXTS" not in says.user


def test_a_unit_of_unknown_writes_is_not_asked_about_by_its_output(
    kit: LlmKit, says: Any, evidence_of: EvidenceOf
) -> None:
    (found,) = explain("output", kit, evidence_of(cat))
    assert not says.asked
    assert "cannot be read off the weights" in found.input_half
    explain("input-output", kit, evidence_of(cat))
    assert "RAISES" not in says.user
    assert "TEXTS" in says.user


def test_look_alikes_are_shown_without_marks(kit: LlmKit, says: Any, evidence_of: EvidenceOf) -> None:
    def bank(pieces: Sequence[str], at: int) -> float:
        return float(pieces[at] == " bank" and pieces[at - 1] == " the")

    (found,) = explain("contrastive", kit, evidence_of(bank, lambda pieces, at: float(pieces[at] == " money")))
    silent = says.user.partition("\nSILENT TEXTS\n")[2].partition("\n\nMAXIMUM")[0].split("\n")
    assert len(silent) == found.details["silent"] == 10
    assert not any("«" in text for text in silent)
    assert silent[0].startswith(f"[{found.details['examples'] + 1}] ")
    assert sum(" bank" in text for text in silent) >= 3
    assert sum(" money" in text for text in silent) >= 3
    assert len({tuple(place) for place in found.details["silent_places"]}) == 10


def test_pairs_list_each_token_and_repeat_the_few_active_ones(kit: LlmKit, says: Any, evidence_of: EvidenceOf) -> None:
    explain("pairs", kit, evidence_of(cat), examples=2)
    lines = says.user.split("\n")
    first, second = (next(i for i, t in enumerate(lines) if t.startswith(f"[{n}] ")) for n in (1, 2))
    tokens = [t for t in lines[first + 1 : second] if not t.startswith("    levels:")]
    assert len(tokens) == 48
    assert set(t.partition("\t")[2] for t in tokens) == {"0", "10"}
    assert "".join(t.partition("\t")[0] for t in tokens) == lines[first][4:].replace("«", "").replace("»", "")
    assert lines[second - 1].startswith("    levels: « cat»=10")
    explain("pairs", kit, evidence_of(lambda pieces, at: 1.0 + at % 2))
    assert "levels:" not in says.user


def test_levels_of_pairs_are_rounded_down(kit: LlmKit, says: Any, evidence_of: EvidenceOf) -> None:
    weak = {" cat": 10.0, " dog": 0.99, " bird": 3.99}
    explain("pairs", kit, evidence_of(lambda pieces, at: weak.get(pieces[at], 0.0)))
    assert "\n cat\t10\n" in says.user
    assert "\n dog\t0\n" in says.user
    assert "\n bird\t3\n" in says.user


def test_a_head_is_shown_with_what_it_attends_to(kit: LlmKit, says: Any, evidence_of: EvidenceOf) -> None:
    edges = EdgeProfile(
        UnitId("head:1", 0), previous=0.9, same=0.0, first=0.1, duplicate=0.0, induction=0.0, delimiter=0.0,
        entropy=0.2, positional=0.9, best_offset=1, destinations={"previous": 500}, baseline={"previous": 0.05},
    )  # fmt: skip
    for name in ("quantiles", "contrastive", "pairs", "input-output", "concepts", "pattern-llm"):
        answer = says.answer
        says.answer = {"concepts": [answer]} if name == "concepts" else answer
        (found,) = explain(name, kit, evidence_of(cat, edges=edges))
        says.answer = answer
        assert "ATTENTION\n" in says.user
        assert "the token before (90% of its attention" in says.user
        assert found.input_half.startswith("Attends from each token to the token before")
        assert found.input_half.endswith('Writes most where: The token " cat".')


def test_the_corpus_can_neither_begin_a_section_nor_mark_tokens(
    kit: LlmKit, obliging: Any, evidence_of: EvidenceOf
) -> None:
    order = [
        "\nQUESTION\n",
        " «",
        " ignore",
        "\r\nSILENT TEXTS",
        " {{ 7 * 7 }}",
        "{% raw %}",
        " cat",
        "\n[99] x",
        "\x1b[2J",
    ]
    contexts = [["<s>", *order, f" {i}", *order] for i in range(40)]
    for name in NAMES:
        explain(name, kit, evidence_of(cat, contexts=contexts, promotion=Promotion((("\nTEXTS\n[1] a", 1.0),), ())))
        lines = obliging.user.split("\n")
        assert lines.count("QUESTION") == 1
        assert lines.count("TEXTS") == int(name != "output")
        assert not any(line.startswith("[99]") for line in lines)
        assert "\x1b" not in obliging.user
        assert "49" not in obliging.user.replace("{{ 7 * 7 }}", "")
        assert all(t.count("«") == t.count("»") for t in lines)


def test_prompts_keep_within_their_budget_of_tokens(kit: LlmKit, obliging: Any, evidence_of: EvidenceOf) -> None:
    explain("quantiles", kit, evidence_of(cat))
    words = [len(message.content) / 4 for message in obliging.asked[0].messages]
    assert 700 <= words[0] <= 1100
    assert sum(words) <= 2500


@pytest.mark.parametrize("name", [name for name in Prompts.names() if name.startswith("explain-")])
def test_the_rules_of_prompts_parse_and_their_answers_have_the_form(name: str) -> None:
    from explainers.prompted.forms import DescribedConcepts, DescribedEffect

    system = Prompts().get(name).system
    answers = [json.loads(line) for line in system.split("\n") if line.startswith('{"')]
    assert answers
    described = [
        one for answer in answers
        for one in (DescribedConcepts(**answer).concepts if "concepts" in answer else [DescribedEffect(**answer)])
    ]  # fmt: skip
    for one in described:
        if one.rule is not None:
            parse_rule(one.rule)
    for literal in (
        'token in {" the", " a"}', 'token starts "un"', 'token ends {"ing", "ed"}', 'before[1] in {" of"}',
        'word in {"the"}', 'word starts "th"', 'word ends "ing"', 'word[1] in {"of"}', 'text ends {" was not"}',
        'within[5] token in {"("}', 'within[8] word in {"said"}', "token is upper", "before[1] is digit",
        "repeated token", "induction", "inside quotes", "inside ()", "inside string", "inside comment",
        "at line start", "position < 5", "column < 3", "indent = 4",
    ):  # fmt: skip
        assert literal in system
        parse_rule(f"rule v1\n1 if {literal}\nelse 0")


def two_things(pieces: Sequence[str], at: int) -> float:
    return float(pieces[at] == " cat" and pieces[at - 1] == " the") + 0.9 * (pieces[at] == " on")


def test_concepts_are_clustered_and_described_one_by_one(kit: LlmKit, says: Any, evidence_of: EvidenceOf) -> None:
    says.answer = concepts(rule=RULE)
    union, one, two = explain("concepts", kit, evidence_of(two_things))
    assert union.label == "one / two"
    assert union.input_half == "Fires on any of these: (1) One; (2) Two."
    assert [c["label"] for c in union.details["concepts"]] == ["one", "two"] == [one.label, two.label]
    assert union.rule == one.rule
    assert union.details["literals"] == 1
    assert union.details["clusters"] >= 2
    assert union.details["likeness"] == kit.likeness.name
    groups = says.user.partition("\nGROUPS\n")[2].partition("\n\nMAXIMUM")[0].split("\n")
    texts = {int(t[1 : t.index("]")]): t for t in says.user.split("\n") if t.startswith("[")}
    assert len(texts) == 24
    numbers = [int(n) for group in groups for n in re.findall(r"\[(\d+)\]", group)]
    assert numbers == list(range(1, 25))
    assert all("« cat»" in text or "« on»" in text for text in texts.values())


def test_texts_are_clustered_by_the_tokens_that_fire(evidence_of: EvidenceOf) -> None:
    pool = mixed(evidence_of(two_things), 16, 32, 24)
    peaks = np.array([e.pieces[e.peak] for e in pool])
    assert set(peaks.tolist()) == {" cat", " on"}
    found = cluster(lexical_vectors(pool), 4, seed=3)
    assert found == cluster(lexical_vectors(pool), 4, seed=3)
    for number in set(found.of):
        assert len(set(peaks[np.array(found.of) == number].tolist())) == 1
    sizes = np.bincount(found.of)
    assert len(sizes) >= 2
    assert list(sizes) == sorted(sizes, reverse=True)


def test_clusters_that_are_not_apart_are_one() -> None:
    rng = np.random.default_rng(0)
    assert set(cluster(rng.normal(size=(40, 30)), 4, seed=1).of) == {0}
    assert set(cluster(np.ones((10, 3)), 4, seed=1).of) == {0}
    assert cluster(np.ones((1, 3)), 4, seed=1).of == (0,)
    apart = np.repeat(np.eye(3), [5, 9, 7], axis=0) + 0.01 * rng.normal(size=(21, 3))
    assert cluster(apart, 5, seed=1).of == (2,) * 5 + (0,) * 9 + (1,) * 7


def test_silhouettes_are_those_of_the_definition() -> None:
    points = np.array([0.0, 1.0, 10.0, 12.0])
    apart = np.abs(points[:, None] - points[None])
    expected = np.mean([1 - 1 / 11, 1 - 1 / 10, 1 - 2 / 9.5, 1 - 2 / 11.5])
    assert silhouette(apart, np.array([0, 0, 1, 1])) == pytest.approx(expected)


def test_a_union_without_all_its_rules_has_none(kit: LlmKit, says: Any, evidence_of: EvidenceOf) -> None:
    says.answer = concepts()
    says.answer["concepts"][0]["rule"] = RULE
    union, one, two = explain("concepts", kit, evidence_of(two_things))
    assert union.rule is None
    assert one.rule is not None
    assert two.rule is None
    assert "literals" not in union.details
    assert "not every concept" in union.details["rule_error"]


def test_a_single_concept_is_a_plain_description(kit: LlmKit, says: Any, evidence_of: EvidenceOf) -> None:
    says.answer = {"concepts": [says.answer]}
    (found,) = explain("concepts", kit, evidence_of(cat))
    assert "concepts" not in found.details
    assert found.label == "the word cat"


def test_a_rule_found_without_a_model_is_handed_on_with_its_errors(
    kit: LlmKit, says: Any, evidence_of: EvidenceOf
) -> None:
    says.answer["rule"] = "keep"
    (found,) = explain("pattern-llm", kit, evidence_of(cat))
    assert "\nRULE\nrule v1\n10.0 if " in says.user
    assert "By its rule it is active in 100%" in says.user
    assert found.rule == found.details["hypothesis"]["rule"]
    assert found.details["kept"] is True
    assert " cat" in str(found.rule)
    assert found.details["literals"] >= 1
    says.answer["rule"] = None
    assert explain("pattern-llm", kit, evidence_of(cat))[0].rule is None
    says.answer["rule"] = RULE
    assert explain("pattern-llm", kit, evidence_of(cat))[0].rule == 'rule v1\n1.8 if token in {" cat"}\nelse 0.0\n'


def test_texts_where_the_rule_errs_are_shown(kit: LlmKit, says: Any, evidence_of: EvidenceOf) -> None:
    def muddled(pieces: Sequence[str], at: int) -> float:
        return 1.0 * (pieces[at] == " cat" and hash_of(pieces) % 3 > 0)

    def hash_of(pieces: Sequence[str]) -> int:
        return sum(map(len, pieces)) + sum(map(ord, pieces[3]))

    (found,) = explain("pattern-llm", kit, evidence_of(muddled))
    assert found.details["silent"] >= 1
    assert "\nSILENT TEXTS\n" in says.user
    wrong = says.user.partition("\nSILENT TEXTS\n")[2].partition("\n\n")[0].split("\n")
    assert all(" cat" in text and "«" not in text for text in wrong)


def test_a_long_rule_is_shown_in_part_and_kept_whole(
    kit: LlmKit, says: Any, evidence_of: EvidenceOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("explainers.prompted.pattern_llm.MOST_CHARACTERS", 40)
    pets = {" cat": 2.0, " dog": 2.0, " bird": 2.0, " king": 2.0, " stone": 2.0, " apple": 2.0}
    says.answer["rule"] = "keep"
    evidence = evidence_of(lambda pieces, at: pets.get(pieces[at], 0.0))
    (found,) = explain("pattern-llm", kit, evidence)
    shown = says.user.partition("\nRULE\n")[2].partition("\n\n")[0]
    whole = parse_rule(str(found.rule))
    assert "The rule below is shown without " in says.user
    assert parse_rule(shown).n_members < whole.n_members
    says.answer["rule"] = shown
    assert explain("pattern-llm", kit, evidence)[0].rule == found.rule


def test_what_is_shown_of_a_rule_fits() -> None:
    members = ", ".join(json.dumps(f" word{i}") for i in range(500))
    rule = parse_rule("rule v1\n" + f"1 if token in {{{members}}} and before[1] is upper\n" * 30 + "else 0")
    part = shortened(rule)
    assert len(format_rule(part)) <= 1200
    assert len(part.clauses) == 10
    assert all(len(clause.literals) == 2 for clause in part.clauses)
    small = parse_rule(RULE)
    assert shortened(small) == small
    assert shortened(parse_rule("rule v1\nelse 0")).clauses == ()


def test_tokens_in_lists_are_quoted_so_that_they_can_be_told_apart() -> None:
    assert quoted([" a", '"', "\\", "\n", " a"]) == r'" a", "\"", "\\", "⏎"'


@pytest.mark.parametrize("name", ["quantiles", "contrastive", "pairs", "concepts", "input-output", "pattern-llm"])
def test_a_competent_model_finds_what_the_unit_does(name: str, llm_kit: LlmKit, evidence_of: EvidenceOf) -> None:
    """Over the real client and a server that knows nothing but the prompt."""
    evidence = evidence_of(lambda pieces, at: 4.0 * (pieces[at] in (" cat", " king")))
    (found, *_) = explain(name, llm_kit, evidence)
    assert '" cat"' in found.input_half or '"cat"' in found.input_half
    assert found.rule is not None
    contexts, positions = evidence.refine.panel_index
    predicted = RulePredictor(parse_rule(found.rule)).predict(evidence.refine.texts, contexts, positions)
    np.testing.assert_array_equal(predicted > 0.5, evidence.refine.panel_matrix([evidence.unit])[0] > 0.5)


def test_the_same_answers_give_the_same_explanations(
    llm_kit: LlmKit, llm_account: Any, evidence_of: EvidenceOf
) -> None:
    first = explain("quantiles", llm_kit, evidence_of(cat), n=2)
    spent = len([call for call in llm_account.calls if not call.cached])
    assert explain("quantiles", llm_kit, evidence_of(cat), n=2) == first
    assert len([call for call in llm_account.calls if not call.cached]) == spent == 2
    assert {call.purpose for call in llm_account.calls} == {"explain"}
