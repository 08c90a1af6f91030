"""Activation patching: parts of one run put into another, to find out which of them carry a behaviour.

    pairs = encode_pairs(subject, [Pair("When Anna and Ben met, Anna spoke to", "When Anna and Ben met, Carl spoke to",
                                        " Ben", " Anna")])
    found = sweep(subject, pairs, "head_z", positions="each", channels="each")
    found.denoising["logit_difference"].values          # [layer, position, head]

A clean prompt shows the behaviour, its corrupted twin does not. Denoising puts parts of the clean run into the
corrupted one, and finds what is enough to restore the behaviour; noising puts parts of the corrupted run into the clean
one, and finds what it cannot do without. The two answer different questions and are kept apart.
"""

from tools.patching.attribution import Checked, Screen, screen
from tools.patching.decomposition import Decomposition, decompose
from tools.patching.metrics import METRICS, Direction, Metric
from tools.patching.nodes import LOGITS, Node, Receiver, all_nodes, parse_receivers
from tools.patching.pairs import Noise, Pair, TokenPair, encode_pairs
from tools.patching.path import Paths, path_patch
from tools.patching.sweep import Effects, Sweep, sweep

__all__ = [
    "LOGITS",
    "METRICS",
    "Checked",
    "Decomposition",
    "Direction",
    "Effects",
    "Metric",
    "Node",
    "Noise",
    "Pair",
    "Paths",
    "Receiver",
    "Screen",
    "Sweep",
    "TokenPair",
    "all_nodes",
    "decompose",
    "encode_pairs",
    "parse_receivers",
    "path_patch",
    "screen",
    "sweep",
]
