"""What a campaign may be asked, and what is said when it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import CampaignSpec, SpecError, builtin_specs, load_spec

BASE = {"subject": "s", "units": "mlp:0:*", "corpus": "stdlib:"}


def test_every_field_has_a_docstring() -> None:
    from agent.spec import Budget, Panel

    for model in (CampaignSpec, Budget, Panel):
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"


def test_builtin_specs_load() -> None:
    assert "demo" in builtin_specs()
    for name in builtin_specs():
        assert load_spec(name).units


def test_flags_win_over_the_file_and_unset_flags_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("subject: a\nunits: mlp:0:*\ncorpus: x.txt\nbudget: {units: 5, seconds: 9}\n")
    spec = load_spec(path, {"subject": "b", "seed": None, "budget": {"units": 7, "seconds": None}})
    assert (spec.subject, spec.budget.units, spec.budget.seconds, spec.units) == ("b", 7, 9, ("mlp:0:*",))


def test_hash_ignores_what_does_not_change_descriptions() -> None:
    spec = load_spec(None, BASE)
    same = {**BASE, "name": "n", "workers": 7, "budget": {"units": 3}, "device": "cuda", "max_failures": 9}
    assert load_spec(None, same).spec_hash == spec.spec_hash
    for change in ({"seed": 1}, {"units": "mlp:1:*"}, {"alpha": 0.01}, {"shuffle_weights": 0}, {"panel": {"top_k": 9}}):
        assert load_spec(None, {**BASE, **change}).spec_hash != spec.spec_hash


def test_a_campaign_from_before_a_setting_existed_is_still_found_by_its_hash() -> None:
    from agent.spec import BEFORE

    assert load_spec(None, {**BASE, **BEFORE}).spec_hash == "aacc8712d5944af6"
    for change in ({"controls": 0.1}, {"scorer": "other"}, {"scoring": "sequential"}, {"error_method": "by"}):
        assert load_spec(None, {**BASE, **BEFORE, **change}).spec_hash != "aacc8712d5944af6"


def test_title_is_the_name_or_made_of_subject_and_hash() -> None:
    assert load_spec(None, {**BASE, "name": "mine"}).title == "mine"
    unnamed = load_spec(None, {**BASE, "subject": "/models/tiny gpt"})
    assert unnamed.title == f"tiny-gpt-{unnamed.spec_hash[:6]}"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"sede": 1}, "unknown setting 'sede' (known: name, subject"),
        ({"budget": {"unit": 1}}, "unknown setting 'budget.unit' (known: units, seconds, tool_calls, llm_calls"),
        ({"workers": 0}, "'workers'"),
        ({"polarity": "up"}, "'polarity'"),
        ({"units": []}, "'units'"),
        ({"controls": 1.5}, "'controls'"),
        ({"error_method": "none"}, "'error_method'"),
        ({"scoring": "sequential", "scorer": "mine"}, "scoring: sequential is for the scorer 'simulation', not 'mine'"),
    ],
)
def test_bad_settings_are_named(change: dict[str, object], told: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(None, {**BASE, **change})
    assert told in str(caught.value)


def test_missing_and_malformed_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"There is no campaign file 'nowhere'.*demo"):
        load_spec("nowhere")
    bad = tmp_path / "bad.yaml"
    bad.write_text("a: [1")
    with pytest.raises(SpecError, match="not valid YAML"):
        load_spec(bad)
    bad.write_text("- 1")
    with pytest.raises(SpecError, match="must hold a mapping"):
        load_spec(bad)
    with pytest.raises(SpecError, match="'subject' is missing"):
        load_spec(None, {"units": "mlp:0:*", "corpus": "x"})
