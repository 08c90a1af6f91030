"""Whether an answer says more than the rows that it cites: every number in it must be in one of them.

An answer cites rows by their names in square brackets, ``[score:123]``. A number is looked for in the rows that its own
sentence cites; where that cites none, in those of its paragraph or list item; where that has none either, in those of
the line before the list, which ends with a colon. It is backed when one of these rows has a value

- that it is the rounding of, as it is printed (`agent.chat.numbers.Number.stands_for`),
- that may be what the words around it say that it is (`agent.chat.roles`): F1 is not found in a p-value,
- of a unit that it may be about: the one named last before it, or those of the rows cited next; of any, where the
  sentence names none,
- with the same sign, unless the sentence has a word for the fall.

No numbers, and not looked for: names of rows and of units, the numbering of lists, digits inside names (F1, float32),
the name of an interval ("95 % interval"). Numbers that are looked for in another way: the layer and number of a unit
that is named or cited ("neuron 17 of layer 2"); dates, times and versions, which a row must have as they are printed;
a limit after p or q ("p < 0.001"), for which the value must lie below it. An order in words (first, second) is no
number; "one" alone is none either.

Units that an answer names must be named in a row that it cites, or by the person it speaks to.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from agent.chat import roles
from agent.chat.evidence import Evidence, Fact, evidence_of, together
from agent.chat.numbers import CITATION, UNIT, Number, find, unnumbered
from agent.chat.roles import STRICT, Role
from store.queries.citations import CitedRow, Ref

#: What stands in the place of a sentence that could not be backed.
REMOVED = "(A statement was left out here: the rows that it cites do not back its numbers.)"

_FALLS = re.compile(
    r"\b(?:fall|fell|drop|decreas|reduc|lower|suppress|los[est]|less|down|negative|minus|declin|shrink|weaken|cut)\w*",
    re.IGNORECASE,
)
_LIMIT = re.compile(r"(?:<|≤|\bbelow|\bunder|\bless than|\bat most)\s*$", re.IGNORECASE)
_LIMITS = (0.05, 0.01, 0.005, 0.001, 0.0005, 0.0001, 0.00001)
_PLACE = re.compile(
    r"\b(?:layers?|neurons?|heads?|latents?|blocks?|units?|functions?)\s+(?:\d+\s*(?:,|and|or|to|-|–)\s*)*$",
    re.IGNORECASE,
)
#: A quotation: what stands in it is looked for as it stands.
_QUOTE = re.compile(r"“([^“”]*)”|(?<![\w])[\"`]([^\"`\n]{1,400})[\"`](?![\w])")
#: Whole numbers up to this are in most rows by chance, so that they must be of what they are said to count.
_SMALL = 100
_ITEM = re.compile(r"^[ \t]*(?:[-*•–]|\(?\d{1,2}[.)])\s")
#: An end of a sentence, with the names of rows that follow it.
_END = re.compile(
    r"(?<!\be\.g)(?<!\bi\.e)(?<!\bvs)(?<!\bcf)(?<!\bapprox)(?<!\bca)(?<!\bno)(?<=[.!?])[\"'”’)\]]*"
    r"(?:\s*\[[a-z]+:\d+\][.,;]?)*(?=\s+[\"'“‘(\[A-Z0-9]|\s*$)"
)


@dataclass(frozen=True)
class Problem:
    """Something in an answer that no cited row backs."""

    start: int
    end: int
    """Of the sentence, in the answer."""
    text: str
    """The number, name or citation."""
    why: str

    def __str__(self) -> str:
        return f"{self.text}: {self.why}"


@dataclass(frozen=True)
class Verdict:
    """What became of checking an answer."""

    problems: tuple[Problem, ...]
    numbers: int
    """That were looked for."""
    backed: int
    cites: tuple[Ref, ...]
    """Rows that it cites and that exist, in order."""

    @property
    def ok(self) -> bool:
        """Whether everything in it is backed."""
        return not self.problems


@dataclass(frozen=True)
class _Sentence:
    start: int
    end: int
    refs: tuple[Ref, ...]
    """In which its numbers are looked for."""


def cited(text: str) -> tuple[Ref, ...]:
    """Names of rows in a text, in their order, each once."""
    return tuple(dict.fromkeys(Ref(match[1], int(match[2])) for match in CITATION.finditer(text)))


def check(answer: str, rows: Mapping[Ref, CitedRow], *, known_units: Collection[str] = ()) -> Verdict:
    """Whether an answer's numbers are backed by the rows that it cites.

    Args:
        answer: What is about to be said.
        rows: The rows that it cites (`cited`), as far as they exist.
        known_units: Units that may be named without a row: those that the person has named.
    """
    problems: list[Problem] = []
    numbers = backed = 0
    said_by = {ref: evidence_of(row) for ref, row in rows.items()}
    plain = unnumbered(answer)
    for sentence in _sentences(answer):
        text = plain[sentence.start : sentence.end]

        def problem(what: str, why: str, at: _Sentence = sentence) -> None:
            problems.append(Problem(at.start, at.end, what, why))

        for ref in cited(text):
            if ref not in rows:
                problem(f"[{ref}]", "there is no such row")
        evidence = together([said_by[ref] for ref in sentence.refs if ref in rows])
        found = find(text)
        for match in found.composites:
            if not evidence.says(match[0]):
                problem(match[0], _why(sentence, "no row that is cited for it has it"))
        named = [match[0].rstrip("+-") for match in UNIT.finditer(text)]
        for unit in named:
            if "*" not in unit and not _is_pattern(unit) and unit not in evidence.units and unit not in known_units:
                problem(unit, "no row that is cited for it names this unit")
        quotes = [match.span(1 if match[1] is not None else 2) for match in _QUOTE.finditer(text)]
        spans = [(number.start, number.end) for number in found.numbers]
        for number, said in zip(found.numbers, roles.of_words(text, spans), strict=True):
            numbers += 1
            within = next((span for span in quotes if span[0] <= number.start and number.end <= span[1]), None)
            quoted = None if within is None else text[within[0] : within[1]]
            if (
                evidence.quotes(quoted)
                if quoted
                else _is_backed(number, said, evidence, text=text, named=named, rows=rows)
            ):
                backed += 1
            else:
                problem(number.text.strip(), _why(sentence, "no row that is cited for it has this value"))
    cites = tuple(ref for ref in cited(answer) if ref in rows)
    return Verdict(tuple(problems), numbers, backed, cites)


def without(answer: str, problems: Sequence[Problem]) -> str:
    """An answer with each sentence that has a problem replaced by a plain statement that it was left out."""
    kept, at = "", 0
    for start, end in sorted({(problem.start, problem.end) for problem in problems}):
        head = _ITEM.match(answer[start:end])
        bare = answer[start:end]
        space = bare[: len(bare) - len(bare.lstrip())] if head is None else head[0]
        before = answer[at:start]
        # Several in a row are told of once.
        if not (kept.rstrip().endswith(REMOVED) and not before.strip() and not space.strip()):
            kept += before + space + REMOVED
        at = end
    return kept + answer[at:]


def _why(sentence: _Sentence, otherwise: str) -> str:
    return otherwise if sentence.refs else "no row is cited for it"


def _is_pattern(unit: str) -> bool:
    return re.search(r"\d-\d|,", unit.rpartition(":")[2]) is not None


def _is_backed(
    number: Number, said: Role, evidence: Evidence, *, text: str, named: Sequence[str], rows: Mapping[Ref, CitedRow]
) -> bool:
    """Whether some cited row has a number.

    Args:
        number: In a sentence.
        said: What its words say that it is.
        evidence: What the rows say.
        text: The sentence.
        named: Units that it names.
        rows: All that the answer cites.
    """
    if number.whole and number.value >= 0 and _PLACE.search(text[: number.start]):
        places = [part for unit in (*named, *evidence.units) for part in unit.split(":")[1:]]
        if str(int(number.value)) in places:
            return True
    units = _units(number, text, named, rows)
    facts = _fitting([f for f in evidence.facts if units is None or f.unit is None or f.unit in units], number, said)
    falls = not number.signed and _FALLS.search(text) is not None
    limit = _LIMIT.search(text[: number.start]) is not None and said.roles & {"p", "q"} and number.value in _LIMITS
    return any(
        (limit and fact.role.roles & {"p", "q"} and fact.value < number.value)
        or _same(number, fact)
        or (falls and fact.value < 0 and _same(number, replace(fact, value=-fact.value)))
        for fact in facts
    )


def _fitting(facts: Sequence[Fact], number: Number, said: Role) -> Sequence[Fact]:
    """The facts that a number may be one of, by what the words around it say that it is."""
    if said.metric is not None:
        facts = [fact for fact in facts if fact.role.metric in (None, said.metric)]
    if "foretold" in said.roles:  # what was foretold of F1 is no F1
        facts = [fact for fact in facts if not fact.role.roles or fact.role.roles & {"foretold", "interval"}]
    if said.roles:
        known = [fact for fact in facts if fact.role.roles & said.roles]
        if known and said.roles & STRICT:
            return known
        facts = [fact for fact in facts if not fact.role.roles or fact.role.roles & said.roles]
    if number.whole and said.words and abs(number.value) < _SMALL:
        return [fact for fact in facts if fact.role.words & said.words] or facts
    return facts


def _same(number: Number, fact: Fact) -> bool:
    if not fact.step:
        return number.stands_for(fact.value)
    # The row itself has it rounded: the two must agree to the digits of the one that has fewer.
    return number.stands_for(fact.value) and number.step >= 0.99 * fact.step


def _units(number: Number, text: str, named: Sequence[str], rows: Mapping[Ref, CitedRow]) -> frozenset[str] | None:
    """The units that a number may be of; None: any."""
    if not named:
        return None
    before = [match[0].rstrip("+-") for match in UNIT.finditer(text[: number.start])]
    if len(set(named)) == 1 or not before:
        return frozenset(named) if len(set(named)) == 1 else None
    following = set()
    at = CITATION.search(text, number.end)
    while at is not None:
        row = rows.get(Ref(at[1], int(at[2])))
        if row is not None and row.unit is not None:
            following.add(row.unit)
        at = CITATION.match(text, at.end() + len(text[at.end() :]) - len(text[at.end() :].lstrip(" ,")))
    return frozenset({before[-1], *following})


def _sentences(answer: str) -> list[_Sentence]:
    """Sentences with the rows that back them. A line is a paragraph or a list item."""
    sentences: list[_Sentence] = []
    head: tuple[Ref, ...] = ()
    start = 0
    for line in _lines(answer):
        end = start + len(line)
        if not line.strip():
            # A list may stand apart from the line that leads to it, but not from what follows the list.
            follows = answer[end:].lstrip("\n \t")
            head = head if _ITEM.match(follows) else ()
        else:
            own = cited(line)
            for a, b in _ends(line):
                sentences.append(_Sentence(start + a, start + b, cited(line[a:b]) or own or head))
            if line.rstrip().endswith(":") or re.search(r":\s*(?:\[[a-z]+:\d+\]\s*)+$", line):
                head = own
        start = end + 1
    return sentences


def _lines(answer: str) -> list[str]:
    """Lines, those of a sentence that goes on in the next line put together; their lengths stay the same."""
    lines: list[str] = []
    for line in answer.split("\n"):
        if lines and line[:1].islower() and lines[-1].strip() and lines[-1].rstrip()[-1] not in ".!?:|":
            lines[-1] += " " + line
        else:
            lines.append(line)
    return lines


def _ends(line: str) -> list[tuple[int, int]]:
    """[start, end) of the sentences of a line."""
    masked = CITATION.sub(lambda match: match[0].replace(".", " "), line)
    head = _ITEM.match(masked)
    found, start = [], 0
    for match in _END.finditer(masked, 0 if head is None else head.end()):
        if match.end() > start:
            found.append((start, match.end()))
            start = match.end()
    if line[start:].strip():
        found.append((start, len(line)))
    return found
