"""Kinds of edges, and where heads of known purpose look when they write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tools.edge_kinds import EdgeKind, edge_mask, edge_masses, written_edges
from tools.errors import UnitError
from tools.heads import edge_profiles
from tools.planted import documents, planted_spec
from tools.subject import Subject, load_subject
from tools.types import UnitId

NAME = "planted:seed=0"


@pytest.fixture(scope="module")
def planted() -> Subject:
    return load_subject(NAME, device="cpu")


@pytest.fixture(scope="module")
def contexts(planted: Subject) -> list[list[int]]:
    return [planted.encode(one.text)[:64] for one in documents(planted_spec(NAME), n=300)]


def test_masks_by_hand(planted: Subject) -> None:
    ids = planted.encode(" Anna saw Ben give it to")
    back = edge_mask(planted, EdgeKind("offset", 2), ids)
    assert np.argwhere(back).tolist() == [[q, q - 2] for q in range(2, len(ids))]
    pairs = edge_mask(planted, EdgeKind("tokens", queries=(" to", " Ben"), keys=(" Anna", " to", " Ben")), ids)
    assert np.argwhere(pairs).tolist() == [[3, 1], [6, 1], [6, 3]]  # to earlier ones, not to itself
    assert edge_mask(planted, EdgeKind("previous"), ids)[4].tolist() == [False, False, False, True, False, False, False]


def test_an_unknown_kind_is_told(planted: Subject) -> None:
    with pytest.raises(UnitError, match="'sideways' is no kind of edges"):
        EdgeKind("sideways")


def test_over_all_destinations_they_are_what_the_profile_has(planted: Subject, contexts: list[list[int]]) -> None:
    unit, few = UnitId("head:0", 3), contexts[:20]
    found = edge_masses(planted, unit, few, EdgeKind("duplicate"), above=-1.0)
    profiles = edge_profiles(planted, 0, few)
    assert len(found.uniform) == profiles[0].destinations["duplicate"]
    assert found.mass.mean(axis=1) == pytest.approx([one.duplicate for one in profiles], abs=1e-5)
    assert float(found.uniform.mean()) == pytest.approx(profiles[0].baseline["duplicate"], abs=1e-5)
    assert found.contexts.tolist() == sorted(found.contexts.tolist())


def test_a_head_that_rests_is_known_by_where_it_writes(planted: Subject, contexts: list[list[int]]) -> None:
    """Over all tokens the head of repeated pairs attends to the first one; where it writes, to the earlier pair."""
    profile = edge_profiles(planted, 1, contexts[:60])[1]
    assert profile.first > 0.8
    found = written_edges(planted, UnitId("head:1", 1), contexts[:100], above=1.6)
    assert found.kinds["duplicate"].mass > 0.95
    assert found.kinds["first"].mass < 0.05
    assert found.tokens is None  # any token may be repeated


def test_a_name_mover_is_known_by_its_tokens(planted: Subject, contexts: list[list[int]]) -> None:
    found = written_edges(planted, UnitId("head:2", 0), contexts[:150], above=13.0)
    assert found.tokens is not None
    assert set(found.tokens.queries) == {" to", " for"}
    assert {" Anna", " Ben", " Clara"} <= set(found.tokens.keys)
    assert found.at_tokens.mass > 0.9 > 0.3 > found.at_tokens.uniform


def test_where_it_never_writes_nothing_is_known(planted: Subject, contexts: list[list[int]]) -> None:
    found = written_edges(planted, UnitId("head:1", 1), contexts[:4], above=1e9)
    assert (found.destinations, found.tokens, found.clear) == (0, None, 0.0)
    assert written_edges(planted, UnitId("head:1", 1), [], above=0.0).destinations == 0


def test_only_heads_have_edges(tiny_gpt2_folder: Path) -> None:
    subject = load_subject(str(tiny_gpt2_folder), device="cpu")
    with pytest.raises(UnitError, match="not an attention head"):
        written_edges(subject, UnitId("mlp:0", 1), [[1, 2, 3]], above=0.0)
