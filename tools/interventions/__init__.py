"""Runs of the subject with something in it changed: the one engine behind every causal tool.

    from tools.interventions import Where, add, run, set_unit

    clean = run(subject, ids, mask, read=[Site(3, "resid_post")])
    steered = run(subject, ids, mask, [add(Site(3, "resid_post"), vector, Where(since=1))])
    ablated = run(subject, ids, mask, [set_unit(subject, UnitId.parse("mlp:3:17"), 0.0)])

Edits at one site apply in the order given; sites in the order of the forward pass, so that later ones see earlier
ones. What is read at a site is what the rest of the pass went on with. A dictionary's latent is edited by adding the
change of its reconstruction, so that what the dictionary does not explain stays as it was.
"""

from tools.hooking.edits import (
    Edit,
    add,
    change,
    multiply_attention,
    project_out,
    replace,
    replace_attention,
    scale,
    scale_attention,
    set_to,
)
from tools.hooking.where import EVERYWHERE, AttentionWhere, Where
from tools.interventions.beginnings import Beginnings
from tools.interventions.generate import Generated, generate
from tools.interventions.prefix import Prefix, prefill
from tools.interventions.resume import Resume
from tools.interventions.run import run
from tools.interventions.unit_edits import add_to_unit, edit_unit, scale_unit, set_unit

__all__ = [
    "EVERYWHERE",
    "AttentionWhere",
    "Beginnings",
    "Edit",
    "Generated",
    "Prefix",
    "Resume",
    "Where",
    "add",
    "add_to_unit",
    "change",
    "edit_unit",
    "generate",
    "multiply_attention",
    "prefill",
    "project_out",
    "replace",
    "replace_attention",
    "run",
    "scale",
    "scale_attention",
    "scale_unit",
    "set_to",
    "set_unit",
]
