"""Train the sparse autoencoder that ships with `pycode`, on the residual stream after its third block.

    python benchmarks/pycode/train_sae.py --model pycode-model --out pycode-model/dictionaries/resid_post.2

Batch-top-k (Bussmann et al. 2024, arXiv 2412.06410): over a batch, the k * batch largest activations survive. Latents
that have long been silent are trained on what the others leave over (AuxK, Gao et al. 2024, arXiv 2406.04093, appendix
A.2). It is saved as what it is in use, a JumpReLU autoencoder with one threshold, in SAELens' format.

Activations are scaled to a mean squared norm of d_model for the training, and the scale is folded into the weights;
decoder rows have norm 1, so a latent's activation is the length of what it adds to the residual stream. The
beginning-of-sequence token, whose residual is many times longer than any other and always the same, is left out. The
reported figures come from the saved float16 weights, read back, on the documents that the model's training held out.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from train_model import CONTEXT, encode, held_out, stdlib_documents, windows
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from tools.dictionaries import load_dictionary

LAYER = 2
#: Tokens per optimiser step, and without an activation after which a latent counts as dead.
BATCH, DEAD_AFTER = 4096, 200_000
#: Windows whose activations are shuffled together: about 500,000 tokens.
POOL = 2000


class SparseAutoencoder:
    """Weights of the autoencoder in training; W_enc [d_in, d_sae], W_dec [d_sae, d_in] with rows of norm 1."""

    def __init__(self, d_in: int, d_sae: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.W_dec = torch.nn.functional.normalize(torch.randn(d_sae, d_in, generator=generator), dim=1)
        self.W_enc = self.W_dec.T.clone().contiguous()
        self.b_enc = torch.zeros(d_sae)
        self.b_dec = torch.zeros(d_in)
        self.threshold = torch.zeros(())

    def parameters(self) -> list[torch.Tensor]:
        return [p.requires_grad_() for p in (self.W_enc, self.W_dec, self.b_enc, self.b_dec)]


def save(sae: SparseAutoencoder, folder: Path, *, scale: float, hook: str, model: str) -> None:
    """Writes cfg.json and float16 sae_weights.safetensors for activations that were *not* multiplied by `scale`.

    A ReLU with a threshold is homogeneous: with all biases and thresholds divided by the scale, latents and
    reconstruction are too.
    """
    weights = {
        "W_enc": sae.W_enc, "W_dec": sae.W_dec, "b_enc": sae.b_enc / scale, "b_dec": sae.b_dec / scale,
        "threshold": (sae.threshold / scale).expand(len(sae.b_enc)),
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: w.detach().half().contiguous() for k, w in weights.items()}, folder / "sae_weights.safetensors")
    config = {
        "architecture": "jumprelu",
        "d_in": sae.W_enc.shape[0],
        "d_sae": sae.W_enc.shape[1],
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {
            "sae_lens_version": "6.0.0",  # the version of the format
            "model_name": model,
            "hook_name": hook,
            "context_size": CONTEXT,
            "prepend_bos": True,
            "training_architecture": "batchtopk",
        },
    }
    (folder / "cfg.json").write_text(json.dumps(config, indent=1) + "\n")


@torch.no_grad()
def residuals(model: GPT2LMHeadModel, ids: torch.Tensor, bos: int) -> torch.Tensor:
    """[token, d_model] the residual stream after block LAYER at all tokens but the beginning-of-sequence token."""
    held: list[torch.Tensor] = []

    def keep(_module: object, _inputs: object, output: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
        held.append(output if isinstance(output, torch.Tensor) else output[0])

    handle = model.transformer.h[LAYER].register_forward_hook(keep)
    try:
        model.transformer(ids)
    finally:
        handle.remove()
    return held[0][ids != bos]


def batches(model: GPT2LMHeadModel, stream: np.ndarray, bos: int, seed: int) -> Iterator[torch.Tensor]:
    """Endless [BATCH, d_model] activations of random windows, shuffled over POOL windows."""
    generator = np.random.default_rng(seed)
    while True:
        starts = generator.integers(0, len(stream) - CONTEXT, POOL)
        pool = torch.cat([residuals(model, windows(stream, part, bos), bos) for part in np.array_split(starts, 40)])
        order = torch.from_numpy(generator.permutation(len(pool)))
        for i in range(0, len(pool) - BATCH + 1, BATCH):
            yield pool[order[i : i + BATCH]]


def survivors(pre: torch.Tensor, k: float) -> float:
    """The threshold above which k activations a token survive, measured on an eighth of the batch for speed."""
    part = pre[::8].flatten()
    return max(0.0, torch.kthvalue(part, part.numel() - int(k * part.numel() / pre.shape[1])).values.item())


def train(source: Iterator[torch.Tensor], d_in: int, args: argparse.Namespace) -> tuple[SparseAutoencoder, float]:
    """The trained autoencoder, and the factor by which activations were multiplied for it."""
    sae = SparseAutoencoder(d_in, args.latents, args.seed)
    first = next(source)
    scale = (d_in**0.5) / first.pow(2).sum(1).mean().sqrt().item()
    sae.b_dec.copy_(first.mean(0) * scale)
    optimiser = torch.optim.Adam(sae.parameters(), lr=args.rate, betas=(0.9, 0.99))
    steps = args.tokens // BATCH
    silent = torch.zeros(args.latents)
    began = time.monotonic()
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = args.rate * min(1.0, (step + 1) / 100, (steps - step) / (0.25 * steps))
        x = next(source) * scale
        pre = (x - sae.b_dec) @ sae.W_enc + sae.b_enc
        threshold = survivors(pre.detach(), args.k)
        z = pre * (pre > threshold)
        error = x - z @ sae.W_dec - sae.b_dec
        variance = (x - x.mean(0)).pow(2).sum(1).mean()
        loss = error.pow(2).sum(1).mean() / variance
        dead = torch.nonzero(silent > DEAD_AFTER).flatten()
        if len(dead) > 0:
            values, places = torch.topk(pre[:, dead], min(len(dead), d_in // 2), dim=1)
            aux = torch.zeros(len(x), len(dead)).scatter(1, places, values.relu()) @ sae.W_dec[dead]
            share = min(1.0, len(dead) / (d_in // 2))
            loss = loss + share / 32 * (error.detach() - aux).pow(2).sum(1).mean() / error.detach().pow(2).sum(1).mean()
        loss.backward()
        with torch.no_grad():
            # A row's gradient along itself would only change its norm, which is then restored anyway.
            gradient = sae.W_dec.grad
            assert gradient is not None
            gradient -= (gradient * sae.W_dec).sum(1, keepdim=True) * sae.W_dec
            optimiser.step()
            optimiser.zero_grad()
            sae.W_dec.div_(sae.W_dec.norm(dim=1, keepdim=True))
            silent = torch.where((z > 0).any(0), 0.0, silent + len(x))
        if (step + 1) % 50 == 0:
            explained = 1 - error.detach().pow(2).sum(1).mean() / variance
            speed = (step + 1) * BATCH / (time.monotonic() - began)
            print(f"step {step + 1} of {steps}: variance explained {explained:.4f}, dead {len(dead)}, "
                  f"threshold {threshold:.3f}, {speed:,.0f} tokens/s", flush=True)  # fmt: skip
    calibrate(sae, source, scale, args.k)
    return sae, scale


@torch.no_grad()
def calibrate(sae: SparseAutoencoder, source: Iterator[torch.Tensor], scale: float, k: float) -> None:
    """Sets the threshold that leaves k latents on, over fresh batches: a running mean lags while the weights move."""
    found = [survivors((next(source) * scale - sae.b_dec) @ sae.W_enc + sae.b_enc, k) for _ in range(20)]
    sae.threshold.fill_(sum(found) / len(found))


@torch.no_grad()
def evaluate(model: GPT2LMHeadModel, folder: Path, stream: np.ndarray, bos: int, limit: int) -> dict[str, float]:
    """Figures on held-out documents, for the dictionary as it is read back from `folder`.

    Variance explained is 1 - sum |x - y|^2 / sum |x - mean|^2; the loss recovered is 1 with the model's own residual
    stream and 0 with the mean residual in its place.
    """
    sae = load_dictionary(folder, "sae")
    starts = np.arange(0, len(stream) - CONTEXT, CONTEXT - 1)[:limit]
    parts = [windows(stream, part, bos) for part in np.array_split(starts, max(1, len(starts) // 20))]
    tokens, error, squares, mean = 0, 0.0, 0.0, torch.zeros(sae.d_in, dtype=torch.float64)
    counts = torch.zeros(sae.d_sae)
    for ids in parts:
        x = residuals(model, ids, bos)
        z = sae.encode(x)
        counts += (z > 0).sum(0)
        error += (x - sae.decode(z)).pow(2).sum().item()
        squares += x.double().pow(2).sum().item()
        mean += x.double().sum(0)
        tokens += len(x)
    mean /= tokens
    density = counts / tokens

    def loss_with(mode: str) -> float:
        def change(_m: object, _i: object, output: torch.Tensor | tuple[torch.Tensor, ...]) -> object:
            x = output if isinstance(output, torch.Tensor) else output[0]
            y = mean.float().expand_as(x).clone() if mode == "mean" else sae.reconstruct(x)
            y = torch.where((ids == bos)[:, :, None], x, y)
            return y if isinstance(output, torch.Tensor) else (y, *output[1:])

        handle = model.transformer.h[LAYER].register_forward_hook(change) if mode != "own" else None
        total = 0.0
        for ids in parts:
            total += model(ids, labels=ids).loss.item() * len(ids)
        if handle is not None:
            handle.remove()
        return total / len(starts)

    own, reconstructed, blank = (loss_with(mode) for mode in ("own", "reconstructed", "mean"))
    return {
        "tokens": tokens,
        "variance_explained": 1 - error / (squares - tokens * mean.pow(2).sum().item()),
        "l0": counts.sum().item() / tokens,
        "dead_share": (counts == 0).float().mean().item(),
        "share_on_at_more_than_1_in_10_tokens": (density > 0.1).float().mean().item(),
        "median_density": density.median().item(),
        "loss": own,
        "loss_with_reconstruction": reconstructed,
        "loss_with_mean": blank,
        "loss_recovered": (blank - reconstructed) / (blank - own),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder that train_model.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for the dictionary and its figures")
    parser.add_argument("--latents", type=int, default=1536)
    parser.add_argument("--k", type=float, default=20, help="latents on at a token, on average")
    parser.add_argument("--tokens", type=int, default=5_000_000, help="activations to train on")
    parser.add_argument("--rate", type=float, default=1.5e-3, help="Adam's peak learning rate")
    parser.add_argument("--test-windows", type=int, default=1000, help="held-out windows of 256 tokens to report on")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    began = time.monotonic()
    model = GPT2LMHeadModel.from_pretrained(args.model, dtype=torch.float32).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(args.model)
    bos = tokenizer.bos_token_id
    documents = stdlib_documents()
    stream = encode(tokenizer, [text for path, text in documents if not held_out(path)])
    test = encode(tokenizer, [text for path, text in documents if held_out(path)])
    print(f"{len(stream):,} tokens to train on, {len(test):,} held out", flush=True)

    sae, scale = train(batches(model, stream, bos, args.seed), model.config.n_embd, args)
    save(sae, args.out, scale=scale, hook=f"blocks.{LAYER}.hook_resid_post", model="pycode")
    figures = evaluate(model, args.out, test, bos, args.test_windows)
    summary = {
        "held_out": {name: round(value, 5) for name, value in figures.items()},
        "training_tokens": args.tokens // BATCH * BATCH,
        "latents": args.latents,
        "k": args.k,
        "seed": args.seed,
        "seconds": round(time.monotonic() - began),
    }
    (args.out / "training.json").write_text(json.dumps(summary, indent=1) + "\n")
    print(json.dumps(summary["held_out"], indent=1))


if __name__ == "__main__":
    main()
