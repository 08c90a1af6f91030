"""Parts of a model that paths and circuits are made of, and the inputs at which they receive."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tools.errors import UnitError
from tools.subject import Subject
from tools.types import Site

_ORDER = ("head", "neuron", "mlp")


@dataclass(frozen=True)
class Node:
    """A head (``head:1:2``), the whole MLP of a layer (``mlp:1``), or one of its neurons (``mlp:1:17``)."""

    layer: int
    kind: Literal["head", "mlp", "neuron"]
    index: int = 0

    @classmethod
    def parse(cls, text: str) -> Node:
        """From its name.

        Raises:
            UnitError: It is none.
        """
        match = re.fullmatch(r"(head|mlp):(\d+)(?::(\d+))?", text.strip())
        if match is None or (match[1] == "head" and match[3] is None):
            raise UnitError(f"'{text}' is no part to send from. Write head:LAYER:HEAD, mlp:LAYER or mlp:LAYER:NEURON.")
        if match[3] is None:
            return cls(int(match[2]), "mlp")
        return cls(int(match[2]), "head" if match[1] == "head" else "neuron", int(match[3]))

    @property
    def site(self) -> Site:
        """Where its output is."""
        return Site(self.layer, {"head": "head_z", "mlp": "mlp_out", "neuron": "mlp_act"}[self.kind])

    def __str__(self) -> str:
        if self.kind == "mlp":
            return f"mlp:{self.layer}"
        return f"{'head' if self.kind == 'head' else 'mlp'}:{self.layer}:{self.index}"

    def __lt__(self, other: Node) -> bool:
        return self.place < other.place

    @property
    def place(self) -> tuple[int, int, int]:
        """Its place in the order of the forward pass."""
        return self.layer, _ORDER.index(self.kind), self.index

    def check(self, subject: Subject) -> None:
        """Raise UnitError when the subject has no such part."""
        subject.sites.check_layer(self.layer, str(self))
        subject.sites.tap(self.site)
        plan = subject.sites.plans[self.layer]
        count = {"head": plan.n_heads, "neuron": plan.n_neurons, "mlp": 1}[self.kind]
        if not 0 <= self.index < count:
            raise UnitError(f"'{self}' is beyond the subject '{subject.name}', which has 0-{count - 1} there.")


@dataclass(frozen=True)
class Receiver:
    """An input: a head's query, key or value (``head:2:0:q``), an MLP's (``mlp:1``), or the logits (``logits``)."""

    layer: int
    kind: Literal["q", "k", "v", "mlp", "logits"]
    head: int = 0

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
        return Site(self.layer, "mlp_out" if self.kind == "mlp" else f"head_{self.kind}")

    def __str__(self) -> str:
        if self.kind == "logits":
            return "logits"
        return f"mlp:{self.layer}" if self.kind == "mlp" else f"head:{self.layer}:{self.head}:{self.kind}"

    def check(self, subject: Subject) -> None:
        """Raise UnitError when the subject has no such input."""
        if self.kind == "logits":
            return
        Node(self.layer, "mlp" if self.kind == "mlp" else "head", self.head).check(subject)
        subject.sites.tap(self.site)

    def behind(self, node: Node, parallel: bool) -> bool:
        """Whether the node's output reaches it. An MLP reads its own layer's heads unless blocks are parallel."""
        if self.kind == "logits" or node.layer < self.layer:
            return True
        return self.kind == "mlp" and node.kind == "head" and node.layer == self.layer and not parallel


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


def parse_receivers(texts: Sequence[str]) -> list[tuple[Receiver, ...]]:
    """Sets of receivers, each joined by ``+``: ``head:2:0:q+head:2:0:k`` receives at both inputs at once."""
    return [tuple(Receiver.parse(part) for part in text.split("+")) for text in texts]
