"""Text that the subject writes while something in it is changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from tools.errors import InterventionError
from tools.hooking.edits import Edit
from tools.hooking.hooks import Hooks
from tools.hooking.where import Moment
from tools.subject import Subject


@dataclass(frozen=True)
class Generated:
    """One continuation."""

    prompt: str
    text: str
    """The continuation alone."""
    ids: tuple[int, ...]
    """Its tokens, without the end-of-text token."""
    ended: bool
    """Whether the model ended it."""


class _Sampler(LogitsProcessor):  # type: ignore[misc]
    """Gumbel-max sampling: the largest of logits / T + Gumbel noise is a draw from the softmax (Gumbel 1954).

    Each row has noise of its own, so that what one row draws does not depend on which others are in the batch.
    """

    def __init__(self, temperature: float, seeds: Sequence[int]) -> None:
        self._temperature = temperature
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        uniform = torch.stack(
            [torch.rand(scores.shape[-1], generator=g, dtype=torch.float64) for g in self._generators]
        )
        noise = -torch.log(-torch.log(uniform.clamp(1e-300, 1 - 1e-16)))
        return (scores.double() / self._temperature + noise.to(scores.device)).to(scores.dtype)


class _Watched(LogitsProcessor):  # type: ignore[misc]
    """Raises when the logits are no longer finite."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if bool(torch.isnan(scores).any()) or bool((scores == float("inf")).any()):
            raise InterventionError(
                f"With this edit the logits of '{self._subject.name}' are no longer finite. Choose a smaller strength."
            )
        return scores


def generate(
    subject: Subject,
    prompts: Sequence[str | Sequence[int]],
    edits: Sequence[Edit] = (),
    *,
    max_new_tokens: int = 25,
    temperature: float = 0.0,
    seed: int | Sequence[int] = 0,
) -> list[Generated]:
    """Continue prompts, all in one batch, with the edits in force at each step.

    Args:
        subject: A decoder with a head.
        prompts: Texts, or token ids.
        edits: What to change. Places without positions hold in the prompt and in all that is written;
            ``Where(positions=range(n))`` is the prompt alone, ``Where(since=n)`` what is written.
        max_new_tokens: How much to write at most.
        temperature: 0 takes the likeliest token each time.
        seed: Of sampling; one for each prompt, or one for all, from which each row's is made.

    Raises:
        InterventionError: The subject writes no text, or the logits are no longer finite.
        SubjectError: A prompt with its continuation is too long for the model.
    """
    if not prompts:
        return []
    if not subject.causal or subject.model.get_output_embeddings() is None or not hasattr(subject.model, "generate"):
        raise InterventionError(f"'{subject.name}' writes no text: it is no decoder with a language model head.")
    if temperature < 0:
        raise InterventionError(f"A temperature is 0 or more, and not {temperature:g}.")
    sequences = [subject.encode(p) if isinstance(p, str) else [int(i) for i in p] for p in prompts]
    if any(not sequence for sequence in sequences):
        raise InterventionError("A prompt has no tokens, and this model puts none before a text. Give it some.")
    ids, mask = subject.pad(sequences, side="left")
    subject.check_ids(ids, max_new_tokens)
    seeds = [seed * 1_000_003 + row for row in range(len(prompts))] if isinstance(seed, int) else list(seed)
    own = getattr(subject.model, "generation_config", None)
    ends = getattr(own, "eos_token_id", None)
    ends = subject.tokenizer.eos_token_id if ends is None else ends
    filler = subject.tokenizer.pad_token_id
    settings = GenerationConfig(
        max_new_tokens=max_new_tokens, do_sample=False, num_beams=1, use_cache=True, eos_token_id=ends,
        pad_token_id=0 if filler is None else filler,
    )  # fmt: skip
    processors = [_Watched(subject), *([_Sampler(temperature, seeds)] if temperature else [])]
    starts = ids.shape[1] - mask.sum(1)
    hooks = Hooks(subject.model, subject.sites, edits)
    seen = 0

    def begin(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal seen
        given = kwargs.get("input_ids", args[0] if args else None)
        assert isinstance(given, Tensor), "generation feeds token ids"
        hooks.begin(
            Moment(given.shape[0], given.shape[1], offset=seen, starts=starts if bool((starts > 0).any()) else None)
        )
        seen += given.shape[1]

    with subject.lock, torch.inference_mode(), hooks:
        handle = subject.model.register_forward_pre_hook(begin, with_kwargs=True)
        try:
            written = subject.model.generate(
                ids.to(subject.device), attention_mask=mask.to(subject.device), generation_config=settings,
                logits_processor=LogitsProcessorList(processors),
            )  # fmt: skip
        finally:
            handle.remove()
    rows = written[:, ids.shape[1] :].tolist()
    stops = {ends} if isinstance(ends, int) else set(ends or ())
    return [
        _row(subject, prompt, row, stops, sequence)
        for prompt, row, sequence in zip(prompts, rows, sequences, strict=True)
    ]


def _row(
    subject: Subject, prompt: str | Sequence[int], row: list[int], stops: set[int], sequence: list[int]
) -> Generated:
    cut = next((i for i, token in enumerate(row) if token in stops), len(row))
    given = prompt if isinstance(prompt, str) else "".join(subject.pieces(sequence))
    return Generated(given, subject.tokenizer.decode(row[:cut]), tuple(row[:cut]), cut < len(row))
