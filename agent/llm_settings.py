"""The part of a campaign's specification that is about language models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from explainers.llm.endpoints import EndpointNameError, parse_endpoint
from explainers.llm.vllm_command import ServeError, name_of


class Settings(BaseModel):
    """What all parts of a specification have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class PriceSettings(Settings):
    """What an endpoint charges, in US dollars for a million tokens. Nothing is assumed where it is not given."""

    prompt: float = Field(ge=0)
    """Tokens of prompts."""
    completion: float = Field(ge=0)
    """Tokens of answers."""
    cached: float | None = Field(default=None, ge=0)
    """Prompt tokens that come from the endpoint's prefix cache. None: as much as the others."""


class ServeSettings(Settings):
    """How a `vllm:MODEL` is started."""

    dtype: str | None = None
    """Number format of its weights; vLLM's own choice by default."""
    max_model_len: int | None = Field(default=None, ge=512)
    """Tokens of prompt and answer together."""
    tensor_parallel: int = Field(default=1, ge=1)
    """GPUs that share it."""
    gpu_memory: float | None = Field(default=None, gt=0, le=1)
    """Share of the GPU's memory that it takes. None: what the subject leaves."""


class LlmSettings(Settings):
    """The language model that explains and judges."""

    endpoints: tuple[str, ...] = Field(min_length=1)
    """`vllm:MODEL` (started for the campaign, and stopped after it), `vllm:MODEL@URL`, or `openai:MODEL@URL` (any
    OpenAI-compatible endpoint; the key is read from NEUROGLOSS_LLM_KEY or OPENAI_API_KEY). Several share the load."""
    model: str = ""
    """The model's name; filled in from the endpoints."""
    concurrency: int = Field(default=32, ge=1, le=1024)
    """Calls in flight at most; fewer when the endpoint asks for it."""
    timeout: float = Field(default=120.0, gt=0)
    """Seconds after which a call counts as lost."""
    retries: int = Field(default=6, ge=0)
    """Times that a call is sent again after a 429, a 5xx, a timeout or a dropped connection."""
    prompts: str | None = None
    """A folder whose `NAME.md` files take the place of the built-in prompts of those names."""
    predictor: Literal["marks", "simulation", "levels"] = "marks"
    """How words become predictions: `marks` (the model quotes where the unit fires), `simulation` (a level for each
    token, read off `prompt_logprobs`; `levels` where an endpoint has none), `levels` (a level for each token)."""
    embeddings: str | None = None
    """What tells how alike texts are: `endpoint` (the same one's embeddings), `openai:MODEL@URL`, or
    `sentence-transformers:NAME`. None: words in common (BM25)."""
    price: PriceSettings | None = None
    """What tokens cost. None: dollars are not counted."""
    serve: ServeSettings = Field(default_factory=ServeSettings)
    """How a `vllm:MODEL` is started."""

    @field_validator("endpoints", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        """Fills in the model's name, so that the campaign knows it when the folder or the server is gone."""
        if not isinstance(value, Mapping) or value.get("model") or not value.get("endpoints"):
            return value
        given = value["endpoints"]
        return {**value, "model": _model(given if isinstance(given, str) else given[0])}

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        others = {_model(name) for name in self.endpoints if parse_endpoint(name).url is not None} - {self.model}
        if others:
            raise ValueError(
                f"all endpoints of a campaign serve one model: '{self.model}' and not also '{min(others)}'"
            )
        return self

    def decides(self) -> dict[str, Any]:
        """What of it decides what descriptions say: not where the model runs, how fast, or what it costs."""
        return {
            "model": self.model, "prompts": self.prompts, "predictor": self.predictor, "embeddings": self.embeddings,
        }  # fmt: skip


class Stage(Settings):
    """One explainer of several, cheap ones first."""

    explainer: str
    """Its name."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Its options."""
    below: float | None = Field(default=None, gt=0, le=1)
    """Ask it only about units whose best description so far has an F1 below this on the refine split. None: always."""


def _model(endpoint: str) -> str:
    """The name of the model that an endpoint serves, or that is to be served.

    Raises:
        ValueError: It cannot be understood, or there is no such folder.
    """
    try:
        parsed = parse_endpoint(endpoint)
        return parsed.model if parsed.url is not None else name_of(parsed.model)
    except (EndpointNameError, ServeError) as error:
        raise ValueError(str(error)) from error


def is_endpoint(name: str) -> bool:
    """Whether an explainer's name is that of an endpoint rather than of a method."""
    return name.partition(":")[0] in ("vllm", "openai") and ":" in name
