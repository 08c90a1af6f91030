"""Two hundred scripted questions: known answers, and every number in a row; false numbers are found."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import store
from agent.chat import Library, Session, ToolShelf, check, cited, events
from agent.chat.checker import REMOVED
from agent.chat.numbers import find
from explainers.llm.client import LlmClient
from explainers.llm.endpoints import parse_endpoint
from explainers.llm.retry import Backoff
from store.queries.citations import cited_rows
from tests.agent.chat.questions import Question, by_hand, in_words, unresolved
from tests.serving import Liar, ProgrammableServer, Talker
from tests.serving.talkers import other_number

Begin = Callable[..., Session]
#: Answers whose numbers are replaced, one by one, by false ones.
SPOILED = 40


def answers(session: Session, asked: list[Question]) -> Iterator[tuple[Question, events.Answer]]:
    for question in asked:
        *_, answer = session.turn(question.text)
        assert isinstance(answer, events.Answer)
        yield question, answer


def look_at(session: Session, asked: list[Question], file: Path) -> list[events.Answer]:
    """Asks all, and fails at an answer that is wrong or has a number that no cited row has."""
    kept, numbers = [], 0
    for question, answer in answers(session, asked):
        assert not answer.removed, (question.text, answer.removed)
        for part in question.has:
            assert part in answer.text, (question.text, part, answer.text)
        assert not list(unresolved(answer, file)), (question.text, answer.text, list(unresolved(answer, file)))
        numbers += answer.numbers
        kept.append(answer)
    assert len(kept) == 200
    assert numbers > 400
    return kept


def found_share(session: Session, kept: list[events.Answer], rng: random.Random, each: int = 1) -> tuple[int, int]:
    """How many false numbers are found, of those put in the place of true ones."""
    found = injected = 0
    for answer in kept:
        rows = cited_rows(session.db, cited(answer.text), chat=answer.chat)
        for number in find(answer.text).numbers:
            core = number.text.strip().rstrip(" %")
            try:
                lies = {number.text.replace(core, other_number(core, rng)) for _ in range(each)}
            except ValueError:
                continue
            for lie in lies:
                read = find(lie).numbers
                if not read or read[0].stands_for(number.value):
                    continue
                injected += 1
                spoiled = answer.text[: number.start] + lie + answer.text[number.end :]
                found += not check(spoiled, rows).ok
    return found, injected


@pytest.fixture
def file(db: store.Database) -> Path:
    return Path(db.url)


@pytest.mark.slow
def test_commands_answer_200_questions_from_rows(begin: Begin, file: Path) -> None:
    session = begin(model=False)
    kept = look_at(session, by_hand(file), file)
    rng = random.Random(0)
    found, injected = found_share(session, rng.sample(kept, SPOILED), rng)
    assert injected > 450
    assert found / injected >= 0.99, f"{found} of {injected}"


@pytest.mark.slow
def test_a_language_model_answers_200_questions_from_rows(begin: Begin, file: Path) -> None:
    with ProgrammableServer(Talker()) as server, client(server) as llm:
        session = begin(llm, model=False, history=8000)
        kept = look_at(session, in_words(file), file)
    rng = random.Random(1)
    found, injected = found_share(session, kept, rng)
    assert injected > 400
    assert found / injected >= 0.99, f"{found} of {injected}"


@pytest.mark.slow
def test_a_language_model_that_lies_is_not_printed(begin: Begin, file: Path) -> None:
    mind = Liar()
    printed = lied = 0
    with ProgrammableServer(mind) as server, client(server) as llm:
        session = begin(llm, model=False, history=4000)
        for question, answer in answers(session, in_words(file, 80)):
            lies, mind.told = mind.told, []
            lied += bool(lies)
            printed += bool(lies) and REMOVED not in answer.text
            assert not list(unresolved(answer, file)), question.text
    assert lied >= 75
    assert printed / lied <= 0.01


def client(server: ProgrammableServer) -> LlmClient:
    return LlmClient([parse_endpoint(f"openai:{server.model}@{server.url}")], timeout=5.0, backoff=Backoff(0.01, 0.05))


@pytest.mark.slow
@pytest.mark.skipif(
    not os.environ.get("NEUROGLOSS_DEMO_DB"), reason="NEUROGLOSS_DEMO_DB names no finished campaign 'demo'"
)
def test_the_demo_campaign_answers_200_questions_from_rows(tmp_path: Path) -> None:
    file = tmp_path / "demo.db"
    file.write_bytes(Path(os.environ["NEUROGLOSS_DEMO_DB"]).read_bytes())
    with store.open_database(file) as db, Session(db, ToolShelf(Library(db), None)) as session:
        kept = look_at(session, by_hand(file), file)
        rng = random.Random(0)
        found, injected = found_share(session, rng.sample(kept, 3 * SPOILED), rng)
    assert found / injected >= 0.99, f"{found} of {injected}"
