"""What an explainer is given, what it gives back, and how a description becomes predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from tools.types import Example, FloatArray, IntArray, Sample, UnitId

if TYPE_CHECKING:
    from tools.edge_kinds import WrittenEdges
    from tools.effects import Measured
    from tools.heads import EdgeProfile
    from tools.lenses import Promotion
    from tools.subject import Subject


class TextSource(Protocol):
    """Where the tokens of a context come from; `tools.index.Texts` is one."""

    def pieces(self, context: int) -> list[str]:
        """Text of each of the context's tokens."""
        ...


class EvidenceView(Protocol):
    """What an explainer needs of one split; `tools.index.SplitView` is one."""

    @property
    def texts(self) -> Any: ...

    @property
    def panel_contexts(self) -> IntArray:
        """Contexts whose activations are kept whole for every unit."""
        ...

    def sample(self, unit: UnitId) -> Sample: ...

    def examples(
        self, unit: UnitId, kind: Literal["top", "bottom", "quantile", "random"], n: int, window: int = 24
    ) -> list[Example]:
        """Windows of `window` tokens to show: the strongest ones of either tail, some of each quantile, or any."""
        ...

    def panel_matrix(self, units: Sequence[UnitId]) -> FloatArray:
        """Activations of several units at the panel's positions, [n_units, n_panel_positions]."""
        ...

    @property
    def panel_index(self) -> tuple[IntArray, IntArray]:
        """Context and position of each panel position, [n_panel_positions] each."""
        ...


@dataclass(frozen=True)
class Evidence:
    """All that an explainer may look at when it explains one unit on one polarity. Never a sealed split."""

    unit: UnitId
    polarity: str
    """'+' or '-': which tail of the activation is explained."""
    subject: Subject | None
    """For experiments on the model itself; None when there is no model at hand."""
    explore: EvidenceView
    refine: EvidenceView
    threshold: float
    """Magnitude above which the unit counts as active."""
    seed: int
    edges: EdgeProfile | None = None
    """What a head attends to; None for other units."""
    written: WrittenEdges | None = None
    """What a head attends to where it writes; None for other units, and where it was not measured."""
    promotion: Promotion | None = None
    """Tokens that the unit's write direction raises and lowers; None when it has none."""
    output: Measured | str | None = None
    """What turning the unit off does to the output, on the explore split; in words why it was not measured."""
    others: tuple[UnitId, ...] = ()
    """Other units of the same group whose activations may be compared, for hard negatives by co-activation."""

    @property
    def sign(self) -> float:
        """1 for polarity '+', -1 for '-'."""
        return 1.0 if self.polarity == "+" else -1.0


@dataclass(frozen=True)
class Explanation:
    """One description of a unit on one polarity, with the rule that makes it testable."""

    explainer: str
    label: str
    """A few words."""
    input_half: str
    """What the unit fires on, in plain English."""
    output_half: str | None
    """What it does when on, where something can be said."""
    rule: str | None
    """'rule v1' text; see docs/rules.md."""
    exceptions: str | None
    details: dict[str, Any]
    """JSON values: precision, recall, edit checks, sizes; under 'output' the claim about what the unit does when on
    (`explainers.output.claim`)."""


@runtime_checkable
class Recorder(Protocol):
    """Told what an explainer does (searches, edits, calls, costs), so that explainers need no database."""

    def event(self, kind: str, payload: Mapping[str, Any]) -> None: ...


class NullRecorder:
    """Keeps nothing."""

    def event(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Does nothing with the event."""


class Explainer(Protocol):
    """Turns evidence into descriptions."""

    name: str

    def explain(self, evidence: Evidence, recorder: Recorder) -> list[Explanation]:
        """Rival descriptions, best first; never empty."""
        ...


class Predictor(Protocol):
    """Turns a description and a text into predicted activations, without ever seeing an activation."""

    name: str

    def predict(self, texts: TextSource, contexts: IntArray, positions: IntArray) -> FloatArray:
        """Predicted magnitude (0 or more, on the description's polarity) at each (context, position); shape [n]."""
        ...
