"""Train `pycode`, the small language model that neurogloss ships, on the Python standard library's source.

    python benchmarks/pycode/train_model.py --out pycode-model --steps 2000

Architecture: GPT-2 (4 layers, d_model 192, 6 heads, 768 ReLU neurons a layer, tied embeddings, context 256) with its
own byte-level BPE of 4,096 tokens. Every training window starts with the beginning-of-sequence token, as every text
does when the tokenizer encodes it, so position 0 is always that token.

The hidden matrices are trained with Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/), embeddings
and vectors with AdamW; the learning rate is constant, then decays linearly to zero over the last 30 % of the run
(warm-up, stable, decay). One document in twenty, by hash of its path, is held out of the training and gives the
reported losses. The run is checkpointed and goes on after a kill.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sysconfig
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

BOS, PAD = "<|bos|>", "<|pad|>"
CONTEXT = 256
VOCABULARY = 4096
#: A line break takes the following indentation with it; words take one leading space; digits stand alone.
PIECES = r"\n+ *| ?[A-Za-z]+| ?[0-9]| ?[^\sA-Za-z0-9]+|[^\S\n]+|\s+"


def stdlib_documents() -> list[tuple[str, str]]:
    """(path below the standard library's folder, text) of every UTF-8 source file, in order of path."""
    root = Path(sysconfig.get_paths()["stdlib"])
    documents = []
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if "site-packages" in relative.parts or "__pycache__" in relative.parts:
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # deliberately broken encodings among CPython's own test files
        if text.strip():
            documents.append((relative.as_posix(), text))
    return documents


def held_out(path: str) -> bool:
    return int(hashlib.sha256(path.encode()).hexdigest(), 16) % 20 == 0


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[BOS, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=24,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=BOS, pad_token=PAD, model_max_length=CONTEXT
    )


def encode(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> np.ndarray:
    """All documents, each preceded by the beginning-of-sequence token, as one stream of int16 token ids."""
    stream = [np.asarray(e.ids, dtype=np.int16) for e in tokenizer.backend_tokenizer.encode_batch(texts)]
    return np.concatenate(stream)


def windows(stream: np.ndarray, starts: np.ndarray, bos: int) -> torch.Tensor:
    """[batch, CONTEXT] token ids: the beginning-of-sequence token, then CONTEXT-1 tokens of the stream."""
    rows = stream[starts[:, None] + np.arange(CONTEXT - 1)].astype(np.int64)
    return torch.from_numpy(np.concatenate([np.full((len(rows), 1), bos), rows], axis=1))


@torch.no_grad()
def evaluate(model: GPT2LMHeadModel, stream: np.ndarray, bos: int, limit: int = 400) -> float:
    """Mean next-token loss (nats) on consecutive windows of `stream`, over the tokens after the first of a window."""
    model.eval()
    starts = np.arange(0, len(stream) - CONTEXT, CONTEXT - 1)[:limit]
    total = 0.0
    for batch in np.array_split(starts, max(1, len(starts) // 32)):
        ids = windows(stream, batch, bos)
        total += model(ids, labels=ids).loss.item() * len(batch)
    model.train()
    return total / len(starts)


def count_baselines(train: np.ndarray, test: np.ndarray) -> dict[str, float]:
    """Held-out loss of an add-one unigram and of a bigram interpolated with it (weight by Witten-Bell)."""
    unigram = np.bincount(train, minlength=VOCABULARY) + 1.0
    unigram /= unigram.sum()
    pairs = np.unique(train[:-1].astype(np.int64) * VOCABULARY + train[1:], return_counts=True)
    seen = np.bincount(train[:-1], minlength=VOCABULARY).astype(float)
    kinds = np.bincount(pairs[0] // VOCABULARY, minlength=VOCABULARY).astype(float)
    wanted = test[:-1].astype(np.int64) * VOCABULARY + test[1:]
    place = np.searchsorted(pairs[0], wanted).clip(max=len(pairs[0]) - 1)
    counts = np.where(pairs[0][place] == wanted, pairs[1][place], 0)
    n, t = seen[test[:-1]], kinds[test[:-1]]
    bigram = (counts + t * unigram[test[1:]]) / np.maximum(n + t, 1)
    bigram = np.where(n + t > 0, bigram, unigram[test[1:]])
    return {"unigram": float(-np.log(unigram[test[1:]]).mean()), "bigram": float(-np.log(bigram).mean())}


class Muon(torch.optim.Optimizer):
    """Muon in float32 for [rows, columns] matrices: torch's own computes in bfloat16, slow on processors without it.

    The momentum's update is orthogonalised by five Newton-Schulz steps (Jordan et al. 2024).
    """

    def __init__(self, parameters: list[torch.nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if not self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
                average = self.state[p]["momentum"]
                average.lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(average, group["momentum"])
                tall = update.shape[0] > update.shape[1]
                x = update.T if tall else update
                x = x / (x.norm() + 1e-7)
                for _ in range(5):
                    gram = x @ x.T
                    x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
                p.add_(x.T if tall else x, alpha=-group["lr"] * max(1.0, p.shape[1] / p.shape[0]) ** 0.5)


def rate(step: int, steps: int) -> float:
    """Share of the peak learning rate: warm-up over 100 steps, constant, linear decay over the last 30 %."""
    return min(1.0, (step + 1) / 100, max(0.0, (steps - step) / (0.3 * steps)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the model, tokenizer and training log")
    parser.add_argument("--steps", type=int, default=2000, help="optimiser steps")
    parser.add_argument("--batch", type=int, default=24, help="windows of 256 tokens a step")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)

    documents = stdlib_documents()
    train_texts = [text for path, text in documents if not held_out(path)]
    test_texts = [text for path, text in documents if held_out(path)]
    if (args.out / "tokenizer.json").exists():
        tokenizer = PreTrainedTokenizerFast.from_pretrained(args.out)
    else:
        tokenizer = train_tokenizer(train_texts)
        tokenizer.save_pretrained(args.out)
    bos = tokenizer.bos_token_id
    train, test = encode(tokenizer, train_texts), encode(tokenizer, test_texts)
    characters = sum(map(len, test_texts)) / len(test)
    print(f"{len(train):,} training tokens, {len(test):,} held out, {characters:.2f} characters a token", flush=True)

    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=CONTEXT,
        n_embd=192,
        n_layer=4,
        n_head=6,
        n_inner=768,
        activation_function="relu",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=bos,
        eos_token_id=bos,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = GPT2LMHeadModel(config)
    untrained = evaluate(model, test, bos, 100)
    hidden = [p for n, p in model.named_parameters() if p.ndim == 2 and ".h." in n]
    others = [p for n, p in model.named_parameters() if not (p.ndim == 2 and ".h." in n)]
    optimisers = [
        Muon(hidden, lr=0.02),
        torch.optim.AdamW(others, lr=3e-3, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    peaks = [[group["lr"] for group in o.param_groups] for o in optimisers]
    generator = np.random.default_rng(args.seed)
    checkpoint = args.out / "checkpoint.pt"
    first, log = 0, []
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        for optimiser, state in zip(optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        first, log = saved["step"], saved["log"]
        for _ in range(first):  # the same windows as an uninterrupted run
            generator.integers(0, len(train) - CONTEXT, args.batch)

    began = time.monotonic()
    for step in range(first, args.steps):
        for optimiser, peak in zip(optimisers, peaks, strict=True):
            for group, lr in zip(optimiser.param_groups, peak, strict=True):
                group["lr"] = lr * rate(step, args.steps)
        ids = windows(train, generator.integers(0, len(train) - CONTEXT, args.batch), bos)
        loss = model(ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        if (step + 1) % 20 == 0:
            speed = (step + 1 - first) * args.batch * CONTEXT / (time.monotonic() - began)
            print(f"step {step + 1} loss {loss.item():.3f} {speed:,.0f} tokens/s", flush=True)
        if (step + 1) % 250 == 0 or step + 1 == args.steps:
            log.append({"step": step + 1, "held_out_loss": evaluate(model, test, bos, 100)})
            print(log[-1], flush=True)
            torch.save(
                {
                    "model": model.state_dict(),
                    "optimisers": [o.state_dict() for o in optimisers],
                    "step": step + 1,
                    "log": log,
                },
                checkpoint,
            )

    losses = {"model": evaluate(model, test, bos, 10**9), "untrained": untrained, **count_baselines(train, test)}
    summary = {
        "held_out_loss_nats_per_token": {k: round(v, 4) for k, v in losses.items()},
        "held_out_bits_per_character": round(losses["model"] / math.log(2) / characters, 4),
        "characters_per_token": round(characters, 3),
        "training_tokens_seen": args.steps * args.batch * CONTEXT,
        "corpus_tokens": len(train),
        "parameters": sum(p.numel() for p in model.parameters()),
        "log": log,
    }
    (args.out / "training.json").write_text(json.dumps(summary, indent=1) + "\n")
    model.half().save_pretrained(args.out)
    print(json.dumps(summary["held_out_loss_nats_per_token"]))


if __name__ == "__main__":
    main()
