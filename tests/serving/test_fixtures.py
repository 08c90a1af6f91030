"""The fixtures that tests of other rooms ask a language model with."""

from __future__ import annotations

from explainers.llm.client import LlmClient
from explainers.llm.endpoints import parse_endpoint
from explainers.llm.kit import LlmKit
from explainers.llm.types import Abilities, Form, LlmError, MemoryAccount, Message, Request
from explainers.prompted.forms import Described, Judged, Levels, Marks, Rated, Written
from tests.serving import Faults, ProgrammableServer
from tests.serving.test_server import EXPLAIN, JUDGE


def test_a_kit_asks_the_server_and_its_account_has_the_bill(
    llm_kit: LlmKit, llm_server: ProgrammableServer, llm_account: MemoryAccount
) -> None:
    described = llm_kit.llm.ask(Request("explain", (Message("user", EXPLAIN),)), Described)
    assert '" the"' in described.fires_on
    [call] = llm_account.calls
    assert call.usage.prompt_tokens == llm_server.billed.prompt_tokens > 0
    assert call.usage.completion_tokens == llm_server.billed.completion_tokens > 0


def prompted(kit: LlmKit, name: str, form: type[Form], texts: tuple[str, ...] = ()) -> Form:
    """The answer to one of the package's prompts about a unit that fires on ' the'."""
    prompt = kit.prompts.get(name)
    messages = prompt.render(
        texts=texts, description='the word " the". Fires on " the".', n=3, fires=True, part=1, parts=2
    )
    return kit.llm.ask(Request("test", messages, prompt_digest=prompt.digest), form)


def test_the_packages_prompts_are_understood(llm_kit: LlmKit) -> None:
    texts = (" He went to the house", "A cat")
    marks = prompted(llm_kit, "predict-marks", Marks, texts).marks
    assert [(mark.quote, mark.at) for mark in marks] == [(" the", ["1.1"])]
    levels = prompted(llm_kit, "predict-levels", Levels, (" He| went| to| the| house", "A| cat")).levels
    assert [entry.levels for entry in levels] == [[0, 0, 0, 10, 0], [0, 0]]
    assert [rating.rating for rating in prompted(llm_kit, "rate", Rated, texts).ratings] == [2, 0]
    written = prompted(llm_kit, "write-texts", Written).texts
    assert len(written) == 3
    assert all(" the " in text for text in written)


def test_a_schema_in_words_is_understood(llm_server: ProgrammableServer, llm_account: MemoryAccount) -> None:
    llm_server.abilities = llm_server.abilities - {"json_schema"}
    endpoint = parse_endpoint(f"openai:{llm_server.model}@{llm_server.url}")
    with LlmClient([endpoint], abilities=Abilities()) as llm:
        request = Request("detection", (Message("system", "You judge."), Message("user", JUDGE)))
        assert [j.sure for j in llm.ask(request, Judged).judgements] == [10, 0]


def test_under_faults_the_account_still_has_the_bill(
    llm_kit: LlmKit, llm_server: ProgrammableServer, llm_account: MemoryAccount
) -> None:
    llm_server.faults = Faults(0.5, tuple(set(Faults().kinds) - {"hang"}), retry_after=0.01)
    requests = [Request("detection", (Message("user", JUDGE.replace("cat", f"cat{n}")),), seed=n) for n in range(60)]
    answers = llm_kit.llm.ask_all(requests, Judged)
    assert 0 < sum(isinstance(answer, LlmError) for answer in answers) < 60
    used = [call.usage for call in llm_account.calls]
    assert sum(u.prompt_tokens for u in used) == llm_server.billed.prompt_tokens
    assert sum(u.completion_tokens for u in used) == llm_server.billed.completion_tokens
    assert sum(u.cached_tokens for u in used) == llm_server.billed.cached_tokens
    assert sum(seen.delivered for seen in llm_server.requests) == llm_server.billed.answers
