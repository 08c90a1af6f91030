"""What a campaign is asked to do: a small YAML file, flags, or both.

`load_spec` reads a file (or a built-in spec by name) and lays flags over it; `CampaignSpec` checks the result. Two
specs with the same `spec_hash` do the same work, so a second run continues the first.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from agent.llm_settings import LlmSettings, PriceSettings, ServeSettings, Settings, Stage, is_endpoint
from tools.errors import NeuroglossError

#: Settings that change where, how long or how far a campaign runs, but (rounding aside) not what any description says.
_NOT_HASHED = {"name", "workers", "budget", "device", "batch_tokens", "max_failures", "recording"}
#: What campaigns did that were begun before there was such a setting. It is left out of the hash, so that they are
#: still found by theirs.
BEFORE: dict[str, Any] = {
    "scorer": "simulation", "scoring": "fixed", "controls": 0.0, "error_method": "bh", "llm": None, "stages": [],
    "diagnostics": [], "output": "off", "contest": {"rounds": 0}, "predictions": "off", "interchange": False,
    "recording": False, "rivals_from": [],
}  # fmt: skip
#: The explainer that an endpoint given in an explainer's place stands for.
LLM_EXPLAINER = "quantiles"
#: Investigations at once where nobody says how many and a language model is waited for most of the time.
LLM_WORKERS = 16


class SpecError(NeuroglossError):
    """A campaign's specification cannot be read or does not make sense."""


class Budget(Settings):
    """Limits at which a campaign stops taking up units; it can be continued with larger ones. None: no limit."""

    units: int | None = Field(default=None, ge=1)
    """Investigations to end, over all runs of this campaign."""
    seconds: float | None = Field(default=None, gt=0)
    """Seconds of investigation, summed over workers and over all runs (the index is not counted)."""
    tool_calls: int | None = Field(default=None, ge=1)
    """Calls on the subject model and its index, over all runs."""
    llm_calls: int | None = Field(default=None, ge=1)
    """Calls to language models, over all runs."""
    llm_tokens: int | None = Field(default=None, ge=1)
    """Tokens of prompts and answers, over all runs."""
    llm_dollars: float | None = Field(default=None, gt=0)
    """Money for language models, over all runs; counted where `llm.price` says what tokens cost."""


