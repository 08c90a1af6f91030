"""Finds the parts of a transformer by what they compute, not by what they are called.

Every block of the model is copied, given random weights and a random input, and run twice with an input that differs
at one position only. From the recorded inputs and outputs of its submodules follows

* the attention's output projection: the first linear layer whose input at the last position depends on an earlier
  position (queries, keys and values do not mix positions; what comes out of the attention pattern does);
* what attention and the MLP add to the residual stream: the tensors whose (scaled) sum explains the block's output,
  after normalisations that some models put behind them (Gemma 2 and 3, OLMo 2);
* the residual stream between the two, where there is one (parallel blocks have none), before or after a norm;
* the MLP's output projection: the linear layer whose output is what the MLP adds. A mixture of experts has none.

Random weights make the result independent of the checkpoint: heads that write nothing, or residual streams with huge
components, cannot hide the structure.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tools.structure import BlockPlan, Tap, eager_attention, find_pattern, first_tensor, is_linear, main_output

#: Largest relative error at which two recorded tensors count as the same value (the probe runs in float32).
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Call:
    """One call of a submodule during the probe; tensors are [batch, pos, width] or None when of another shape."""

    path: str
    module: nn.Module
    start: int
    end: int
    input: Tensor | None
    output: Tensor | None
    pattern: Tensor | None


def plan_block(block: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], heads: int | None) -> BlockPlan:
    """Probe one block.

    Args:
        block: A block of the model; it is copied, not changed.
        args: Positional arguments that the model called it with, for `PROBE_BATCH` x `PROBE_POSITIONS` tokens.
        kwargs: Keyword arguments of that call.
        heads: Number of heads by the configuration, used where attention does not return its pattern.
    """
    hidden = first_tensor(args, kwargs)
    assert hidden is not None
    generator = torch.Generator(hidden.device).manual_seed(0)
    probe = _randomised_copy(block, generator)
    stream = torch.randn(hidden.shape, generator=generator, device=hidden.device)
    other = stream.clone()
    other[:, -2] += torch.randn(other[:, -2].shape, generator=generator, device=hidden.device)
    with torch.no_grad(), eager_attention(probe):
        calls = _record(probe, stream, args, kwargs)
        perturbed = _record(probe, other, args, kwargs)
    return _Reading(stream, calls, perturbed, heads).plan()


def _randomised_copy(block: nn.Module, generator: torch.Generator) -> nn.Module:
    probe = copy.deepcopy(block).float().eval()
    for name, parameter in probe.named_parameters():
        parameter.requires_grad_(False)
        noise = torch.randn(parameter.shape, generator=generator, device=parameter.device)
        if parameter.ndim >= 2:
            parameter.copy_(noise / min(parameter.shape[-2:]) ** 0.5)
        else:
            parameter.copy_(0.2 * noise + (0.0 if name.endswith("bias") else 1.0))
    return probe


def _record(probe: nn.Module, stream: Tensor, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Call]:
    batch, positions, _ = stream.shape
    clock = iter(range(1_000_000))
    calls: list[Call] = []
    open_calls: list[tuple[int, Tensor | None]] = []

    def rows(tensor: Tensor | None) -> Tensor | None:
        if tensor is None or tensor.ndim not in (2, 3) or not tensor.is_floating_point():
            return None
        if tensor.ndim == 3 and tuple(tensor.shape[:2]) != (batch, positions):
            return None
        if tensor.ndim == 2 and tensor.shape[0] != batch * positions:
            return None
        # Cloned, for what is recorded may be changed in place later in the block.
        return tensor.detach().reshape(batch, positions, -1).clone()

    def enter(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        open_calls.append((next(clock), rows(first_tensor(inputs, named))))

    def leave(path: str, module: nn.Module, output: Any) -> None:
        start, seen = open_calls.pop()
        pattern = find_pattern(output, batch, positions)
        calls.append(Call(path, module, start, next(clock), seen, rows(main_output(output)), pattern))

    handles = []
    for path, module in probe.named_modules():
        handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
        handles.append(module.register_forward_hook(lambda m, _i, out, path=path: leave(path, m, out)))
    replaced = False

    def adapt(value: Any) -> Any:
        nonlocal replaced
        if isinstance(value, Tensor):
            if not replaced and value.shape == stream.shape and value.is_floating_point():
                replaced = True
                return stream
            return value.float() if value.is_floating_point() else value
        if isinstance(value, tuple | list):
            return type(value)(adapt(item) for item in value)
        return value

    # The hidden state comes first: by keyword where it is one, else as the first tensor.
    named = dict(kwargs)
    first = adapt(named.pop("hidden_states")) if isinstance(named.get("hidden_states"), Tensor) else None
    given = tuple(adapt(a) for a in args)
    named = {key: adapt(value) for key, value in named.items()}
    if first is not None:
        named["hidden_states"] = first
    try:
        probe(*given, **named)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _scale(target: Tensor, value: Tensor | None) -> float | None:
    """The factor s with target = s * value, or None if there is none."""
    if value is None or value.shape != target.shape:
        return None
    energy = float((value * value).sum())
    if energy == 0.0:
        return None
    s = float((target * value).sum()) / energy
    if abs(s) < 1e-3 or float((target - s * value).abs().max()) > TOLERANCE * float(target.abs().max()):
        return None
    return 1.0 if abs(s - 1.0) < TOLERANCE else s


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    return a is not None and b is not None and _scale(a, b) == 1.0


@dataclass
class _Reading:
    """Reads a block's structure out of the recorded calls."""

    stream: Tensor
    calls: list[Call]
    perturbed: list[Call]
    heads: int | None
    taps: dict[str, Tap] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def plan(self) -> BlockPlan:
        width = self.stream.shape[-1]
        self.inner = [c for c in self.calls if c.path]
        block = self.calls[-1]
        assert block.output is not None, "a block returns its hidden state first"
        self.result = block.output
        self.taps["resid_pre"] = Tap("", "input")
        self.taps["resid_post"] = Tap("", "output")
        out = self._attention_projection(width)
        attention = next((c for c in self.calls if c.pattern is not None), None)
        n_heads, d_head = self._heads(out, attention)
        added = self._added(out) if out else None
        attention_norm = None
        if out and added:
            attention_norm = self._norm_between(out, added[0])
        mlp_call = added[1] if added else None
        mlp_out, mlp_norm = self._mlp_projection(out, mlp_call, width)
        n_neurons, mlp_in, mlp_in_start = 0, None, 0
        if mlp_out is not None:
            assert mlp_out.input is not None
            n_neurons = mlp_out.input.shape[-1]
            self.taps["mlp_act"] = Tap(mlp_out.path, "input")
            mlp_in, mlp_in_start = self._mlp_input(mlp_out, out, attention, n_neurons)
        else:
            self.missing["mlp_act"] = self._why_no_neurons(mlp_call)
        return BlockPlan(
            taps=self.taps,
            missing=self.missing,
            d_model=width,
            n_heads=n_heads,
            d_head=d_head,
            n_neurons=n_neurons,
            attention_out=out.path if out else None,
            attention_norm=attention_norm,
            mlp_out=mlp_out.path if mlp_out else None,
            mlp_norm=mlp_norm,
            mlp_in=mlp_in,
            mlp_in_start=mlp_in_start,
            normalised_stream=bool(added and added[2]),
        )

    def _attention_projection(self, width: int) -> Call | None:
        again = {c.path: c for c in self.perturbed}
        for call in sorted(self.inner, key=lambda c: c.start):
            if not is_linear(call.module) or call.output is None or call.output.shape[-1] != width:
                continue
            twin = again[call.path]
            assert call.input is not None
            if twin.input is not None and float((call.input[:, -1] - twin.input[:, -1]).abs().max()) > TOLERANCE:
                return call
        return None

    def _heads(self, out: Call | None, attention: Call | None) -> tuple[int, int]:
        if attention is not None:
            self.taps["attn_pattern"] = Tap(attention.path, "output")
        else:
            self.missing["attn_pattern"] = "no module of the block returns a pattern [batch, head, query, key]"
        if out is None or out.input is None:
            self.missing["head_z"] = "no linear layer of the block reads a mixture of positions"
            return 0, 0
        count = attention.pattern.shape[1] if attention is not None and attention.pattern is not None else self.heads
        if not count or out.input.shape[-1] % count:
            self.missing["head_z"] = (
                f"the input of '{out.path}' has width {out.input.shape[-1]}, which {count or 'an unknown number of'} "
                "heads do not divide"
            )
            return 0, 0
        self.taps["head_z"] = Tap(out.path, "input")
        return count, out.input.shape[-1] // count

    def _added(self, out: Call) -> tuple[Call, Call | None, bool] | None:
        """The calls whose outputs attention and the MLP add to the stream, and whether a norm follows each sum."""
        for between in sorted(self.inner, key=lambda c: c.start):
            if between.start <= out.start or between.input is None or between.input.shape != self.stream.shape:
                continue
            difference = between.input - self.stream
            for a in self.inner:
                if not out.end <= a.end < between.start or (s := _scale(difference, a.output)) is None:
                    continue
                self.taps["attn_out"] = Tap(a.path, "output", s)
                return a, *self._sequential(between)
        return self._parallel(out)

    def _sequential(self, between: Call) -> tuple[Call | None, bool]:
        """With the stream after attention in hand, find what the MLP adds."""
        assert between.input is not None
        later = [c for c in self.inner if c.start >= between.start]
        for m in later:
            if (s := _scale(self.result - between.input, m.output)) is not None:
                self.taps["resid_mid"] = Tap(between.path, "input")
                self.taps["mlp_out"] = Tap(m.path, "output", s)
                return m, False
        if between.output is not None and between.output.shape == self.stream.shape:
            for last in later:
                if last.input is None or last.input.shape != self.stream.shape or not _same(last.output, self.result):
                    continue
                for m in later:
                    if (s := _scale(last.input - between.output, m.output)) is not None:
                        self.taps["resid_mid"] = Tap(between.path, "output")
                        self.taps["mlp_out"] = Tap(m.path, "output", s)
                        return m, True
        self.taps["resid_mid"] = Tap(between.path, "input")
        self.missing["mlp_out"] = "no module's output is what the block adds to the residual stream after attention"
        return None, False

    def _parallel(self, out: Call) -> tuple[Call, Call, bool] | None:
        total = self.result - self.stream
        for a in self.inner:
            if a.end < out.end or a.output is None or a.output.shape != total.shape:
                continue
            for m in self.inner:
                if m is a or m is out or m.output is None or m.output.shape != total.shape:
                    continue
                columns = torch.stack([a.output.flatten(), m.output.flatten()], 1)
                scales = torch.linalg.lstsq(columns, total.flatten()[:, None]).solution[:, 0]
                error = float((columns @ scales - total.flatten()).abs().max())
                if error <= TOLERANCE * float(total.abs().max()) and bool((scales.abs() > 1e-3).all()):
                    sa, sm = (1.0 if abs(float(s) - 1.0) < TOLERANCE else float(s) for s in scales)
                    self.taps["attn_out"], self.taps["mlp_out"] = Tap(a.path, "output", sa), Tap(m.path, "output", sm)
                    self.missing["resid_mid"] = (
                        "its blocks are parallel: attention and the MLP read the same residual stream, so there is "
                        "none between them"
                    )
                    return a, m, False
        for kind in ("attn_out", "resid_mid", "mlp_out"):
            self.missing[kind] = "no two modules' outputs add up to what the block adds to the residual stream"
        return None

    def _norm_between(self, projection: Call, added: Call) -> str | None:
        """The module between a projection and the tensor that is added, if the two differ."""
        assert added.output is not None
        if projection.output is None or _scale(added.output, projection.output) is not None:
            return None
        norm = next(
            (c for c in self.inner if _same(c.input, projection.output) and _scale(added.output, c.output) is not None),
            None,
        )
        return norm.path if norm else None

    def _mlp_projection(self, out: Call | None, added: Call | None, width: int) -> tuple[Call | None, str | None]:
        if added is None or added.output is None:
            return None, None
        for call in reversed(self.inner):
            linear = is_linear(call.module) and call.input is not None and call.output is not None
            if not linear or call.output is None or call.output.shape[-1] != width:
                continue
            if call.end > added.end or (out and call.path == out.path):
                continue
            if _scale(added.output, call.output) is not None:
                return call, None
            if (norm := self._norm_between(call, added)) is not None:
                return call, norm
        return None, None

    def _mlp_input(self, mlp_out: Call, out: Call | None, attention: Call | None, width: int) -> tuple[str | None, int]:
        inside = f"{attention.path}." if attention else None
        candidates = [
            c
            for c in self.inner
            if is_linear(c.module)
            and c.output is not None
            and c.output.shape[-1] in (width, 2 * width)
            and c.end < mlp_out.start
            and (out is None or c.path != out.path)
            and (inside is None or not c.path.startswith(inside))
        ]
        for call in candidates:
            assert call.output is not None
            for start in range(0, call.output.shape[-1], width):
                part = call.output[..., start : start + width]
                for activation in self.inner:
                    if _same(activation.input, part) and not any(True for _ in activation.module.parameters()):
                        return call.path, start
        whole = [c for c in candidates if c.output is not None and c.output.shape[-1] == width]
        return (whole[0].path, 0) if len(whole) == 1 else (None, 0)

    def _why_no_neurons(self, added: Call | None) -> str:
        found = (
            f"'{added.path}' ({type(added.module).__name__}) does, a mixture of experts or an unknown kind of MLP"
            if added
            else "what it adds is no single module's output"
        )
        return f"no single linear layer writes what its MLP adds to the residual stream; {found}"
