"""DecoderLens (Langedijk et al. 2023, arXiv 2310.03686): what the decoder of an encoder-decoder model says when it is
shown an earlier layer of the encoder.

Each layer's stream takes the place of the encoder's last one, passes what follows the last block (the final norm), and
the decoder writes from it. The last layer gives the model's ordinary output.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import BaseModelOutput

from tools.errors import SubjectError
from tools.fingerprint import fingerprint
from tools.loading import choose_device, find_folder, load_checkpoint, weight_files
from tools.sites import find_blocks
from tools.structure import first_tensor, main_output


@dataclass(frozen=True)
class EncoderDecoder:
    """An encoder-decoder model with its tokenizer; no subject, for units and sites are those of one stack."""

    name: str
    fingerprint: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def load_encoder_decoder(
    name_or_path: str, *, device: str = "auto", dtype: str = "auto", download: bool = True
) -> EncoderDecoder:
    """Load an encoder-decoder model (T5, BART), safetensors only.

    Args:
        name_or_path: A Hugging Face model folder, or a hub id.
        device: As for `load_subject`.
        dtype: As for `load_subject`.
        download: Fetch from the hub what is not on this machine yet.

    Raises:
        SubjectError: It cannot be found or loaded, or is no encoder-decoder model.
    """
    name, folder = find_folder(name_or_path, download=download)
    files = weight_files(folder, name)
    model, tokenizer = load_checkpoint(folder, name, choose_device(device), dtype)
    _check(model, name)
    return EncoderDecoder(name, fingerprint(folder / "config.json", files), model, tokenizer)


def _check(model: PreTrainedModel, name: str) -> None:
    if not getattr(model.config, "is_encoder_decoder", False):
        raise SubjectError(f"DecoderLens is for encoder-decoder models; {name} is none. Decoders have the logit lens.")


@dataclass(frozen=True)
class DecoderReading:
    """What the decoder writes from one layer of the encoder."""

    layer: int
    """0 is the embedding, n the output of the n-th block."""
    text: str
    tokens: tuple[int, ...]
    """Without the start token; up to the first end of text."""
    first: tuple[tuple[str, float], ...]
    """Likeliest first tokens with their probabilities."""
    ordinary: float
    """Mean log probability, in nats, that each token of the ordinary output has given those before it."""


@dataclass(frozen=True)
class DecoderLens:
    """A text through the DecoderLens, a reading a layer; the last is the ordinary output."""

    source: tuple[str, ...]
    readings: tuple[DecoderReading, ...]
    passes: int
    """Forward passes that it took: one of the encoder, the others of the decoder."""
    ran: int
    """Tokens in them."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def decoder_lens(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str, *, max_new_tokens: int = 20, k: int = 5
) -> DecoderLens:
    """Let the decoder write from every layer of the encoder, greedily.

    Args:
        model: An encoder-decoder model of transformers (T5, BART).
        tokenizer: Its tokenizer.
        text: The encoder's input.
        max_new_tokens: Longest output.
        k: How many first tokens to show.

    Raises:
        SubjectError: The model is no encoder-decoder model, or its encoder's blocks are not found.
    """
    name = type(model).__name__
    _check(model, name)
    encoder = model.get_encoder()
    blocks = find_blocks(encoder, f"{name}'s encoder")
    ids = tokenizer(text, return_tensors="pt")["input_ids"].to(model.device)
    with torch.inference_mode():
        shown = _readings_of_layers(encoder, blocks, ids)
        mask = torch.ones(shown.shape[:2], dtype=torch.int64, device=shown.device)
        written = model.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=shown), attention_mask=mask,
            max_new_tokens=max_new_tokens, do_sample=False, num_beams=1,
        )  # fmt: skip
        ordinary = _until_end(written[-1].tolist(), model)
        start = written[:, :1]
        forced = torch.cat([start, torch.tensor([ordinary], device=start.device).expand(len(shown), -1)], 1)
        output = model(
            encoder_outputs=BaseModelOutput(last_hidden_state=shown), attention_mask=mask, decoder_input_ids=forced
        )
        logs = output.logits.float().log_softmax(-1)
        own = logs[:, :-1].gather(-1, forced[:, 1:, None])[..., 0].mean(-1)
        best = logs[:, 0].exp().topk(min(k, logs.shape[-1]))
    readings = []
    for layer, row in enumerate(written.tolist()):
        tokens = _until_end(row, model)
        pieces = [tokenizer.decode([i]) for i in best.indices[layer].tolist()]
        first = tuple(zip(pieces, best.values[layer].tolist(), strict=True))
        said = tokenizer.decode(tokens, skip_special_tokens=True)
        readings.append(DecoderReading(layer, said, tuple(tokens), first, float(own[layer])))
    # The decoder keeps its cache: it runs one token a row and step, and then the ordinary output at once.
    steps, rows = written.shape[1] - 1, len(shown)
    return DecoderLens(
        tuple(tokenizer.decode([i]) for i in ids[0].tolist()), tuple(readings), steps + 2,
        rows * (ids.shape[1] + steps + forced.shape[1]),
    )  # fmt: skip


def _readings_of_layers(encoder: PreTrainedModel, blocks: tuple[torch.nn.Module, ...], ids: Tensor) -> Tensor:
    """The encoder's output [layer, pos, d_model] with each layer's stream in the place of the last block's output."""
    streams: list[Tensor] = []

    def enter(_m: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tensor = first_tensor(args, kwargs)
        assert tensor is not None, "a block reads its hidden state"
        streams.append(tensor.clone())

    def leave(_m: Any, _i: Any, output: Any) -> Any:
        tensor = main_output(output)
        assert tensor is not None, "a block returns its hidden state"
        every = torch.cat([*(s[:1] for s in streams), tensor[:1]])
        return every if isinstance(output, Tensor) else type(output)((every, *output[1:]))

    handles = [block.register_forward_pre_hook(enter, with_kwargs=True) for block in blocks]
    handles.append(blocks[-1].register_forward_hook(leave))
    try:
        rows = ids.expand(len(blocks) + 1, -1)
        shown: Tensor = encoder(input_ids=rows).last_hidden_state
    finally:
        for handle in handles:
            handle.remove()
    return shown


def _until_end(row: list[int], model: PreTrainedModel) -> list[int]:
    """A generated row without its start token, up to and with the first end of text."""
    ends = getattr(model.generation_config, "eos_token_id", None)
    stops = set(ends if isinstance(ends, list) else [ends])
    tokens: list[int] = []
    for token in row[1:]:
        tokens.append(token)
        if token in stops:
            break
    return tokens
