"""One hidden state after the other, put into a target text: what is predicted there, and what is written.

What goes from block to block is read and replaced behind the block, before any norm. While text is written the state is
put into the prompt alone.

For the next token there are the paper's two measures: precision@1, whether the patched model's first choice is the
unpatched one's at the source position, and surprisal, -ln of the probability that the unpatched model gives there to
the patched one's first choice.

A cell has a signal where, among the state and n random vectors of the same length, its prediction stands out (its KL
divergence from the mean prediction of the others is among the largest), or its surprisal is among the smallest. If the
state were random too, any of the n + 1 would be as likely to be the extreme one, so that these p-values hold whatever
the model makes of random vectors; there are two of them, and the smaller counts double.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from tools.errors import InterventionError
from tools.interventions import Edit, Where, generate, prefill, run, set_to
from tools.subject import Subject
from tools.types import Site

#: The paper's prompt that has a model say which token a state is of; patched at its last position.
TOKEN_IDENTITY = "cat -> cat\n1135 -> 1135\nhello -> hello\n?"
#: The paper's prompt that has a model say what entity a state is of.
ENTITY_DESCRIPTION = (
    "Syria: Country in the Middle East, Leonardo DiCaprio: American actor, Samsung: South Korean multinational major "
    "appliance and consumer electronics corporation, x"
)
#: Random vectors for each cell.
CONTROLS = 99
#: Rows, and numbers in their logits, that are run together.
_ROWS, _LOGITS = 512, 2**25


@dataclass(frozen=True)
class Cell:
    """What became of one state."""

    layer: int
    """Behind whose block it was read."""
    target_layer: int
    """Behind whose block it was put."""
    top: tuple[tuple[str, float], ...]
    """Likeliest next tokens of the patched target text, with their probabilities."""
    precise: bool
    """Whether the first of them is the source text's own (precision@1)."""
    surprisal: float
    """Nats."""
    standing_out: float
    """KL divergence from the mean prediction with random vectors, nats."""
    standing_p: float | None
    """Share of the random vectors (and the state) that stand out as much; None without them."""
    surprisal_p: float | None
    """Share of them whose surprisal is as small."""
    text: str | None
    """What was written."""
    control_text: str | None
    """What was written with a random vector of the same length."""
    gold: bool | None
    """Whether the text holds what was looked for."""
    control_gold: bool | None

    @property
    def p_value(self) -> float | None:
        """Twice the smaller of the two; None without random vectors."""
        if self.standing_p is None or self.surprisal_p is None:
            return None
        return min(1.0, 2 * min(self.standing_p, self.surprisal_p))

    @property
    def signal(self) -> bool | None:
        """Whether the model made more of the state than of random vectors (p <= 0.05)."""
        return None if self.p_value is None else self.p_value <= 0.05


