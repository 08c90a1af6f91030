"""Parts of a model that paths and circuits are made of, and the inputs at which they receive."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tools.errors import UnitError
from tools.patching.slots import Slot
from tools.subject import Subject
from tools.types import SITE_KINDS, Site, UnitId
from tools.units import check_unit


@dataclass(frozen=True)
class Node:
    """A head (``head:1:2``), the whole MLP of a layer (``mlp:1``), one of its neurons (``mlp:1:17``), or a unit of the
    stream: a dictionary's latent (``sae:NAME:5``) or a direction (``dir:NAME``)."""

    layer: int
    kind: Literal["head", "mlp", "neuron", "unit"]
    index: int = 0
    slot: Slot = Slot(Site(-1, "resid_pre"))  # noqa: RUF009 (a frozen value)
    """What it is part of; follows from the rest but for units of the stream, which `of` makes."""

    def __post_init__(self) -> None:
        if self.kind != "unit":
            site = {"head": "head_z", "mlp": "mlp_out", "neuron": "mlp_act"}[self.kind]
            object.__setattr__(self, "slot", Slot(Site(self.layer, site)))

    @classmethod
    def of(cls, subject: Subject, name: str) -> Node:
        """A part of a subject by its name, latents and directions among them.

        Raises:
            UnitError: It names nothing, or the subject has no such part.
            InterventionError: Nothing of its own is added to what the subject computes.
        """
        if not name.strip().startswith(("sae:", "dir:")):
            node = cls.parse(name)
            node.check(subject)
            return node
        unit = UnitId.parse(name.strip())
        check_unit(subject, unit)
        slot = Slot.of(subject, unit.group)
        return cls(slot.site.layer, "unit", unit.index, slot)

    @classmethod
    def parse(cls, text: str) -> Node:
        """From its name; units of the stream belong to a subject, see `of`.

        Raises:
            UnitError: It is none.
        """
        match = re.fullmatch(r"(head|mlp):(\d+)(?::(\d+))?", text.strip())
        if match is None or (match[1] == "head" and match[3] is None):
            raise UnitError(
                f"'{text}' is no part to send from. Write head:LAYER:HEAD, mlp:LAYER, mlp:LAYER:NEURON, "
                "sae:NAME:LATENT or dir:NAME."
            )
        if match[3] is None:
            return cls(int(match[2]), "mlp")
        return cls(int(match[2]), "head" if match[1] == "head" else "neuron", int(match[3]))

    @property
    def site(self) -> Site:
        """Where its output is."""
        return self.slot.site

    def __str__(self) -> str:
        if self.kind == "unit":
            return str(UnitId(self.slot.group, self.index))
        if self.kind == "mlp":
            return f"mlp:{self.layer}"
        return f"{'head' if self.kind == 'head' else 'mlp'}:{self.layer}:{self.index}"

    def __lt__(self, other: Node) -> bool:
        return self.place < other.place

    @property
    def place(self) -> tuple[int, int, str, int]:
        """Its place in the order of the forward pass."""
        return *place_of(self.site), self.slot.group, self.index

    def check(self, subject: Subject) -> None:
        """Raise UnitError when the subject has no such part."""
        if self.kind == "unit":
            check_unit(subject, UnitId(self.slot.group, self.index))
            return
        subject.sites.check_layer(self.layer, str(self))
        subject.sites.tap(self.site)
        plan = subject.sites.plans[self.layer]
        count = {"head": plan.n_heads, "neuron": plan.n_neurons, "mlp": 1}[self.kind]
        if not 0 <= self.index < count:
            raise UnitError(f"'{self}' is beyond the subject '{subject.name}', which has 0-{count - 1} there.")


def place_of(site: Site) -> tuple[int, int]:
    """A site's place in the order of the forward pass."""
    return site.layer, SITE_KINDS.index(site.kind)


