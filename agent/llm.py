"""The language model of a campaign: served if need be, asked by one client."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch

from agent.claims import try_rivals
from agent.llm_settings import LlmSettings
from agent.progress import Observer
from agent.spec import CampaignSpec
from agent.stages import StagedExplainer, StageOf
from explainers.llm.budget import Limits, Meter, Price
from explainers.llm.budget import Spent as LlmSpent
from explainers.llm.check import check, list_models
from explainers.llm.client import LlmClient
from explainers.llm.endpoints import Endpoint, parse_endpoint
from explainers.llm.kit import LlmKit
from explainers.llm.likeness import likeness_for
from explainers.llm.prompts import Prompts
from explainers.llm.serve import VllmServer
from explainers.llm.types import Abilities, EndpointError
from explainers.llm.vllm_command import gpu_share, name_of
from explainers.registry import get, needs_llm
from explainers.types import Evidence, Explainer, Explanation
from scorers.diagnostics import DIAGNOSTICS
from tools.errors import NeuroglossError
from tools.index import SplitView
from tools.subject import Subject

#: Tokens of prompt and answer together that the largest requests need.
LEAST_CONTEXT = 4096
#: Diagnostics that read a text's log-probabilities.
_READS = ("surprisal",)


class NoModelError(NeuroglossError):
    """An explainer needs a language model, and none is named."""


def check_plan(spec: CampaignSpec) -> None:
    """That all explainers and diagnostics of a plan are there and that their prompts can be read, at no cost.

    Raises:
        NeuroglossError: What is missing or does not fit.
    """
    names = [stage.explainer for stage in spec.stages] or [spec.explainer]
    for name in names:
        if not needs_llm(name):
            get(name, **_options(spec, name))
        elif spec.llm is None:
            raise NoModelError(
                f"The explainer '{name}' asks a language model. Name one: --llm vllm:MODEL, or --llm openai:MODEL@URL."
            )
    for name in spec.diagnostics:
        DIAGNOSTICS.get(name)
    if spec.llm is not None:
        Prompts(_folder(spec.llm))


@contextmanager
def open_kit(
    spec: CampaignSpec,
    subject: Subject,
    *,
    spent: LlmSpent,
    logs: Path,
    told: Observer,
    seen: Abilities | None = None,
    replay: bool = False,
    stop: threading.Event | None = None,
) -> Iterator[LlmKit | None]:
    """The campaign's language model with its prompts; None where it names none.

    A `vllm:MODEL` is started here and stopped at the end.

    Args:
        spec: The campaign.
        subject: Whose memory must be left free where a server is started on the same GPU.
        spent: What the campaign has used of its budget for language models.
        logs: Folder for the log of a server that is started.
        told: Is told that a server is started.
        seen: What its endpoints were seen to do when the campaign began: all of it is done in the same way. None: they
            are tried now, where the plan needs to know.
        replay: Answer from what is recorded; start nothing and call nothing.
        stop: Set it to break off the start of a server.

    Raises:
        LlmError: A server does not come up, an endpoint does not answer, or takes too few tokens at once.
        StartStoppedError: `stop` was set while a server was starting.
    """
    if spec.llm is None:
        yield None
        return
    settings = spec.llm
    with ExitStack() as stack:
        if replay:
            endpoints = [replace(parse_endpoint(settings.endpoints[0]), model=settings.model)]
        else:
            endpoints = [
                reachable(name, settings, stack, subject=subject, logs=logs, told=told, stop=stop)
                for name in settings.endpoints
            ]
            for endpoint in endpoints:
                _require_room(endpoint)
        price = None
        if settings.price is not None:
            price = Price(settings.price.prompt, settings.price.completion, settings.price.cached)
        meter = Meter(Limits(spec.budget.llm_calls, spec.budget.llm_tokens, spec.budget.llm_dollars), spent)
        client = stack.enter_context(
            LlmClient(
                endpoints, concurrency=settings.concurrency, timeout=settings.timeout,
                retries=settings.retries, meter=meter, price=price,
                abilities=seen or (None if replay else _abilities(spec, endpoints)), replay=replay,
            )
        )  # fmt: skip
        likeness = likeness_for(settings.embeddings, client, meter=meter, replay=replay)
        stack.callback(likeness.close)
        yield LlmKit(client, Prompts(_folder(settings)), likeness, settings.predictor)


def make_explainer(spec: CampaignSpec, kit: LlmKit | None) -> Explainer:
    """The explainer of a campaign, or its stages as one."""
    if not spec.stages:
        return get(spec.explainer, kit=kit, **spec.explainer_options)

    def mark(rivals: Sequence[Explanation], evidence: Evidence, explainer: Explainer) -> list[float | None]:
        refine = cast("SplitView", evidence.refine)  # what a bench hands out
        tried = try_rivals(
            rivals, refine, evidence.unit, evidence.polarity, evidence.threshold, explainer=explainer,
            seed=spec.seed, even_alone=True,
        )  # fmt: skip
        return [row["f1"] for row in tried.marks]

    return StagedExplainer(
        [StageOf(get(stage.explainer, kit=kit, **stage.options), stage.below) for stage in spec.stages], mark
    )


def _options(spec: CampaignSpec, name: str) -> dict[str, Any]:
    return next((stage.options for stage in spec.stages if stage.explainer == name), spec.explainer_options)


def _folder(settings: LlmSettings) -> Path | None:
    return None if settings.prompts is None else Path(settings.prompts).expanduser()


def reachable(
    name: str,
    settings: LlmSettings,
    stack: ExitStack,
    *,
    subject: Subject | None,
    logs: Path,
    told: Observer,
    stop: threading.Event | None = None,
) -> Endpoint:
    """An endpoint that can be asked; a server is started for one that is a model only, and stopped with the stack.

    Args:
        name: The endpoint, as it was given.
        settings: How a server is started.
        stack: What ends it.
        subject: Whose memory must be left free where both are on one GPU; None: none is there yet.
        logs: Folder for the server's log.
        told: Is told that one is started.
        stop: Set it to break off the start.

    Raises:
        LlmError: It does not come up.
    """
    endpoint = parse_endpoint(name)
    if endpoint.url is not None:
        return endpoint
    if name_of(endpoint.model) != settings.model:
        raise EndpointError(
            f"'{endpoint.model}' is not the model any more that this campaign was begun with ({settings.model}): its "
            "files have changed. Begin another campaign, or restore them."
        )
    told.phase("serve")
    serve = settings.serve
    server = stack.enter_context(
        VllmServer(
            endpoint.model, dtype=serve.dtype, max_model_len=serve.max_model_len,
            tensor_parallel=serve.tensor_parallel, gpu_memory=serve.gpu_memory or _share(subject),
            log=logs / f"{settings.model.replace('/', '-')}.log", served_name=settings.model, stop=stop,
        )
    )  # fmt: skip
    return parse_endpoint(server.endpoint)


def _require_room(endpoint: Endpoint) -> None:
    """That a vLLM, which tells how many tokens it takes at once, takes those of the largest requests.

    Raises:
        EndpointError: It takes fewer, or does not answer.
    """
    if endpoint.kind != "vllm" or endpoint.url is None:
        return
    served = {model["id"]: model.get("max_model_len") for model in list_models(endpoint.url)}
    most = served.get(endpoint.model)
    if isinstance(most, int) and most < LEAST_CONTEXT:
        raise EndpointError(
            f"{endpoint.model} at {endpoint.url} takes {most:,} tokens of prompt and answer together; prompts with "
            f"examples need {LEAST_CONTEXT:,}.\nServe it with --max-model-len {LEAST_CONTEXT} or more (in a plan: "
            "llm.serve.max_model_len), or take a model that knows longer texts."
        )


def _share(subject: Subject | None) -> float | None:
    """The part of a GPU that a subject on it leaves; None where there is none, or the subject is elsewhere."""
    if subject is None:
        return None
    device = next(subject.model.parameters()).device
    if not torch.cuda.is_available():
        return None
    weights = sum(p.numel() * p.element_size() for p in subject.model.parameters()) if device.type == "cuda" else 0
    return gpu_share(torch.cuda.get_device_properties(0).total_memory, weights)


def _abilities(spec: CampaignSpec, endpoints: Sequence[Endpoint]) -> Abilities | None:
    """What the first endpoint is seen to do, where the plan needs to know; None where it does not."""
    assert spec.llm is not None
    reads = spec.llm.predictor == "simulation" or any(name in _READS for name in spec.diagnostics)
    if not (reads or spec.llm.embeddings == "endpoint"):
        return None
    return check(endpoints[0].url or "", endpoints[0].model).abilities
