"""Hooks on a model's own modules that edit and read the tensors at sites, for as long as they are installed.

Edits at one site apply in the order in which they were given; sites follow each other as the forward pass computes
them, so a later one sees what earlier ones did. What is read at a site is what the rest of the pass goes on with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from tools.errors import InterventionError, SubjectError
from tools.hooking.attention import INSIDE, Watch
from tools.hooking.edits import Edit, Selection
from tools.hooking.where import EVERYWHERE, AttentionWhere, Moment
from tools.sites import RESIDUAL, SiteMap
from tools.structure import Tap, eager_attention, find_pattern, first_tensor, main_output
from tools.types import Site


class Stop(Exception):  # noqa: N818 (no error: it ends the pass)
    """Ends a forward pass once every wanted site has been read."""


class Hooks:
    """Installed on entering the context, gone on leaving it.

    Attributes:
        moment: Which part of the texts the next pass is about; to be set before each pass.
        tensors: What the last pass read, in the shapes of `Site`.
        before: The same as it was before the edits at its site, for the sites of `wanted_before`.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        sites: SiteMap,
        edits: Sequence[Edit] = (),
        wanted: Iterable[Site] = (),
        *,
        wanted_before: Iterable[Site] = (),
        track: bool = False,
        stop: bool = False,
    ) -> None:
        """Nothing is installed yet.

        Args:
            model: Whose modules.
            sites: Where its sites are.
            edits: What to change.
            wanted: What to read.
            wanted_before: What to read as it was before the edits there.
            track: Read tensors are nodes of the graph that autograd builds, so that gradients by them can be taken.
            stop: End the pass (with `Stop`) once everything wanted is there.

        Raises:
            UnitError: A site does not exist in this model.
            InterventionError: A place does not suit its site.
        """
        self.model, self.sites = model, sites
        self.moment = Moment(0, 0)
        self.tensors: dict[Site, Tensor] = {}
        self.before: dict[Site, Tensor] = {}
        self._seen: dict[Site, Tensor] = {}
        self._wanted = list(dict.fromkeys(wanted))
        self._before = set(wanted_before)
        self._track, self._stop = track, stop
        self._edits: dict[Site, list[Edit]] = {}
        self._needed: set[Site] = set()
        self._nodes = {site for site in self._wanted if track and self._behind(site)}
        plain = [edit for edit in map(self._checked, edits) if not self._behind(edit.site)]
        middle = [self._placed(edit) for edit in edits if self._behind(edit.site)]
        noted = [self._noted(site, self.before) for site in self._before if self._behind(site)]
        nodes = [self._noted(site, self.tensors) for site in self._nodes]
        # What attention adds is settled before the stream that it is added to.
        for edit in [*plain, *noted, *middle, *nodes]:
            self._edits.setdefault(edit.site, []).append(edit)
            self._needed.update(edit.needs)

    def _checked(self, edit: Edit) -> Edit:
        site = edit.site
        if (site.kind == "attn_pattern") != isinstance(edit.where, AttentionWhere):
            kinds = ("Where (positions, channels)", "AttentionWhere (heads, queries, keys)")
            raise InterventionError(f"An edit at {site} needs its place as {kinds[site.kind == 'attn_pattern']}.")
        self.sites.tap(site)
        return edit

    def _placed(self, edit: Edit) -> Edit:
        """An edit of the stream between attention and MLP becomes one of what attention adds, where a norm reads it.

        The norm is all that sees a change of its own input; the stream itself goes on past it.
        """
        if edit.where.to_json().get("channels") is not None:
            raise InterventionError(
                f"Single components of {edit.site} cannot be edited, as nothing but a norm reads it there; edit whole "
                "vectors."
            )
        pre, inner = Site(edit.site.layer, "resid_pre"), edit.new

        def new(old: Tensor, at: Selection) -> Tensor:
            mid = at.now(pre).to(old.dtype) + old
            return old + (inner(mid, at) - mid)

        return Edit(Site(edit.site.layer, "attn_out"), edit.where, new, edit.spec, (*edit.needs, pre))

    def _behind(self, site: Site) -> bool:
        """Whether a site is but what a norm reads of the stream."""
        return site.kind == "resid_mid" and self.sites.tap(site).end == "input"

    def _noted(self, site: Site, notes: dict[Site, Tensor]) -> Edit:
        """Writes down the stream between attention and MLP, as a node through which all of it passes: what the norm
        reads, and the rest."""
        pre = Site(site.layer, "resid_pre")

        def new(old: Tensor, at: Selection) -> Tensor:
            before = at.now(pre).to(old.dtype)
            notes[site] = before + old
            if not self._track:
                return old
            if not notes[site].requires_grad:  # nothing before it is a node: it is a leaf
                notes[site] = notes[site].detach().requires_grad_()
            return notes[site].clone() - before

        return Edit(Site(site.layer, "attn_out"), EVERYWHERE, new, {"op": "note"}, (pre,))

    def __enter__(self) -> Hooks:
        """Install."""
        self._stack = ExitStack()
        try:
            self._install()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Take away."""
        self._stack.close()

    def begin(self, moment: Moment) -> None:
        """Before each forward pass."""
        self.moment = moment
        for kept in (self.tensors, self.before, self._seen):
            kept.clear()

    def missing(self) -> list[Site]:
        """Wanted sites that the last pass did not come by."""
        return [site for site in self._wanted if site not in self.tensors]

    def _install(self) -> None:
        noted = {site for site in self._before if self._behind(site)} - set(self._wanted)
        touched = {*self._wanted, *self._before, *self._needed, *self._edits} - self._nodes - noted
        inside: dict[int, set[Site]] = {}
        plain: list[Site] = []
        watched = {
            site.layer for site in touched
            if site.kind in INSIDE and (site.kind != "attn_pattern" or site in self._edits or self._track)
        }  # fmt: skip
        for site in touched:
            if site.kind in INSIDE and (site.layer in watched):
                inside.setdefault(site.layer, set()).add(site)
            else:
                plain.append(site)
        if inside or any(site.kind == "attn_pattern" for site in plain):
            self._stack.enter_context(eager_attention(self.model))
        for site in plain:
            self._hook(site)
        for layer in inside:
            self._watch(layer)

    def _hook(self, site: Site) -> None:
        tap = self.sites.tap(site)
        module = self.sites.module(site.layer, tap.path)
        if tap.end == "input":
            handle = module.register_forward_pre_hook(self._at_input(site, tap), with_kwargs=True)
        elif site.kind == "attn_pattern":
            handle = module.register_forward_hook(self._at_pattern(site))
        else:
            handle = module.register_forward_hook(self._at_output(site, tap))
        self._stack.callback(handle.remove)

    def _at_input(self, site: Site, tap: Tap) -> Callable[..., Any]:
        def before(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            given = first_tensor(args, kwargs)
            assert given is not None, f"{site} was a tensor when the model was mapped"
            new = self._pass_by(site, tap, given)
            if new is given:
                return None
            return (
                tuple(new if a is given else a for a in args),
                {k: new if a is given else a for k, a in kwargs.items()},
            )

        return before

    def _at_output(self, site: Site, tap: Tap) -> Callable[..., Any]:
        def after(_: Any, __: Any, output: Any) -> Any:
            given = main_output(output)
            assert given is not None, f"{site} was a tensor when the model was mapped"
            new = self._pass_by(site, tap, given)
            if new is given:
                return None
            return new if isinstance(output, Tensor) else type(output)((new, *output[1:]))

        return after

    def _at_pattern(self, site: Site) -> Callable[..., Any]:
        def after(_: Any, __: Any, output: Any) -> None:
            pattern = find_pattern(output, self.moment.batch, self.moment.width)
            if pattern is None:
                raise SubjectError(f"'{self.sites.name}' computed no pattern at {site}; is its attention fused?")
            self._keep(site, pattern)

        return after

    def _pass_by(self, site: Site, tap: Tap, given: Tensor) -> Tensor:
        """The tensor to go on with; the given one itself where nothing is changed."""
        tensor = _natural(site, tap, given, self.sites, self.moment.batch)
        new = self._visit(site, tensor)
        if new is tensor:
            return given
        scale = tap.scale if site.kind in RESIDUAL else 1.0
        return (new if scale == 1.0 else new / scale).reshape(given.shape)

    def _visit(self, site: Site, tensor: Tensor) -> Tensor:
        """Read and edit one site's tensor."""
        if site in self._before and not self._behind(site):
            self.before[site] = tensor if self._track else tensor.clone()
        new = tensor
        for edit in self._edits.get(site, ()):
            new = edit.apply(new, self.moment, self._seen)
        if self._track and site in self._wanted:
            # A node of its own that all that follows is computed from; the first one is a leaf.
            new = (new if new.requires_grad else new.detach().requires_grad_()).clone()
        if site in self._needed:
            self._seen[site] = new.clone() if new is tensor else new
        self._keep(site, new)
        return new.clone() if self._track and site in self._wanted else new

    def _keep(self, site: Site, tensor: Tensor) -> None:
        if site not in self._wanted:
            return
        # Some models add to the residual stream in place, which would change what was read.
        self.tensors[site] = tensor if self._track else tensor.clone()
        if self._stop and len(self.tensors) == len(self._wanted):
            raise Stop

    def _watch(self, layer: int) -> None:
        """Look inside the attention of a layer."""
        module = attention_module(self.sites, layer)
        heads = self.sites.plans[layer].n_heads
        watches: list[Watch] = []

        def enter(*_: Any) -> None:
            watch = Watch(self.moment.batch, heads, lambda kind, tensor: self._visit(Site(layer, kind), tensor))
            watch.__enter__()  # type: ignore[no-untyped-call]
            watches.append(watch)

        def leave(_: Any, __: Any, output: Any) -> None:
            if watches:
                watch = watches.pop()
                watch.__exit__(None, None, None)  # type: ignore[no-untyped-call]
                if not watch.done and output is not None:  # None: the module was left by an exception
                    raise InterventionError(
                        f"The attention of '{self.sites.name}' ({type(module).__name__}) in layer {layer} is not "
                        "computed as two matrix products over its heads: what is inside cannot be read or edited."
                    )

        self._stack.callback(module.register_forward_pre_hook(enter).remove)
        self._stack.callback(module.register_forward_hook(leave, always_call=True).remove)


def attention_module(sites: SiteMap, layer: int) -> nn.Module:
    """The module of a block in which the attention pattern is computed.

    Raises:
        UnitError: The block has none.
    """
    return sites.module(layer, sites.tap(Site(layer, "attn_pattern")).path)


def _natural(site: Site, tap: Tap, tensor: Tensor, sites: SiteMap, batch: int) -> Tensor:
    """A module's tensor in the shape of its site, and in its scale."""
    plan = sites.plans[site.layer]
    if site.kind == "head_z":
        return tensor.reshape(batch, -1, plan.n_heads, plan.d_head)
    if site.kind == "mlp_act":
        return tensor.reshape(batch, -1, plan.n_neurons)
    tensor = tensor.reshape(batch, -1, plan.d_model)
    return tensor if tap.scale == 1.0 else tensor * tap.scale
