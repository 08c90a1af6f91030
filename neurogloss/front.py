"""What ``import neurogloss as ng`` offers; each function puts off its heavy imports until it is called."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurogloss.settings import Settings, resolve

if TYPE_CHECKING:
    from agent import Observer, Summary
    from neurogloss.probe import Probe
    from neurogloss.results import Results
    from tools.subject import Subject


def open(db: str | Path | None = None, *, home: str | Path | None = None) -> Results:
    """Opens the database of descriptions.

    Args:
        db: Path of a SQLite file or an SQLAlchemy URL. None: as the command does, from ``NEUROGLOSS_DB`` or the home.
        home: The data folder. None: from ``NEUROGLOSS_HOME``, or the platform's usual place.

    Raises:
        StoreError: There is no such database, or it cannot be used.
    """
    import store
    from neurogloss.results import Results

    return Results(store.open_database(_settings(db, home).database, create=False))


def run(
    spec: str | Path | Mapping[str, Any] | None = None,
    *,
    db: str | Path | None = None,
    home: str | Path | None = None,
    observer: Observer | None = None,
    **options: Any,
) -> Summary:
    """Runs a campaign, or goes on with it; ``ng.run("demo")`` is the built-in one.

    Args:
        spec: Name of a built-in campaign, path of a YAML file, or a mapping of settings. None: the options alone.
        db: As in `open`; it is made if it is not there.
        home: As in `open`.
        observer: Is told what happens; see `agent.progress.Observer`.
        **options: Settings of the campaign (`agent.spec.CampaignSpec`) that win over the spec's:
            ``subject="pycode", units=["mlp:2:*"], corpus="stdlib:", budget={"units": 50}``.

    Raises:
        NeuroglossError, StoreError: What is asked for is not there, or does not fit.
    """
    from agent import load_spec, run_campaign

    settings = _settings(db, home)
    plan = load_spec(None, {**spec, **options}) if isinstance(spec, Mapping) else load_spec(spec, options)
    summary = run_campaign(plan, db=settings.database, home=settings.home.expanduser(), observer=observer)
    assert summary is not None  # only a `confirm` that says no would leave none
    return summary


def subject(
    name: str, *, dictionaries: Mapping[str, str] | None = None, device: str = "auto", dtype: str = "auto"
) -> Subject:
    """Loads a model to study: a built-in name (``pycode``), a folder or a Hugging Face hub id.

    Args:
        name: The model; weights are read from safetensors only.
        dictionaries: Sparse dictionaries to attach: name -> folder in SAELens' format.
        device: 'auto', 'cpu', 'cuda', 'cuda:1', 'mps'.
        dtype: 'auto', 'float32', 'bfloat16', 'float16'.

    Raises:
        SubjectError, DictionaryError: It cannot be loaded, or does not fit.
    """
    from neurogloss.probe import load

    return load(name, dictionaries=dictionaries or {}, device=device, dtype=dtype)


def activate(subject: Subject, unit: str, text: str) -> Probe:
    """A unit's activation at every token of a text.

    Raises:
        UnitError: The subject has no such unit.
    """
    from neurogloss.probe import probe

    return probe(subject, unit, text)


def _settings(db: str | Path | None, home: str | Path | None) -> Settings:
    return resolve(db=None if db is None else str(db), home=None if home is None else Path(home))