class ContestSettings(Settings):
    """How rival descriptions are told apart by trials on the subject, before one of them is tested; see
    `agent.contest`. `contest: off` spares it."""

    rounds: int = Field(default=6, ge=0, le=64)
    """At most so many rounds of trials for each tail; 0: no contest, rivals are compared on texts alone."""
    policy: str = "auto"
    """Who thinks of trials and revises rivals: `pattern` needs no language model; `auto`: what fits the explainer."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the policy, by name."""
    forward_passes: int = Field(default=64, ge=1)
    """Forward passes of all trials of one tail, at most."""
    alpha: float = Field(default=0.05, gt=0, lt=1)
    """A rival that is right is dropped with at most this probability, however many trials there are."""

    @model_serializer(mode="wrap")
    def _off_is_off(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        settings: dict[str, Any] = written(self)
        return settings if self.rounds else {"rounds": 0}


class Panel(Settings):
    """How much of each split is kept token by token in the activation index, for honest weights and nulls."""

    explore_tokens: int = Field(default=24_000, ge=256)
    """Tokens of the explore split (from which explanations are induced)."""
    refine_tokens: int = Field(default=8_000, ge=256)
    """Tokens of the refine split (on which rival explanations are compared and pruned)."""
    score_tokens: int = Field(default=24_000, ge=256)
    """Tokens of the sealed score split."""
    audit_tokens: int = Field(default=8_000, ge=256)
    """Tokens of the sealed audit split."""
    window: int = Field(default=32, ge=4)
    """Tokens of a sampling block."""
    top_k: int = Field(default=24, ge=4)
    """Strongest blocks kept per unit, split and tail, each from another document."""


class CampaignSpec(Settings):
    """A set of units, how to describe and test them, and a budget."""

    name: str = ""
    """What the campaign is called in the database. Empty: made from the subject and the settings' hash."""
    subject: str
    """The model under study: a built-in name (`pycode`), a folder, or a Hugging Face hub id; safetensors only."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of the subject's weights; `auto` takes the checkpoint's own on a GPU and float32 on a CPU."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`, `mps`."""
    shuffle_weights: int | None = None
    """A seed: study the twin of the subject whose every weight tensor has its entries permuted. A control that must
    fail. None: the subject as it is."""
    dictionaries: dict[str, str] = Field(default_factory=dict)
    """Sparse dictionaries to attach: name -> folder in SAELens' format. Their latents are units `sae:NAME:NUMBER`."""
    units: tuple[str, ...] = Field(min_length=1)
    """Which units to describe: a pattern or a list of patterns, such as `mlp:2:*` or `head:*:*`."""
    sample: int | None = Field(default=None, ge=1)
    """Describe only so many units of each group (a layer's neurons, a layer's heads, a dictionary's latents), drawn by
    a seeded hash. None: all of them."""
    corpus: str
    """Where texts come from: `stdlib:`, a `.jsonl`, `.txt` or `.parquet` file, a folder, or `hf:NAME`."""
    corpus_limit: int | None = Field(default=None, ge=1)
    """Take at most so many documents, drawn by a seeded hash. None: all."""
    max_tokens: int | None = Field(default=None, ge=1_000)
    """Put at most so many tokens through the subject for the index. None: the whole corpus."""
    context: int | None = Field(default=None, ge=8)
    """Tokens that the subject sees at once. None: 256, or the subject's own limit where that is less."""
    batch_tokens: int = Field(default=4_096, ge=64)
    """Tokens of a forward pass while the index is built; more is faster on a GPU."""
    panel: Panel = Field(default_factory=Panel)
    """How much of the corpus the index keeps token by token."""
    explainer: str = "pattern"
    """Who describes: `pattern` induces an executable rule and needs no LLM. An endpoint (`vllm:MODEL`,
    `openai:MODEL@URL`) stands for the explainer `quantiles` with that language model."""
    explainer_options: dict[str, Any] = Field(default_factory=dict)
    """Options of the explainer, by name."""
    llm: LlmSettings | None = None
    """The language model that explains and judges. None: none is used. With one, `explainer` is `quantiles` unless it
    says otherwise."""
    stages: tuple[Stage, ...] = ()
    """Several explainers in place of one, cheap ones first, each for units that those before it leave room for."""
    diagnostics: tuple[str, ...] = ()
    """Further tests of each description that ask the language model, kept beside the score under their usual names:
    `detection`, `fuzzing`, `intruder`, … They decide no verdict."""
    scorer: str = "simulation"
    """Which protocol tests descriptions on sealed data, by its name in `scorers.SCORERS`."""
    scoring: Literal["fixed", "sequential"] = "fixed"
    """`fixed` looks at the whole sealed sample. `sequential` looks at it in batches and stops as soon as it is decided
    for or against the description, with an error rate that holds however often it looks."""
    output: Literal["tested", "off"] = "tested"
    """`tested`: what a unit does when on is measured, claimed, and tested on sealed text by intervention. `off` spares
    the forward passes, and output halves stay untested."""
    interchange: bool = False
    """Also read each description's rule as a causal claim: texts that differ in whether it holds exchange the unit's
    content, and what follows is compared. Some thousand texts for each description; no verdict rests on it."""
    rivals_from: tuple[Literal["output", "database"], ...] = ("output",)
    """Where rival descriptions come from beside the explainer, where these are rules. `output`: the tokens that a
    neuron or latent raises may be those that it fires on, before or near. `database`: what finished campaigns on the
    same subject and corpus say of its neighbours, as it stands when the campaign begins."""
    contest: ContestSettings = Field(default_factory=ContestSettings)
    """Trials that tell rival descriptions apart."""
    predictions: Literal["on", "off"] = "on"
    """`on`: before sealed text is opened, each claim says what its scores and effect there will be, and how likely the
    unit is active at each of some made-up inputs; that is compared with what comes. It costs a forward pass or two for
    each claim; and where there are words without a rule, one question to the language model, which makes the inputs up
    and says what it expects. `off` spares that."""
    controls: float = Field(default=0.1, ge=0, le=1)
    """Blind controls that must fail, as a share of the units: at least one of each kind that applies, hidden among the
    units until the campaign closes. 0 turns them off."""
    polarity: Literal["both", "+", "-"] = "both"
    """Which tail of a unit's activation is described. `both`: the positive one always (where there is one), the
    negative one when it is a real tail (see `agent.triage.polarities`)."""
    alpha: float = Field(default=0.05, gt=0, lt=1)
    """Error rate: the level of each test, and of the false-discovery rate over the campaign's claims."""
    error_method: Literal["bh", "by", "storey", "e-bh"] = "bh"
    """How the false-discovery rate over the campaign's claims is kept: `bh` (Benjamini-Hochberg), `by`
    (Benjamini-Yekutieli: under any dependence), `storey`, or `e-bh` (on e-values, under any dependence)."""
    resamples: int = Field(default=1_000, ge=20)
    """Bootstrap and permutation resamples behind each interval and p-value."""
    null_units: int = Field(default=32, ge=0)
    """Other units of the same group that each description is also scored against, as a null."""
    seed: int = 0
    """Everything random is seeded by this and the unit's id."""
    workers: int | None = Field(default=None, ge=1, le=256)
    """Investigations at once in this process. More processes may run the same command beside it. None: one, or 16
    where a language model is asked."""
    recording: bool = True
    """Keep what each step of an investigation comes to for exact replays: some kilobytes a unit, and some
    hundred where its rivals have a contest of many rounds."""
    max_failures: int = Field(default=2, ge=1)
    """After so many errors an investigation counts as failed. (Kills and clean stops are no errors.)"""
    budget: Budget = Field(default_factory=Budget)
    """When to stop."""

    @model_validator(mode="before")
    @classmethod
    def _endpoint_as_explainer(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        llm = value.get("llm") or {}
        if llm and not value.get("explainer") and not value.get("stages"):
            return {**value, "explainer": LLM_EXPLAINER}
        if not is_endpoint(str(value.get("explainer", ""))):
            return value
        if isinstance(llm, Mapping) and llm.get("endpoints"):
            raise ValueError(
                "the language model is named twice: give an endpoint as explainer, or as llm.endpoints with the name "
                "of an explainer"
            )
        return {**value, "explainer": LLM_EXPLAINER, "llm": {**llm, "endpoints": [value["explainer"]]}}

    @field_validator("contest", mode="before")
    @classmethod
    def _contest_off(cls, value: object) -> object:
        return {"rounds": 0} if value in ("off", False) else value

    @field_validator("units", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_protocol(self) -> Self:
        if self.scoring == "sequential" and self.scorer not in ("simulation", "sequential"):
            raise ValueError(f"scoring: sequential is for the scorer 'simulation', not '{self.scorer}'")
        return self

    @model_validator(mode="after")
    def _what_needs_a_model(self) -> Self:
        if self.llm is None and self.diagnostics:
            raise ValueError("diagnostics ask a language model: name one under llm.endpoints (--llm)")
        if self.stages and self.stages[0].below is not None:
            raise ValueError("stages: the first has nothing before it that its 'below' could refer to")
        if self.budget.llm_dollars is not None and (self.llm is None or self.llm.price is None):
            raise ValueError("budget.llm_dollars needs llm.price, the price of a million tokens (--llm-price)")
        return self

    @property
    def crew(self) -> int:
        """Investigations at once in this process."""
        return self.workers or (1 if self.llm is None else LLM_WORKERS)

    @property
    def spec_hash(self) -> str:
        """16 hex digits over all that decides what descriptions say: not the name, workers, device or budget."""
        settings = self.model_dump(mode="json", exclude=_NOT_HASHED)
        settings = {name: value for name, value in settings.items() if name not in BEFORE or value != BEFORE[name]}
        if self.llm is not None:
            settings["llm"] = self.llm.decides()
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def title(self) -> str:
        """The campaign's name, or one made from the subject and the settings."""
        if self.name:
            return self.name
        stem = re.sub(r"[^A-Za-z0-9.-]+", "-", Path(self.subject).name).strip("-") or "campaign"
        return f"{stem}-{self.spec_hash[:6]}"


def builtin_specs() -> list[str]:
    """Names of the specs that come with the package."""
    folder = resources.files("agent").joinpath("specs")
    return sorted(Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_spec(source: str | Path | None = None, overrides: Mapping[str, Any] | None = None) -> CampaignSpec:
    """Reads a spec and lays `overrides` over it.

    Args:
        source: Name of a built-in spec (`demo`), path of a YAML file, or None to take everything from `overrides`.
        overrides: Fields that win over the file's; nested ones (`budget`, `panel`, `dictionaries`) are merged key by
            key. Values that are None are left out, so that unset flags change nothing.

    Raises:
        SpecError: No such file, not YAML, an unknown field, or a value out of range.
    """
    origin = "the options" if source is None else f"'{source}'"
    settings = {} if source is None else _read(source)
    merged = _merge(settings, overrides or {})
    try:
        return CampaignSpec.model_validate(merged)
    except ValidationError as error:
        raise SpecError(_explain(error, origin)) from error


def _read(source: str | Path) -> dict[str, Any]:
    if str(source) in builtin_specs():
        text = resources.files("agent").joinpath("specs", f"{source}.yaml").read_text(encoding="utf-8")
    else:
        path = Path(source).expanduser()
        if not path.is_file():
            raise SpecError(
                f"There is no campaign file '{source}'. Give the path of a YAML file, or the name of a built-in "
                f"campaign: {', '.join(builtin_specs())}."
            )
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SpecError(f"The campaign file '{source}' cannot be read: {error}.") from error
    try:
        settings = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SpecError(f"'{source}' is not valid YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(settings, dict):
        raise SpecError(f"'{source}' must hold a mapping of settings, such as 'subject: pycode'.")
    return settings


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        if value is None:
            continue
        inner = merged.get(key)
        if not isinstance(value, Mapping):
            merged[key] = value
        elif (both := _merge(inner if isinstance(inner, dict) else {}, value)) or inner is not None:
            merged[key] = both
    return merged


def _explain(error: ValidationError, origin: str) -> str:
    lines = []
    for problem in error.errors()[:3]:
        where = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            lines.append(f"unknown setting '{where}' (known: {', '.join(_known(problem['loc']))})")
        elif problem["type"] == "missing":
            lines.append(f"'{where}' is missing")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            lines.append(f"'{where}': {message[0].lower()}{message[1:]} (got {problem['input']!r})")
    return f"The campaign in {origin} cannot be used: {'; '.join(lines)}."


def _known(location: tuple[int | str, ...]) -> list[str]:
    nested: dict[int | str, type[BaseModel]] = {
        "budget": Budget, "panel": Panel, "llm": LlmSettings, "stages": Stage, "price": PriceSettings,
        "serve": ServeSettings, "contest": ContestSettings,
    }  # fmt: skip
    named = [part for part in location[:-1] if part in nested]
    return list(nested[named[-1]].model_fields if named else CampaignSpec.model_fields)
