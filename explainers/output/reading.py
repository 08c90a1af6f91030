"""A claim about the output in a language model's answer: the tokens that it names, found among the subject's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from explainers.llm.show import shown
from explainers.output.claim import OutputClaim, TokenChange, measured_basis, rounded, untested
from explainers.types import Evidence
from tools.effects import Measured
from tools.subject import Subject

#: Tokens of each sign that a claim can name.
MOST_NAMED = 20

_KNOWN: dict[str, Mapping[str, tuple[int, str]]] = {}


def named_claim(kind: str | None, raises: Sequence[str], lowers: Sequence[str], evidence: Evidence) -> OutputClaim:
    """The claim of an answer.

    Args:
        kind: What it says of the effect: 'changes', 'varies', 'later', 'nothing', or None where it says nothing.
        raises: Tokens that it names as raised, as it was shown them.
        lowers: Those named as lowered.
        evidence: Of the unit.

    Returns:
        Named tokens that the subject does not have are left out; so are those named on both sides. Where none is left
        of a claim that tokens change, there is no claim, and its reason says so.
    """
    measured = evidence.output
    basis = measured_basis(measured) if isinstance(measured, Measured) else {}
    if kind in ("varies", "later", "nothing"):
        return OutputClaim(kind, basis=basis)  # type: ignore[arg-type]
    if not raises and not lowers:
        return untested("the answer names no tokens that it raises or lowers", measured)
    known = _vocabulary(evidence)
    up, down = ({found[0]: found for name in names if (found := _find(name, known))} for names in (raises, lowers))
    both = up.keys() & down.keys()
    if not (up.keys() | down.keys()) - both:
        told = ", ".join(f"'{shown(name)}'" for name in [*raises, *lowers][:3])
        return untested(f"none of the tokens that the answer names is one of the model's ({told})", measured)
    sizes = _sizes(measured)
    raised, lowered = (
        tuple(TokenChange(*found, sizes.get(token)) for token, found in side.items() if token not in both)[:MOST_NAMED]
        for side in (up, down)
    )
    return OutputClaim("changes", None, raised, lowered, basis)


def _find(name: str, known: Mapping[str, tuple[int, str]]) -> tuple[int, str] | None:
    """A token by its text as it was shown, else without or with the space before it."""
    for text in (name, name.strip("\"'`“”"), f" {name}", name.strip()):
        if shown(text) in known:
            return known[shown(text)]
    return None


def _vocabulary(evidence: Evidence) -> Mapping[str, tuple[int, str]]:
    """Id and text of each token, by its text as it is shown; without a subject, those that were measured."""
    subject = evidence.subject
    if subject is not None:
        return _of_subject(subject)
    if not isinstance(evidence.output, Measured):
        return {}
    ids = evidence.output.tokens.ids.tolist()
    return {shown(piece): (token, piece) for token, piece in zip(ids, evidence.output.pieces, strict=True)}


def _of_subject(subject: Subject) -> Mapping[str, tuple[int, str]]:
    if subject.fingerprint not in _KNOWN:
        pieces = subject.pieces(range(len(subject.tokenizer)))
        known: dict[str, tuple[int, str]] = {}
        for token, piece in enumerate(pieces):
            known.setdefault(shown(piece), (token, piece))
        _KNOWN.clear()  # one subject at a time is studied
        _KNOWN[subject.fingerprint] = known
    return _KNOWN[subject.fingerprint]


def _sizes(measured: Measured | str | None) -> dict[int, float | None]:
    """Mean changes of all tokens, where they were measured."""
    if not isinstance(measured, Measured):
        return {}
    return {token: rounded(size) for token, size in enumerate(measured.effects.change.mean(0).tolist())}
