"""Clean and corrupted runs of pairs, kept so that parts of one can be put into the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tools.capture import Captured
from tools.errors import SubjectError
from tools.interventions import EVERYWHERE, Edit, Resume, change, replace, run
from tools.patching.metrics import Direction, measure
from tools.patching.pairs import TokenPair
from tools.subject import Subject
from tools.types import Site

#: Tokens of one group's prompts, whose activations are all kept at once.
_GROUP_TOKENS = 2048
#: Entries of the next tokens' logits in one batch.
_LOGITS = 2**24
#: Tokens of one batch.
BATCH_TOKENS = 8192


@dataclass(frozen=True)
class Group:
    """Pairs of one length, each with both its runs."""

    subject: Subject
    numbers: tuple[int, ...]
    """Which of all pairs they are."""
    pairs: tuple[TokenPair, ...]
    ids: dict[str, Tensor]
    """'clean' and 'corrupt': int64 [pair, pos]."""
    runs: dict[str, Captured]
    """What was read of each; `resid_pre` of every layer among it."""
    answer: Tensor
    wrong: Tensor
    logp: Tensor
    """Log-probabilities of the next token in the clean run, float32 [pair, vocabulary]."""
    baselines: dict[str, Tensor]
    """Metrics of each run, float64 [metric, pair]."""

    @property
    def width(self) -> int:
        """Tokens of each prompt."""
        return int(self.ids["clean"].shape[1])

    @property
    def noised(self) -> bool:
        """Whether the corrupted runs are made by noise."""
        return self.pairs[0].noise is not None

    @property
    def rows(self) -> int:
        """Rows of a batch."""
        return max(1, min(BATCH_TOKENS // self.width, _LOGITS // self.subject.vocabulary))

    def sides(self, direction: Direction) -> tuple[str, str]:
        """The run that is patched, and the run that the patches are from."""
        return ("corrupt", "clean") if direction == "denoising" else ("clean", "corrupt")

    def start(self, side: str, rows: Tensor, layer: int) -> tuple[Tensor, list[Edit], Resume]:
        """A run like `side` from a layer on: ids [row, pos], the edits that make it so, and where it is taken up.

        Args:
            side: 'clean' or 'corrupt'.
            rows: Of each row the pair, int64 [row].
            layer: The first layer that is to be computed.
        """
        stream = self.runs[side][Site(layer, "resid_pre")][rows]
        # Not all models can be taken up in the middle, and noise is in no token.
        edits = [replace(Site(layer, "resid_pre"), stream)] if side == "corrupt" and self.noised else []
        return self.ids[side][rows.cpu()], edits, Resume(layer, stream)

    def patched(self, direction: Direction, rows: Tensor, layer: int, edits: Sequence[Edit]) -> Tensor:
        """Metrics of patched runs, float64 [metric, row]; see `start`. No edit is below `layer`."""
        ids, given, resume = self.start(self.sides(direction)[0], rows, layer)
        logits = run(self.subject, ids, None, [*given, *edits], last=True, resume=resume).logits
        assert logits is not None
        return self.measured(logits[:, -1], rows)

    def measured(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Metrics of next-token logits [row, vocabulary], float64 [metric, row]."""
        return measure(logits, self.answer[rows], self.wrong[rows], self.logp[rows])


def groups(subject: Subject, pairs: Sequence[TokenPair], sites: Iterable[Site]) -> Iterator[Group]:
    """Pairs in groups of one length, with both runs of each and the sites read of them.

    Raises:
        SubjectError: The subject has no logits, or a prompt is too long for it.
    """
    if subject.model.get_output_embeddings() is None:
        raise SubjectError(f"The subject '{subject.name}' has no logits to measure an effect by.")
    wanted = list(dict.fromkeys([*(Site(layer, "resid_pre") for layer in range(subject.n_layers)), *sites]))
    kinds: dict[tuple[int, bool], list[int]] = {}
    for number, pair in enumerate(pairs):
        kinds.setdefault((len(pair.clean), pair.noise is not None), []).append(number)
    sigma = _embedding_deviation(subject, pairs)
    for (width, _), numbers in sorted(kinds.items()):
        together = max(1, _GROUP_TOKENS // width)
        for first in range(0, len(numbers), together):
            yield _group(subject, pairs, numbers[first : first + together], wanted, sigma)


def _group(subject: Subject, pairs: Sequence[TokenPair], numbers: list[int], wanted: list[Site], sigma: float) -> Group:
    chosen = tuple(pairs[i] for i in numbers)
    ids = {side: torch.tensor([getattr(p, side) for p in chosen]) for side in ("clean", "corrupt")}
    edits = [] if chosen[0].noise is None else [_noise(subject, chosen, sigma)]
    clean = run(subject, ids["clean"], read=wanted, last=True)
    corrupt = run(subject, ids["corrupt"], None, edits, read=wanted, last=True)
    assert clean.logits is not None
    assert corrupt.logits is not None
    device = clean.logits.device
    answer, wrong = (torch.tensor([getattr(p, name) for p in chosen], device=device) for name in ("answer", "wrong"))
    with torch.inference_mode():
        first = clean.logits[:, -1]
        logp = (first if first.dtype == torch.float64 else first.float()).log_softmax(-1)
        baselines = {
            "clean": measure(first, answer, wrong, logp), "corrupt": measure(corrupt.logits[:, -1], answer, wrong, logp)
        }  # fmt: skip
    return Group(subject, tuple(numbers), chosen, ids, {"clean": clean, "corrupt": corrupt}, answer, wrong, logp,
                 baselines)  # fmt: skip


def _noise(subject: Subject, pairs: tuple[TokenPair, ...], sigma: float) -> Edit:
    width = len(pairs[0].clean)
    drawn = torch.zeros(len(pairs), width, subject.d_model)
    for row, pair in enumerate(pairs):
        assert pair.noise is not None
        generator = torch.Generator().manual_seed(pair.noise.seed * 1_000_003 + 10_007 * pair.prompt + (pair.draw or 0))
        positions = list(pair.noise.positions or range(1, width)) or [0]
        noise = torch.randn(len(positions), subject.d_model, generator=generator)
        drawn[row, positions] = pair.noise.sigmas * sigma * noise
    drawn = drawn.to(subject.device)
    return change(Site(0, "resid_pre"), lambda old: old + drawn.to(old), EVERYWHERE, name="noise")


def _embedding_deviation(subject: Subject, pairs: Sequence[TokenPair]) -> float:
    """Standard deviation of the entries of the prompts' token embeddings, as they enter the stream."""
    if not any(pair.noise is not None for pair in pairs):
        return 0.0
    tokens = sorted({token for pair in pairs for token in pair.clean})
    with torch.inference_mode():
        embedded = subject.model.get_input_embeddings()(torch.tensor(tokens, device=subject.device))
    return float(embedded.float().std())
