"""Makes the Hugging Face folder of a subject whose word-embedding columns are the tables of its functions.

The model is a GPT-2 with one block. Its residual stream before that block is the sum of a token's embedding and a
position's embedding, so that column k of it is f_k(token) plus that position's observation noise: an agent asks for
f(x) by running the model on x, through the same site, batch and index machinery as for any other unit. The block behind
is random and small; nothing is claimed of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from tools.functions.inputs import grid, number_text, words
from tools.functions.numeric import numeric_functions
from tools.functions.spec import SIZES, VERSION, FindSpec, find_spec
from tools.functions.truth import FunctionTruth, write_truth
from tools.functions.words import string_functions
from tools.generated import build_once, cache_folder
from tools.loading import quiet
from tools.types import FloatArray

#: Positions of the model, and tokens of a context.
POSITIONS = 128
_BOS, _UNKNOWN = "<s>", "<unk>"


def functions_of(spec: FindSpec) -> list[FunctionTruth]:
    """The functions of a subject, numeric ones first."""
    numeric, string = SIZES[spec.size]
    first, second = (np.random.default_rng([VERSION, spec.seed, i]) for i in (1, 2))
    return numeric_functions(first, numeric) + string_functions(second, string, words(spec.size))


def subject_folder(options: str) -> tuple[str, Path]:
    """Short name and folder of the subject with these options, built if it is not there.

    Raises:
        SubjectError: The options are not understood.
    """
    spec = find_spec(options)
    return spec.name, build(spec)


def build(spec: FindSpec) -> Path:
    """The folder of a subject: config, weights, tokenizer and ``functions.json``; built if it is not there."""
    key = hashlib.sha256(f"{VERSION}\0{spec.text}".encode()).hexdigest()[:12]
    return build_once(cache_folder("find") / f"{spec.name}-{key}", lambda folder: _fill(folder, spec))


def _fill(folder: Path, spec: FindSpec) -> None:
    functions = functions_of(spec)
    tokenizer = make_tokenizer(spec)
    numeric = sum(function.domain == "numeric" for function in functions)
    width = -(-len(functions) // 8) * 8
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=POSITIONS, n_embd=width, n_layer=1, n_head=4, n_inner=4 * width,
        bos_token_id=0, eos_token_id=0, functions={"numeric": numeric, "string": len(functions) - numeric},
    )  # fmt: skip
    # The block's weights are drawn by name and with numpy, for torch's global generator belongs to the caller.
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for number, (name, parameter) in enumerate(sorted(model.named_parameters())):
            if parameter.ndim == 2:
                draw = np.random.default_rng([VERSION, spec.seed, 3, number]).standard_normal(tuple(parameter.shape))
                parameter.copy_(torch.from_numpy(0.02 * draw))
            else:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)
        model.transformer.wte.weight.copy_(torch.from_numpy(_tables(functions, spec, len(tokenizer), width)))
        model.transformer.wpe.weight.copy_(torch.from_numpy(_noise(functions, spec, width)))
    with quiet():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_truth(folder, functions, spec.text)
    (folder / "README.txt").write_text(
        f"{spec.text}, builder version {VERSION}: generated functions, see functions.json. Safe to delete.\n"
    )


def make_tokenizer(spec: FindSpec) -> PreTrainedTokenizerFast:
    """One token for each number and each word, which spaces separate; a beginning-of-sequence token comes first."""
    known = [_BOS, _UNKNOWN, *map(number_text, grid().tolist()), *words(spec.size)]
    tokenizer = Tokenizer(models.WordLevel({text: i for i, text in enumerate(known)}, unk_token=_UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.WordPiece(cleanup=False)  # so that each token reads with the space before it
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{_BOS} $A", special_tokens=[(_BOS, 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=_BOS, unk_token=_UNKNOWN, model_max_length=POSITIONS
    )


def _tables(functions: Sequence[FunctionTruth], spec: FindSpec, vocabulary: int, width: int) -> FloatArray:
    """[token, column]: the value of function k at each input of its domain, 0 at inputs of the other one."""
    table = np.zeros((vocabulary, width), dtype=np.float32)
    numbers, strings = grid(), words(spec.size)
    for column, function in enumerate(functions):
        first, inputs = (2, numbers) if function.domain == "numeric" else (2 + len(numbers), strings)
        values = function.values(inputs)
        if not np.isfinite(values).all():
            raise ValueError(f"{function.unit} ({function.formula}) is not finite everywhere")
        table[first : first + len(values), column] = values
    return table


def _noise(functions: Sequence[FunctionTruth], spec: FindSpec, width: int) -> FloatArray:
    """[position, column]: observation noise; over positions its mean is 0 and its deviation as the truth says.

    Position 0 holds the beginning-of-sequence token, and stays without.
    """
    noise = np.zeros((POSITIONS, width))
    for column, function in enumerate(functions):
        if function.noise:
            draw = np.random.default_rng([VERSION, spec.seed, 4, column]).standard_normal(POSITIONS - 1)
            noise[1:, column] = function.noise * (draw - draw.mean()) / draw.std()
    return noise.astype(np.float32)
