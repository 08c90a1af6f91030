"""Builds planted subjects into the cache, or finds them there."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from tools.generated import build_once, cache_folder
from tools.planted.bulk import Bulk
from tools.planted.circuits import circuits
from tools.planted.concepts import concepts
from tools.planted.corpus import word_shares
from tools.planted.families import Families
from tools.planted.garden import Garden
from tools.planted.latents import NAME, Latents
from tools.planted.layout import CODE_SIZE, CONTEXT, D_MODEL, LARGE, LOGITS, STEPS, Array, Layout, codes
from tools.planted.positions import decay_head, step_neurons
from tools.planted.realise import all_heads, place_codes, realiser
from tools.planted.spec import PREFIX, PlantedSpec, planted_spec
from tools.planted.truth import UnitTruth, write_truth
from tools.planted.words import BOS, PAD, TOKENS, UNKNOWN

#: Neurons of a layer in the two sizes.
NEURONS = {"small": 512, "large": 768}
#: Size of the code of a token in what copying heads hand to the logits: a token's own logit rises by this much.
_COPY_LOGIT = 10.0
#: Sum of squares of what a token brings beside its code, the same for all tokens.
_FILLED = 12.0
#: Sample texts on which norms and random neurons are measured.
_MEASURED = 96


def subject_folder(options: str) -> tuple[str, Path]:
    """Name and folder of the planted subject with these options; see `planted_spec`."""
    spec = planted_spec(f"{PREFIX}:{options}")
    return spec.name, build(spec)


def build(spec: PlantedSpec) -> Path:
    """The folder of a planted subject, in the format of Hugging Face; built if it is not in the cache yet.

    The folder holds the model, its tokenizer, a dictionary that is attached when the subject is loaded, and the truth.

    Raises:
        SubjectError: The cache cannot be written to.
    """

    def fill(folder: Path) -> None:
        write(spec, folder)

    return build_once(cache_folder("planted") / f"{spec.name}-{_builder()}" / spec.name, fill)


@cache
def _builder() -> str:
    """12 hex digits over the source of this package: another version builds into another folder."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def write(spec: PlantedSpec, folder: Path) -> list[UnitTruth]:
    """Build a subject into an empty folder. Returns the truth, which is also written there."""
    known = concepts(spec)
    layout = Layout.of(len(known), sum(concept.lagged for concept in known))
    made = realiser(spec.arch, layout, len(TOKENS), NEURONS[spec.size], (TOKENS.index(BOS), TOKENS.index(PAD)))
    garden = Garden(spec, known, layout, NEURONS[spec.size], made.negative_level())
    numbers = {concept.name: number for number, concept in enumerate(known)}
    with torch.no_grad():
        Families(garden).plant()
        latents = Latents(garden)
        latents.plant()
        planned = circuits(
            layout, sum(c.lagged for c in known), numbers["name"], numbers["give to"],
            list(garden.groups).index("name"),
        )  # fmt: skip
        heads = list(planned.heads)
        if spec.arch == "llama":
            heads.append(decay_head(layout))
            garden.neurons += step_neurons(layout, [garden.take(1) for _ in range(2 * len(STEPS))])
        ids, mask = _sample(garden)
        bulk = Bulk(garden, made, ids, mask)
        made.embed(_embedding(garden, bulk), _places(layout))
        made.unembed(_unembedding(garden, bulk))
        for head in heads:
            made.head(head)
        for neuron in garden.neurons:
            made.neuron(neuron)
        random = bulk.fill(all_heads(heads))
    truths = [*garden.truths, *planned.truths, *latents.truths, *random]
    made.model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    latents.save(folder / "dictionaries" / NAME)
    write_truth(folder, truths)
    return truths


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a word, with the space before it; a beginning-of-sequence token before every text."""
    written = [token.replace(" ", "▁") for token in TOKENS]
    made = Tokenizer(models.WordLevel({token: index for index, token in enumerate(written)}, unk_token=UNKNOWN))
    made.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    made.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    made.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, TOKENS.index(BOS))])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=BOS, pad_token=PAD, unk_token=UNKNOWN, model_max_length=CONTEXT
    )


def _sample(garden: Garden) -> tuple[Tensor, Tensor]:
    """Ids and mask [text, position] of some sample texts, padded at the right."""
    numbers = {token: index for index, token in enumerate(TOKENS)}
    texts = garden.sample[:_MEASURED]
    ids = torch.full((len(texts), max(len(text) for text in texts)), TOKENS.index(PAD))
    mask = torch.zeros_like(ids)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = torch.tensor([numbers[piece] for piece in text])
        mask[row, : len(text)] = 1
    return ids, mask


def _token_codes(garden: Garden) -> Array:
    return codes(len(TOKENS), f"planted codes 1 seed {garden.spec.seed}")


def _embedding(garden: Garden, bulk: Bulk) -> Array:
    """[token, D_MODEL]; all rows but that of the beginning-of-sequence token have the same length."""
    layout = garden.layout
    out = np.zeros((len(TOKENS), D_MODEL))
    out[:, layout.dim("constant", 0)], out[:, layout.dim("constant", 1)] = LARGE, -LARGE
    for number, concept in enumerate(garden.concepts.values()):
        out[[TOKENS.index(token) for token in concept.tokens], layout.dim("concept", number)] = 1.0
    out[:, layout.slice("code")] = CODE_SIZE * _token_codes(garden)
    out[:, layout.slice("bulk")] = bulk.embedding(len(TOKENS))
    start = TOKENS.index(BOS)
    for register in ("code", "bulk"):
        out[start, layout.slice(register)] = 0.0
    out[start, layout.dim("start")] = 1.0
    free = (out[:, layout.slice("concept")] ** 2).sum(1) + (out[:, layout.slice("bulk")] ** 2).sum(1)
    out[:, layout.dim("filler")] = np.sqrt(np.maximum(_FILLED - free, 0.0))
    return out


def _places(layout: Layout) -> Array:
    """[CONTEXT, D_MODEL]: what a position brings in a GPT-2. Position 0 has no code, as heads rest there."""
    out = np.zeros((CONTEXT, D_MODEL))
    out[1:, layout.slice("place")] = place_codes()[1:]
    for number, step in enumerate(STEPS):
        out[step:, layout.dim("step", number)] = 1.0
    return out


def _unembedding(garden: Garden, bulk: Bulk) -> Array:
    """[D_MODEL, token]: the frequencies of tokens, output groups, copied tokens, and a little of the bulk."""
    layout = garden.layout
    out = np.zeros((D_MODEL, len(TOKENS)))
    shares = np.array([word_shares().get(token, 1e-5) for token in TOKENS])
    out[layout.dim("constant", 0)] = np.log(shares / shares.mean()) / LARGE
    for group in garden.groups.values():
        out[group.dim, [TOKENS.index(token) for token in group.tokens]] = LOGITS
    own = _token_codes(garden)
    out[layout.slice("copy")] = (_COPY_LOGIT / (own.shape[1] * CODE_SIZE) * own).T
    out[layout.slice("bulk")] = bulk.logits(len(TOKENS))
    return out
