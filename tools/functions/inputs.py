"""What the functions are asked about: numbers on a grid over [-128, 128), and words; which of them are held out."""

from __future__ import annotations

import functools
import hashlib

import numpy as np
import numpy.typing as npt

LOW, HIGH, STEP = -128.0, 128.0, 0.5
DOMAINS = ("numeric", "string")
_ENGLISH = """
about above action add again air all animal answer apple arm art aunt baby back bad bag ball bank bare base bath bean
bear beat bed bee bell below best big bird black blade blue board boat body bone book both bottle bowl box boy branch
brave bread bright bring brown build bus busy butter cake call camp car card care cat chair child church circle city
clean clear clock cloud coat cold colour common cook copper corn cotton count cover cow cream cry cup cut dance dark day
deep desk dog door down draw dress drink dry dust ear early earth east edge egg eight empty end engine evening every eye
face fact fall family farm fast father feather field fine finger fire fish five flag flat floor flower fly food foot
forest fork four free fresh friend front fruit full game garden gate girl glass gold good grass gray great green group
hair hammer hand happy hard hat head heart heavy hen hill history hole home horse hot house ice idea inch iron island
jacket jelly jewel join joke jump keep kettle key kick kind king kiss kitchen knee knife knot lake lamp large last laugh
leaf left leg lemon letter light line lion lip list little lock long look loud love low machine map mark market match
meal milk mind mine mirror money moon morning mother mountain mouth music nail name narrow near neck needle nest net new
night nine noise nose note number nut oak ocean offer office oil old one open orange order oven over owner page paint
paper park part path pen pencil person picture pig pin plane plant plate play pocket point pot potato prince print queen
question quick quiet rabbit rail rain rat red rest rice ring river road rock roof room root round rule sad sail salt
sand school sea seat seed seven shade sharp sheep shelf ship shirt shoe shop short side silver sister six skin sky sleep
small smile smoke snake snow soap sock soft son song soup spade spoon spring square stamp star start station stem step
stick stone stop store story street strong sugar summer sun swim table tail tall taste tea ten thin thread three thumb
ticket tiger time tin toe tongue top town toy train tree true turn twist umbrella under use valley very view voice
waiter walk wall warm wash watch water wave week wheel whip white wide wind window wine wing winter wire wolf wood wool
word work world worm wrist yard year yellow young zebra zero zone level noon radar civic kayak madam refer rotor stats
tenet solos deed peep eve pop mum dad wow eye pup gag bib did nun tot
"""


def number_text(value: float) -> str:
    """How a number of the grid is written: ``12`` or ``-12.5``."""
    return f"{value:g}"


@functools.cache
def grid() -> npt.NDArray[np.float64]:
    """All numbers, ascending, float64 [512]."""
    return np.arange(LOW, HIGH, STEP)


@functools.cache
def words(size: str) -> tuple[str, ...]:
    """All words of a subject of this size, in one order: English ones and variants with capitals or digits.

    The large size has the small one's first, then every word in capitals and with another digit.
    """
    english = tuple(dict.fromkeys(_ENGLISH.split()))
    found = dict.fromkeys(english)
    for word in english:
        draw = _hash(f"variant {word}")
        if size == "large" or draw % 4 == 0:
            found[word.upper()] = None
        if size == "large" or draw % 4 == 1:
            found[f"{word}{draw // 4 % 10}"] = None
        if draw % 16 == 2:
            found[word + word[::-1]] = None
    return tuple(found)


def is_held_out(value: float | str) -> bool:
    """Whether an input stands in no corpus, so that a formula can be asked about something fresh.

    Numbers: all that are not whole, which are the places x = i + 0.5 at which FIND scores (Schwettmann et al. 2023,
    arXiv 2309.03886). Words: half of them, by hash.
    """
    if isinstance(value, str):
        return _hash(f"held out {value}") % 2 == 0
    return not float(value).is_integer()


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def unit_normal(seed: int, key: float | str) -> float:
    """A standard normal number that depends on seed and key alone (Box and Muller 1958)."""
    digest = hashlib.sha256(f"{seed}\0{key!r}".encode()).digest()
    first, second = (int.from_bytes(digest[i : i + 8], "big") / 2**64 for i in (0, 8))
    return float(np.sqrt(-2 * np.log1p(-first)) * np.cos(2 * np.pi * second))