@dataclass(frozen=True)
class Receiver:
    """An input: a head's query, key or value (``head:2:0:q``), an MLP's (``mlp:1``), that of a unit of the stream
    (``sae:NAME:5``), or the logits (``logits``)."""

    layer: int
    kind: Literal["q", "k", "v", "mlp", "unit", "logits"]
    head: int = 0
    slot: Slot | None = None
    """Of a unit of the stream, whose number `head` is."""

    @classmethod
    def at(cls, node: Node) -> Receiver:
        """The input of a unit of the stream."""
        return cls(node.layer, "unit", node.index, node.slot)

    @classmethod
    def parse(cls, text: str) -> Receiver:
        """From its name.

        Raises:
            UnitError: It is none.
        """
        text = text.strip()
        if text == "logits":
            return LOGITS
        if (match := re.fullmatch(r"head:(\d+):(\d+):([qkv])", text)) is not None:
            return cls(int(match[1]), match[3], int(match[2]))  # type: ignore[arg-type]
        if (match := re.fullmatch(r"mlp:(\d+)", text)) is not None:
            return cls(int(match[1]), "mlp")
        raise UnitError(f"'{text}' receives nothing. Write head:LAYER:HEAD:q (or :k, :v), mlp:LAYER or logits.")

    @property
    def site(self) -> Site:
        """Where what it makes of its input is: an MLP's output depends on its input alone."""
        if self.slot is not None:
            return self.slot.site
        return Site(self.layer, "mlp_out" if self.kind == "mlp" else f"head_{self.kind}")

    def __str__(self) -> str:
        if self.kind == "logits":
            return "logits"
        if self.slot is not None:
            return str(UnitId(self.slot.group, self.head))
        return f"mlp:{self.layer}" if self.kind == "mlp" else f"head:{self.layer}:{self.head}:{self.kind}"

    def check(self, subject: Subject) -> None:
        """Raise UnitError when the subject has no such input."""
        if self.kind == "logits":
            return
        if self.slot is not None:
            check_unit(subject, UnitId(self.slot.group, self.head))
            return
        Node(self.layer, "mlp" if self.kind == "mlp" else "head", self.head).check(subject)
        subject.sites.tap(self.site)

    def behind(self, node: Node, parallel: bool, reads: Site | None = None) -> bool:
        """Whether the node's output reaches it. An MLP reads its own layer's heads unless blocks are parallel.

        Args:
            node: The sender.
            parallel: Whether attention and MLP of the node's layer read the same stream.
            reads: Where a unit of the stream reads.
        """
        if self.kind == "logits" or node.layer < self.layer:
            return True
        if node.layer > self.layer:
            return False
        order = place_of(node.site)
        if self.kind == "unit":
            # What lies beside a unit in one tensor does not pass it.
            if reads is None or place_of(reads) <= order:
                return False
            return not (parallel and node.site.kind in ("head_z", "attn_out") and reads.kind.startswith("mlp"))
        first = Site(self.layer, "mlp_act" if self.kind == "mlp" else "head_q")
        return order < place_of(first) and not (parallel and node.site.kind in ("head_z", "attn_out"))


#: The next token's logits.
LOGITS = Receiver(-1, "logits")


def all_nodes(subject: Subject, *, heads: bool = True, mlps: bool = True) -> list[Node]:
    """Every head and every MLP of a subject, in the order of the forward pass."""
    found: list[Node] = []
    for layer, plan in enumerate(subject.sites.plans):
        if heads and "head_z" in plan.taps:
            found += [Node(layer, "head", index) for index in range(plan.n_heads)]
        if mlps and "mlp_out" in plan.taps:
            found.append(Node(layer, "mlp"))
    return found


def parse_receivers(texts: Sequence[str], subject: Subject | None = None) -> list[tuple[Receiver, ...]]:
    """Sets of receivers, each joined by ``+``: ``head:2:0:q+head:2:0:k`` receives at both inputs at once.

    Args:
        texts: Their names.
        subject: Whose latents and directions may be among them.
    """

    def receiver(name: str) -> Receiver:
        if subject is not None and name.strip().startswith(("sae:", "dir:")):
            return Receiver.at(Node.of(subject, name))
        return Receiver.parse(name)

    return [tuple(receiver(part) for part in text.split("+")) for text in texts]
