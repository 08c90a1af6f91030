"""A database of sixty units with every kind of row, and conversations over it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import store
from agent.chat import Library, Session, ToolShelf
from agent.chat.session import ChatLimits
from agent.plain import short
from agent.toolbox import Workbench
from explainers.llm.types import Talker
from store.records import (
    CorpusRecord,
    Cost,
    DescriptionRecord,
    ExampleRecord,
    ExperimentRecord,
    HypothesisRecord,
    IndexRecord,
    InvestigationResult,
    ObservationRecord,
    ScoreRecord,
    SubjectRecord,
    UnitRecord,
)
from tools.subject import Subject, load_subject

UNITS = (
    *(f"mlp:{layer}:{3 * n + layer}" for layer in range(3) for n in range(12)),
    *(f"head:{layer}:{n}" for layer in range(3) for n in range(4)), *(f"sae:res:{101 * n}" for n in range(12)),
)  # fmt: skip
DEAD = ("mlp:0:0", "mlp:1:1", "sae:res:0")
WORDS = ("bracket", "colon", "return", "number", "quote", "indent", "comma", "import", "string", "name")


@pytest.fixture(scope="session")
def chat_db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished campaign 'demo' over sixty units of a subject 'tiny', with numbers drawn at random."""
    path = tmp_path_factory.mktemp("chat") / "chat.db"
    rng = random.Random(5)
    with store.open_database(path) as db:
        subject = store.register_subject(db, SubjectRecord("tiny", "f00df00df00df00d", {"n_layers": 3}))
        corpus = store.register_corpus(db, CorpusRecord("tiny.jsonl", "c0ffee", 400))
        index = store.register_index(db, subject, corpus, IndexRecord("key", "indexes/key", 155_755))
        spec = {"subject": "tiny", "units": list(UNITS), "corpus": "tiny.jsonl", "explainer": "pattern"}
        campaign = store.create_campaign(
            db, "demo", spec, "hash", budget={"units": 99}, subject_id=subject, corpus_id=corpus, index_id=index
        )
        store.add_investigations(db, campaign.id, subject, list(UNITS))
        for _ in UNITS:
            lease = store.lease_next(db, campaign.id, "test", 60)
            assert lease is not None
            store.finish(db, lease, _result(lease.unit, rng))
    return path


def _reliance(rng: random.Random) -> dict[str, object]:
    """What a description says of itself, and what it foretold."""

    def told(value: float) -> dict[str, object]:
        low, high = value - rng.uniform(0.02, 0.2) * value, value + rng.uniform(0.02, 0.2) * value
        came = value * rng.uniform(0.7, 1.3)
        numbers = {"foretold": value, "low": low, "high": high, "value": came}
        return {**{name: short(one) for name, one in numbers.items()}, "held": low <= came <= high}

    sealed = {name: told(rng.uniform(0.2, 0.8)) for name in ("f1", "precision", "recall")}
    ends = sealed["f1"]
    right, share = rng.randrange(61, 99), rng.randrange(51, 99)
    return {
        "confidence": f"Its F1 on sealed text was expected to be {ends['foretold']:.2f} [{ends['low']:.2f}, "
                      f"{ends['high']:.2f}]; what it says of a made-up input was expected to be right in {right} %; it "
                      f"does best in {share} % of resamples.",
        "scope": f"Texts of tiny.jsonl, in contexts of up to {rng.randrange(65, 256)} tokens; the first position of "
                 f"each is left out. Active means above {rng.uniform(1, 9):.3g}, which it is at "
                 f"{rng.uniform(1, 9):.2g} % of tokens.",
        "predictions": {"digest": "d", "sealed": {**sealed, "density": told(rng.uniform(0.001, 0.2))},
                        "effect": {"metric": "output_shift", **told(rng.uniform(0.1, 2))}, "right": right / 100,
                        "probes": None},
        "standing": {"selection": share / 100},
    }  # fmt: skip


