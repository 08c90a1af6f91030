"""The mind that reasons: it finds rules in marked texts, mends them by results, and reads the prompt alone."""

from __future__ import annotations

import json
import random
from typing import Any

from explainers.rules.language import parse_rule
from tests.serving.chat import Chat
from tests.serving.induction import Example, Induction, Labelled, read
from tests.serving.reasoner import Reasoner

TEXTS = """TEXTS
[1]  the old« hammer» fell on a cat
    levels: « hammer»=10
[2]  she took the« saw» and a cat
    levels: « saw»=10
[3]  no hammer was here , the« knife» was
    levels: « knife»=9
[4]  he sold the« rope» to no saw
    levels: « rope»=9

MAXIMUM
10 is the strongest activation seen. A token is active, and marked, above 5.0.

QUESTION
On which tokens does this unit fire, and in which context?"""


def chat(user: str, field: str, **body: Any) -> Chat:
    schema = {"properties": {field: {}}}
    messages = [{"role": "system", "content": "rule v1"}, {"role": "user", "content": user}]
    return Chat({"messages": messages, "response_format": {"json_schema": {"schema": schema}}, **body})


def examples(*texts: str) -> list[Example]:
    """Places: '+' before a text whose last token is active, '-' before one whose last token is silent."""
    return [Example(tuple(f" {word}" for word in text[1:].split()), text[0] == "+") for text in texts]


def test_an_exception_is_found() -> None:
    seen = examples(
        "+he is not", "+it was never", "+she is not", "+we never", "-red saw is not", "-a saw was never",
        "-he is", "-it was", "-the red saw", "-so we", "+they can never", "-my saw is not", "+you are not",
        "+all were never", "-one saw is never", "+so we not", "-we is", "-they can", "-I never saw",
    )  # fmt: skip
    data = Labelled(seen)
    found = Induction(data, random.Random(0)).found()
    assert found is not None
    assert data.said(found, 5.0).tolist() == [one.active for one in seen]
    assert any(literal.negated for clause in found.clauses for literal in clause.literals)


def test_several_things_become_several_clauses() -> None:
    seen = examples(
        "+the dog", "+a cat", "+my dog", "+one cat", "+it was 3 .", "+in 7 .", "+for 3 .", "+of 7 .",
        "-it fell .", "-he ran .", "-the 3", "-was 7", "-a so", "-he and",
    )  # fmt: skip
    data = Labelled(seen)
    found = Induction(data, random.Random(0), generalise=0.0).found()
    assert found is not None
    assert data.said(found, 5.0).tolist() == [one.active for one in seen]
    assert len(found.clauses) == 2


def test_a_rule_is_mended_where_labels_speak_against_it_and_kept_elsewhere() -> None:
    rule = parse_rule('rule v1\n9 if token in {" dog", " cat", " fox"}\nelse 0')
    seen = examples("+the dog", "+a cow", "+my cow", "+one cow", "-a cat", "-the cat", "-his cat", "-so we")
    mended = Induction(Labelled(seen), random.Random(0), generalise=0.0).mended(rule)
    [clause] = mended.clauses
    # Of " fox" nothing was said.
    assert parse_rule('rule v1\n9 if token in {" cow", " dog", " fox"}\nelse 0').clauses == (clause,)


def test_a_description_names_the_kind_of_the_marked_words() -> None:
    said = Reasoner()(chat(TEXTS, "fires_on"))
    assert not isinstance(said, str)
    rule = read(said["rule"])
    assert rule is not None
    assert {" hammer", " saw", " knife", " rope", " ladder"} <= {m for lit in rule.clauses[0].literals
                                                                for m in getattr(lit, "members", ())}  # fmt: skip


def test_samples_of_one_request_differ_and_each_is_always_the_same() -> None:
    asked = [chat(TEXTS, "fires_on", temperature=0.7, seed=seed) for seed in range(8)]
    first, second = ([json.dumps(Reasoner()(one)) for one in asked] for _ in range(2))
    assert first == second
    assert len(set(first)) > 1


def test_results_and_mistakes_mend_the_best_rival() -> None:
    contest = TEXTS.replace("\n\nMAXIMUM", """

RIVALS
+1: tools
    rule v1
    9.0 if token in {" hammer", " knife", " rope", " saw"}
    else 0.0

FIT
+1 catches 60% of what is active; 70% of what it names is

RESULTS
[1]  he saw no« hammer»
    came: +0, silent; expected: +1 95 %
[2]  the« hammer»
    with others in its place: active " saw", " ladder" | silent " of", " \\""
[3]  he saw the« rope»
    came: +9; with another token in the place of: " the" +0, " rope" +0

MISTAKES
Of +1:
missed, is active: by the« ladder»
named, is silent: with no« saw»

WEIGHTS
+1 100%

MAXIMUM""")  # fmt: skip
    said = Reasoner()(chat(contest, "revisions"))
    assert not isinstance(said, str)
    [one] = said["revisions"]
    assert (one["kind"], one["rivals"]) == ("refine", ["+1"])
    rule = read(one["descriptions"][0]["rule"])
    assert rule is not None
    told = examples("+by the ladder", "-with no saw", "-he saw no hammer", "+he saw the rope", "+on the hammer")
    assert Labelled(told).said(rule, 5.0).tolist() == [one.active for one in told]


def test_what_is_asked_is_what_the_rule_leaves_open() -> None:
    contest = TEXTS.replace("\n\nMAXIMUM", """

RIVALS
+1: tools after the
    rule v1
    9.0 if token in {" hammer", " knife", " rope", " saw"} and before[1] in {" the", " old"}
    else 0.0

WEIGHTS
+1 100%

MAXIMUM""").replace("On which tokens", "At most 3 trials, each with at most 8 probes. On which tokens")  # fmt: skip
    said = Reasoner()(chat(contest, "trials"))
    assert not isinstance(said, str)
    assert [one["tool"] for one in said["trials"]][:2] == ["substitute", "probe"]
    texts = [probe["text"] for one in said["trials"] for probe in one["probes"]]
    # Other tools, and one of the four with something else before it.
    assert any(text.split()[-1] in ("ladder", "drill", "axe", "spade", "brush", "bucket") for text in texts)
    assert any(text.split()[-1] in ("hammer", "saw", "knife", "rope") and text.split()[-2] not in ("the", "old")
               for text in texts)  # fmt: skip
