"""The tool `decoder_lens`: what the decoder of an encoder-decoder model writes from earlier layers of the encoder."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from agent.plain import short
from agent.toolbox.base import Arguments, Finding
from agent.toolbox.fields import Text, TopK
from agent.toolbox.registry import tool
from agent.toolbox.workbench import Workbench
from tools.lenses.decoder import decoder_lens, load_encoder_decoder


class DecoderLensArguments(Arguments):
    """Arguments of `decoder_lens`."""

    model: Annotated[str, Field(min_length=1, max_length=400)] = Field(
        description="An encoder-decoder model: a folder, or a hub id that is on this machine already."
    )
    text: Text = Field(description="What the encoder reads.")
    new_tokens: int = Field(default=20, ge=1, le=256, description="Tokens that the decoder writes, at most.")
    k: TopK = 5


@tool("decoder_lens", DecoderLensArguments)
def decoder_lens_tool(workbench: Workbench, arguments: DecoderLensArguments) -> Finding:
    """Lets the decoder of an encoder-decoder model (T5, BART) write from each layer of its encoder as if it were the
    last, and says how likely it then finds the ordinary output (DecoderLens). Such a model is no subject and is named;
    for a decoder there is `logit_lens`.
    """
    chosen = load_encoder_decoder(arguments.model, device=str(workbench.subject.device), download=False)
    found = decoder_lens(chosen.model, chosen.tokenizer, arguments.text, max_new_tokens=arguments.new_tokens,
                         k=arguments.k)  # fmt: skip
    workbench.passes.charge(found.passes, found.ran)
    rows = [
        {"layer": one.layer, "text": one.text, "ordinary": short(one.ordinary),
         "first": [{"token": piece, "probability": short(p)} for piece, p in one.first]}
        for one in found.readings
    ]  # fmt: skip
    same = next(i for i in range(len(rows)) if all(r["text"] == rows[-1]["text"] for r in rows[i:]))
    summary = f"the decoder writes {found.readings[-1].text[:200]!r} from layer {same} of {len(rows) - 1} on"
    data = {"model": chosen.name, "model_fingerprint": chosen.fingerprint, "source": list(found.source), "layers": rows}
    return Finding(summary, data)