@dataclass(frozen=True)
class Inspected:
    """A state of a source text, seen through a target text."""

    source: tuple[str, ...]
    """The source text's tokens."""
    position: int
    target: tuple[str, ...]
    target_position: int
    own: tuple[tuple[str, float], ...]
    """What the unpatched model predicts at the source position."""
    plain: tuple[tuple[str, float], ...]
    """What it predicts after the target text unpatched."""
    plain_text: str | None
    plain_gold: bool | None
    """Whether that holds what was looked for without any patch."""
    mapped: bool
    """Whether states passed a fitted map."""
    controls: int
    cells: tuple[Cell, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        data = asdict(self)
        for row, cell in zip(data["cells"], self.cells, strict=True):
            row |= {"p_value": cell.p_value, "signal": cell.signal}
        return data


def patched_logits(
    subject: Subject, prompt: Sequence[int], position: int, layers: Sequence[int], vectors: Tensor
) -> Tensor:
    """Logits after a text, float32 [n, vocabulary], with another vector behind a block at one position in each row.

    Args:
        subject: A decoder with a head.
        prompt: Token ids.
        position: Where.
        layers: Of each row the block, [n].
        vectors: [n, d_model].

    Raises:
        UnitError: A layer is not there.
        InterventionError: The position is beyond the text, or the vectors do not fit.
    """
    ids = [int(i) for i in prompt]
    _check_position(ids, position, "target")
    found = []
    step = max(1, min(_ROWS, _LOGITS // (subject.vocabulary * (len(ids) - position))))
    prefix = prefill(subject, [ids[:position]]) if position else None
    tail = torch.tensor([ids[position:]])
    for start in range(0, len(vectors), step):
        part = vectors[start : start + step]
        edits = _placed(layers[start : start + step], part, position)
        past = None if prefix is None else prefix.repeat(len(part))
        logits = run(subject, tail.expand(len(part), -1), None, edits, past=past).logits
        assert logits is not None
        found.append(logits[:, -1].float())
    return torch.cat(found)


def _placed(layers: Sequence[int], vectors: Tensor, position: int) -> list[Edit]:
    """Each row's vector behind its block."""
    edits = []
    for layer in dict.fromkeys(layers):
        rows = [row for row, one in enumerate(layers) if one == layer]
        where = Where(rows=rows, positions=[position])
        edits.append(set_to(Site(layer, "resid_post"), vectors[rows], where, per_row=True))
    return edits


def _check_position(ids: Sequence[int], position: int, what: str) -> None:
    if not 0 <= position < len(ids):
        raise InterventionError(
            f"Position {position} is beyond the {what} text, which has {len(ids)} tokens (0-{len(ids) - 1})."
        )


Mapping = Callable[[Tensor], Tensor]


def patchscope(
    subject: Subject,
    source: Sequence[int],
    position: int | None = None,
    *,
    target: Sequence[int] | None = None,
    target_position: int | None = None,
    layers: Sequence[int] | None = None,
    target_layers: Sequence[int] | None = None,
    mapping: Callable[[int, int], Mapping] | None = None,
    into: Subject | None = None,
    write: int = 0,
    gold: str | None = None,
    controls: int = CONTROLS,
    k: int = 5,
    seed: int = 0,
) -> Inspected:
    """Put hidden states of a source text into a target text.

    Args:
        subject: The model whose states they are.
        source: Token ids.
        position: Of the state; None: the last one.
        target: Token ids; None: `TOKEN_IDENTITY`.
        target_position: Where it is put; None: the last one. Not 0 where text is written.
        layers: Behind whose blocks states are read; None: all.
        target_layers: Behind whose blocks they are put, every one with every one; None: each where it was read.
        mapping: From (layer, target layer) to a function of vectors, such as an `AffineMap`; None: the identity.
        into: The model with the target text; None: the same one.
        write: Tokens to write after the target text; 0: none.
        gold: What is looked for in the text that is written, case aside.
        controls: Random vectors of the same length for each cell.
        k: Likeliest tokens to list.
        seed: Of the random vectors.

    Raises:
        UnitError: A layer is not there.
        InterventionError: A position is beyond its text, or a state does not fit the other model.
        SubjectError: A text is too long.
    """
    other = into or subject
    ids = [int(i) for i in source]
    goal = other.encode(TOKEN_IDENTITY) if target is None else [int(i) for i in target]
    at = len(ids) - 1 if position is None else position
    put = len(goal) - 1 if target_position is None else target_position
    _check_position(ids, at, "source")
    _check_position(goal, put, "target")
    if write and put == 0:
        raise InterventionError("Position 0 of the target text cannot be patched while text is written after it.")
    read = list(range(subject.n_layers)) if layers is None else list(dict.fromkeys(layers))
    pairs = [(one, to) for one in read for to in ([one] if target_layers is None else dict.fromkeys(target_layers))]
    clean = run(subject, torch.tensor([ids]), read=[Site(layer, "resid_post") for layer in read])
    assert clean.logits is not None
    own = _known(subject, clean.logits[0, at].float().log_softmax(-1))
    states = torch.stack([
        (mapping(one, to) if mapping else _identity)(clean[Site(one, "resid_post")][0, at].float()).to(other.device)
        for one, to in pairs
    ])  # fmt: skip
    if states.shape[-1] != other.d_model:
        raise InterventionError(
            f"States of '{subject.name}' are {states.shape[-1]} wide and those of '{other.name}' {other.d_model}: put "
            "them through a fitted map."
        )
    random = _random(states, controls, seed)
    rows = torch.cat([states[:, None], random], 1)  # [cell, 1 + control, d_model]
    width = rows.shape[1]
    logits = patched_logits(other, goal, put, [to for _, to in pairs for _ in range(width)], rows.flatten(0, 1))
    predictions = _known(other, logits.log_softmax(-1)).reshape(len(pairs), width, -1)
    plain = _plain(other, goal)
    texts: list[str | None] = [None] * len(pairs)
    control_texts, plain_text = texts, None
    if write:
        into_layers = [to for _, to in pairs]
        texts = [*_texts(other, goal, put, into_layers, rows[:, 0], write=write)]
        if controls:
            control_texts = [*_texts(other, goal, put, into_layers, rows[:, 1], write=write)]
        plain_text = generate(other, [goal], max_new_tokens=write)[0].text
    cells = []
    for i, (one, to) in enumerate(pairs):
        divergences, surprisals = _standing_out(predictions[i]), _surprisals(own, predictions[i])
        cells.append(Cell(
            layer=one,
            target_layer=to,
            top=_top(other, predictions[i, 0], k),
            precise=int(predictions[i, 0].argmax()) == int(own.argmax()),
            surprisal=float(surprisals[0]),
            standing_out=float(divergences[0]),
            standing_p=_share(divergences >= divergences[0]),
            surprisal_p=_share(surprisals <= surprisals[0]),
            text=texts[i],
            control_text=control_texts[i],
            gold=_holds(texts[i], gold),
            control_gold=_holds(control_texts[i], gold),
        ))  # fmt: skip
    return Inspected(
        source=tuple(subject.pieces(ids)), position=at, target=tuple(other.pieces(goal)), target_position=put,
        own=_top(subject, own, k), plain=_top(other, plain, k), plain_text=plain_text,
        plain_gold=_holds(plain_text, gold), mapped=mapping is not None, controls=controls, cells=tuple(cells),
    )  # fmt: skip


def _identity(vector: Tensor) -> Tensor:
    return vector


def _plain(subject: Subject, prompt: Sequence[int]) -> Tensor:
    """Log-probabilities after a text as it is, [vocabulary]."""
    logits = run(subject, torch.tensor([list(prompt)])).logits
    assert logits is not None
    return _known(subject, logits[0, -1].float().log_softmax(-1))


def _known(subject: Subject, logprobs: Tensor) -> Tensor:
    """Without the rows that some models have beyond their tokenizer's tokens."""
    return logprobs[..., : len(subject.tokenizer)]


def _random(states: Tensor, n: int, seed: int) -> Tensor:
    """n random vectors as long as each state, [cell, n, d_model]."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(len(states), n, states.shape[-1], generator=generator, dtype=torch.float64)
    unit = (drawn / torch.linalg.vector_norm(drawn, dim=-1, keepdim=True)).to(states.device)
    lengths = torch.linalg.vector_norm(states.double(), dim=-1)
    vectors: Tensor = unit * lengths[:, None, None]
    return vectors.float()


def _standing_out(predictions: Tensor) -> Tensor:
    """KL divergence of each of some predictions [n, vocabulary] (logs) from the mean of the others, [n]."""
    p = predictions.double().exp()
    others = ((p.sum(0) - p) / max(1, len(p) - 1)).clamp(min=1e-300).log()
    divergence: Tensor = (p * (predictions.double() - others)).sum(-1)
    return divergence


def _surprisals(own: Tensor, predictions: Tensor) -> Tensor:
    """What the source's own prediction thinks of the first choice of each, [n]; of tokens beyond it the worst."""
    first = predictions.argmax(-1).to(own.device)
    found: Tensor = torch.where(first < len(own), -own[first.clamp(max=len(own) - 1)], torch.inf)
    return found


def _share(extreme: Tensor) -> float | None:
    return float(extreme.sum()) / len(extreme) if len(extreme) > 1 else None


def _top(subject: Subject, logprobs: Tensor, k: int) -> tuple[tuple[str, float], ...]:
    found = logprobs.topk(min(k, len(logprobs)))
    return tuple(zip(subject.pieces(found.indices.tolist()), found.values.exp().tolist(), strict=True))


def _texts(
    subject: Subject, prompt: list[int], position: int, layers: Sequence[int], vectors: Tensor, *, write: int
) -> list[str]:
    """What is written with each vector behind its block, in the prompt alone."""
    found: list[str] = []
    for start in range(0, len(vectors), _ROWS):
        part = layers[start : start + _ROWS]
        edits = _placed(part, vectors[start : start + _ROWS], position)
        found += [one.text for one in generate(subject, [prompt] * len(part), edits, max_new_tokens=write)]
    return found


def _holds(text: str | None, gold: str | None) -> bool | None:
    return None if text is None or gold is None else gold.strip().lower() in text.lower()
