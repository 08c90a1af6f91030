"""Generated black-box functions of numbers and words, as units ``fn:numeric:12`` of a model whose truth is known.

In the manner of FIND (Schwettmann et al. 2023, arXiv 2309.03886): atoms, compositions, observation noise, and functions
that are corrupted on a part of their domain.
"""

from __future__ import annotations

from tools.functions.build import build, functions_of, subject_folder
from tools.functions.expression import Expr, FormulaError, evaluate, parse
from tools.functions.inputs import grid, is_held_out, number_text, words
from tools.functions.spec import FindSpec, find_spec
from tools.functions.texts import documents
from tools.functions.truth import CATEGORIES, Corruption, FunctionTruth, load_truth

__all__ = [
    "CATEGORIES",
    "Corruption",
    "Expr",
    "FindSpec",
    "FormulaError",
    "FunctionTruth",
    "build",
    "documents",
    "evaluate",
    "find_spec",
    "functions_of",
    "grid",
    "is_held_out",
    "load_truth",
    "number_text",
    "parse",
    "subject_folder",
    "words",
]