def _result(unit: str, rng: random.Random) -> InvestigationResult:
    if unit in DEAD:
        return InvestigationResult(UnitRecord(unit, layer=0, state="dead", density=0.0, index_key="key"),
                                   skipped="never active on 155 755 tokens")  # fmt: skip
    f1 = rng.uniform(0.1, 0.97)
    verdict = "supported" if f1 > 0.6 else "refuted" if f1 < 0.3 else "inconclusive"
    words = rng.sample(WORDS, 3)
    maximum = rng.uniform(2, 90)
    both: dict[str, object] = {"split": "score", "predictor": "rule", "protocol_hash": "p1", "headline": True}
    scores = []
    for metric, value in (("weighted_f1", f1), ("average_precision", f1 * 0.9), ("pearson", f1 * 1.02)):
        scores.append(
            ScoreRecord(
                metric, value=value, low=value - rng.uniform(0.02, 0.1), high=value + rng.uniform(0.02, 0.1),
                n_examples=rng.randrange(20_000, 30_000), n_documents=rng.randrange(40, 90),
                null_mean=rng.uniform(0.01, 0.3), p_value=10 ** rng.uniform(-5, -1), q_value=10 ** rng.uniform(-4, -1),
                **both,  # type: ignore[arg-type]
            )
        )  # fmt: skip
    positions = rng.randrange(900, 9000)
    return InvestigationResult(
        unit=UnitRecord(
            unit, layer=int(unit.split(":")[1]) if unit[:3] != "sae" else 1, density=10 ** rng.uniform(-3.5, -0.4),
            minimum=-rng.uniform(0, 2), maximum=maximum, mean=rng.uniform(0, 1), variance=rng.uniform(0, 1),
            n_tokens=155_755, index_key="key", profile={"promotion": {"promoted": [["cat", 1.5]], "suppressed": []}},
            statistics={"tails": [{"polarity": "+", "threshold": maximum / 3, "density": 0.0123}]},
        ),
        examples=[
            ExampleRecord("explore", "top", "+", f"d{rank:03}", 5, 3, 2, ["x", " = ", words[0], " in 19", "84", "\n"],
                          [0.1, 0.2, maximum - 0.37 * rank, 0.3, 0.0, 0.0], 1.0)
            for rank in range(4)
        ],
        hypotheses=[
            HypothesisRecord("+1", "+", "pattern", f"the {words[0]}", "fires", status=verdict,
                             details={"refine": {"f1": f1 - 0.03}}),
            HypothesisRecord("+2", "+", "pattern", f"the {words[1]}", "fires", status="dropped"),
        ],
        experiments=[
            ExperimentRecord("rule search", seed=3, seconds=0.5, observations=[
                ObservationRecord(f"active at {positions} sampled positions of 61 documents of explore", {})]),
            ExperimentRecord("predictions", observations=[ObservationRecord(
                f"right at {rng.randrange(20, 41)} of 42 inputs that were made up, of which {rng.randrange(5, 20)} are"
                f" active; Brier score {rng.uniform(0.01, 0.2):.3f}, {rng.uniform(0.2, 0.3):.3f} without the "
                "description",
                {"active": [True]}, "+1")]),
            ExperimentRecord("token edits", seconds=0.25, observations=[
                ObservationRecord("5 of the 6 places that the rule names silence the unit when replaced",
                                  {"effects": [{"offset": 0, "silenced": 5}]}, "+1", "supported")]),
        ],
        descriptions=[
            DescriptionRecord(
                "+", f"“{words[0]}” and {words[1]}",
                f"Fires on “{words[0]}”, “{words[1]}” and {rng.randrange(13, 60)} more; weaker on “{words[2]}”.",
                "pattern", f"claim {unit}", output_half="When on, raises “cat” (read from the weights).", rule="r",
                verdict_input=verdict, verdict_output="untested", hypothesis="+1", scores=scores,
                exceptions=f"not after “{words[2]}”",
                details={
                    **_reliance(rng), "refine": {"f1": f1 - 0.03},
                    "verdict": {"reasons": [f"f1 {f1:.2f} against what is needed"], "output_reasons": ["no test"]},
                },
            )
        ],
        cost=Cost(seconds=rng.uniform(1, 9), tool_calls=6),
    )  # fmt: skip


@pytest.fixture
def db(chat_db: Path, tmp_path: Path) -> Iterator[store.Database]:
    """The test's own copy of it."""
    own = tmp_path / "chat.db"
    own.write_bytes(chat_db.read_bytes())
    with store.open_database(own) as opened:
        yield opened


@pytest.fixture(scope="session")
def chat_subject(tiny_gpt2_folder: Path) -> Subject:
    return load_subject(str(tiny_gpt2_folder), device="cpu")


Begin = Callable[..., Session]


@pytest.fixture
def begin(db: store.Database, chat_subject: Subject) -> Iterator[Begin]:
    """Begins conversations over the database and a random model."""
    begun: list[Session] = []

    def go(talker: Talker | None = None, *, chat: int | None = None, model: bool = True, **limits: object) -> Session:
        open_workbench = (lambda stack: stack.enter_context(Workbench.open(chat_subject))) if model else None
        shelf = ToolShelf(Library(db), open_workbench, "tiny" if model else None)
        session = Session(db, shelf, talker, chat=chat, limits=ChatLimits(**limits))  # type: ignore[arg-type]
        begun.append(session)
        return session

    yield go
    for session in begun:
        session.close()
