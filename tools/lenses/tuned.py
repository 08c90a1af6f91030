"""Tuned lens (Belrose et al. 2023, arXiv 2303.08112): an affine map a layer from its stream to the last one.

    h' = h + h W_l + b_l        and then as the logit lens reads it

W_l and b_l are fitted on texts of a corpus: by least squares on the last stream, in closed form with a ridge, or by the
KL divergence of the reading from the model's prediction, which is what the paper does (Adam, from the least squares
solution). Position 0 is left out of the fit: many models rest there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tools.errors import SubjectError, UnitError
from tools.subject import Subject
from tools.types import SITE_KINDS, Site
from tools.units import length_batches

Method = Literal["kl", "least-squares"]
_BATCH_TOKENS = 4096
#: Share of the mean squared stream that is added to the diagonal of the normal equations.
_RIDGE = 1e-3
_FORMAT = "1"


@dataclass(frozen=True)
class TunedLens:
    """The affine maps of one subject; `fit_tuned_lens` makes it."""

    fingerprint: str
    """Of the subject."""
    method: Method
    tokens: int
    """Positions that it was fitted on."""
    maps: Mapping[Site, tuple[Tensor, Tensor]]
    """Site -> (W [d_model, d_model], b [d_model]), float32."""

    def check(self, site: Site) -> None:
        """Raise UnitError when the lens has no map for a site."""
        if site not in self.maps:
            raise UnitError(f"The tuned lens has no map for {site}; it has {', '.join(map(str, self.maps))}.")

    def map(self, site: Site, stream: Tensor) -> Tensor:
        """A site's stream [..., d_model] as the lens hands it on, float32."""
        self.check(site)
        weight, bias = (part.to(stream.device) for part in self.maps[site])
        stream = stream.float()
        return stream + stream @ weight + bias

    def to_json(self) -> dict[str, Any]:
        about = {"fingerprint": self.fingerprint, "method": self.method, "tokens": self.tokens}
        return {**about, "sites": [str(site) for site in self.maps]}

    def save(self, path: Path) -> None:
        """Write the lens as one safetensors file; its folder is made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {}
        for site, (weight, bias) in self.maps.items():
            tensors[f"{site}.weight"], tensors[f"{site}.bias"] = weight.cpu().contiguous(), bias.cpu().contiguous()
        about = {"fingerprint": self.fingerprint, "method": self.method, "tokens": self.tokens}
        part = path.with_suffix(".part")
        save_file(tensors, part, metadata={"format": _FORMAT, "tuned_lens": json.dumps(about)})
        part.replace(path)

    @classmethod
    def load(cls, path: Path, subject: Subject) -> TunedLens:
        """Read what `save` wrote.

        Raises:
            SubjectError: There is no such file, it is no tuned lens, or it is another subject's.
        """
        if not path.is_file():
            raise SubjectError(f"There is no tuned lens at {path}. Fit one first.")
        try:
            with safe_open(path, "pt") as file:
                about = json.loads((file.metadata() or {})["tuned_lens"])
                found = {Site.parse(key.rpartition(".")[0]) for key in file.keys()}  # noqa: SIM118
                sites = sorted(found, key=lambda site: (site.layer, SITE_KINDS.index(site.kind)))
                maps = {s: (file.get_tensor(f"{s}.weight"), file.get_tensor(f"{s}.bias")) for s in sites}
        except (SafetensorError, KeyError, ValueError, UnitError) as error:
            raise SubjectError(f"{path} is no tuned lens that this version reads ({error}). Fit it again.") from error
        if about["fingerprint"] != subject.fingerprint:
            raise SubjectError(
                f"The tuned lens {path} was fitted on the subject {about['fingerprint']}, and '{subject.name}' is "
                f"{subject.fingerprint}. Fit one for it."
            )
        on = {site: (weight.to(subject.device), bias.to(subject.device)) for site, (weight, bias) in maps.items()}
        return cls(about["fingerprint"], about["method"], int(about["tokens"]), on)


def lens_path(home: Path, subject: Subject) -> Path:
    """Where a data folder keeps the tuned lens of a subject."""
    return home / "lenses" / f"{subject.fingerprint}.safetensors"


def fit_tuned_lens(
    subject: Subject,
    contexts: Sequence[Sequence[int]],
    *,
    sites: Sequence[Site] | None = None,
    method: Method = "kl",
    steps: int = 250,
    rate: float = 1e-3,
    seed: int = 0,
) -> TunedLens:
    """Fit a map for each site.

    Args:
        subject: The model.
        contexts: Token ids of texts; a few thousand tokens a dimension of the stream are good, a few hundred the least.
        sites: Streams; None for the embedding and every block's output but the last, which is mapped to itself.
        method: ``kl`` or ``least-squares``.
        steps: Of Adam, with `kl`.
        rate: Its learning rate, which falls to zero over the steps.
        seed: Of the order of batches.

    Raises:
        UnitError: Too few tokens, a site is not there, or `kl` on a subject whose way to the logits is not linear up to
            a norm (BERT).
    """
    last = Site(subject.n_layers - 1, "resid_post")
    earlier = [Site(0, "resid_pre"), *(Site(i, "resid_post") for i in range(subject.n_layers - 1))]
    chosen = [site for site in (earlier if sites is None else sites) if site != last]
    streams = _streams(subject, contexts, [*chosen, last])
    goal = streams[last]
    if len(goal) < 2 * subject.d_model:
        raise UnitError(
            f"A tuned lens needs at least {2 * subject.d_model} tokens to fit maps of width {subject.d_model}; the "
            f"texts have {len(goal)}. Give more texts."
        )
    maps = {site: _least_squares(streams[site], goal) for site in chosen}
    if method == "kl":
        chain = _chain(subject)
        for site in chosen:
            maps[site] = _descend(chain, streams[site], goal, maps[site], steps=steps, rate=rate, seed=seed)
    zero = (torch.zeros(subject.d_model, subject.d_model), torch.zeros(subject.d_model))
    maps[last] = (zero[0].to(subject.device), zero[1].to(subject.device))
    return TunedLens(subject.fingerprint, method, len(goal), maps)


def _streams(subject: Subject, contexts: Sequence[Sequence[int]], sites: Sequence[Site]) -> dict[Site, Tensor]:
    """float32 [token, d_model] of each site, position 0 of each text left out."""
    usable = [context for context in contexts if len(context) > 1]
    kept: dict[Site, list[Tensor]] = {site: [] for site in sites}
    for batch in length_batches([len(c) for c in usable], _BATCH_TOKENS):
        ids, mask = subject.pad([usable[i] for i in batch])
        captured = subject.capture(ids, mask, sites)
        real = mask.bool()
        real[:, 0] = False
        for site in sites:
            kept[site].append(captured[site][real.to(subject.device)].float())
    width = subject.d_model
    return {site: torch.cat(parts) if parts else torch.zeros(0, width) for site, parts in kept.items()}


def _least_squares(stream: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
    """W and b of the smallest ridge-regularised squared error of h + h W + b from the goal."""
    centre, aim = stream.double().mean(0), (goal - stream).double().mean(0)
    x, y = stream.double() - centre, (goal - stream).double() - aim
    gram = x.T @ x
    gram += _RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    weight = torch.linalg.solve(gram, x.T @ y)
    return weight.float(), (aim - centre @ weight).float()


def _chain(subject: Subject) -> torch.nn.Sequential:
    way = subject.unembedding
    if way is None:
        raise UnitError(
            f"The tuned lens of '{subject.name}' cannot be fitted by KL: its way from the last residual stream to the "
            "logits is not linear up to a norm. Fit it by least squares."
        )
    return torch.nn.Sequential(*way.modules)


def _descend(
    chain: torch.nn.Sequential, stream: Tensor, goal: Tensor, start: tuple[Tensor, Tensor], *, steps: int, rate: float,
    seed: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Lower KL(prediction of the goal || prediction of the mapped stream) from a starting map."""
    # A factor a dimension that all streams share would leave some weights hardly moving.
    spread = stream.std(0).mean().clamp(min=1e-6)
    dtype = next(chain.parameters()).dtype
    generator = torch.Generator().manual_seed(seed)
    with torch.enable_grad():
        weight = (start[0] * spread).clone().requires_grad_(True)
        bias = start[1].clone().requires_grad_(True)
        optimiser = torch.optim.Adam([weight, bias], lr=rate)
        schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, total_iters=steps)
        for _ in range(steps):
            rows = torch.randint(len(stream), (min(512, len(stream)),), generator=generator).to(stream.device)
            h = stream[rows].clone()
            mapped = h + (h / spread) @ weight + bias
            with torch.no_grad():
                truth = chain(goal[rows].clone().to(dtype)).float().log_softmax(-1)
            guess = chain(mapped.to(dtype)).float().log_softmax(-1)
            loss = torch.nn.functional.kl_div(guess, truth, log_target=True, reduction="batchmean")
            weight.grad, bias.grad = torch.autograd.grad(loss, (weight, bias))
            optimiser.step()
            schedule.step()
    return (weight.detach() / spread), bias.detach()
