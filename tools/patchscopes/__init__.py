"""Patchscopes (Ghandeharioun et al. 2024, arXiv 2401.06102): what a hidden state says when it is put into another text.

    from tools.patchscopes import TOKEN_IDENTITY, patchscope

    found = patchscope(subject, subject.encode("def add(a, b"))
    for cell in found.cells:
        print(cell.layer, cell.top[0], cell.signal)

A hidden state of a source text is mapped (unchanged, or by a fitted affine map), and takes the place of one of a target
text's; what the model then predicts, or writes, says what it made of the state. Any vector makes it say something: each
cell is compared with random vectors of the same length.
"""

from __future__ import annotations

from tools.patchscopes.cells import ENTITY_DESCRIPTION, TOKEN_IDENTITY, Cell, Inspected, patched_logits, patchscope
from tools.patchscopes.mapping import AffineMap, fit_affine

__all__ = [
    "ENTITY_DESCRIPTION",
    "TOKEN_IDENTITY",
    "AffineMap",
    "Cell",
    "Inspected",
    "fit_affine",
    "patched_logits",
    "patchscope",
]
