"""Which parts of a subject, or of a text, a prediction or a unit's activation rests on.

from tools.attribution import Options, TokenTarget, UnitTarget, attribute

attribute(subject, ids, UnitTarget(unit, 7), "occlusion")                   # why did this unit fire here?
attribute(subject, ids, TokenTarget(answer, wrong), "ig", units="mlp:3:*")  # which neurons say so?
attribute(subject, ids, TokenTarget(answer, wrong), "direct")               # which heads and MLPs write it?
"""

from __future__ import annotations

from tools.attribution.anchors import Anchor
from tools.attribution.attribute import COMPONENT, INPUT, UNIT, Options, attribute
from tools.attribution.direct import DirectAttribution, Part, direct_attribution
from tools.attribution.faithful import Faithfulness
from tools.attribution.result import Attribution, Method
from tools.attribution.targets import Target, TokenTarget, UnitTarget
from tools.attribution.tcav import ConceptTest, Sensitivity, concept_sensitivity, sensitivity

__all__ = [
    "COMPONENT",
    "INPUT",
    "UNIT",
    "Anchor",
    "Attribution",
    "ConceptTest",
    "DirectAttribution",
    "Faithfulness",
    "Method",
    "Options",
    "Part",
    "Sensitivity",
    "Target",
    "TokenTarget",
    "UnitTarget",
    "attribute",
    "concept_sensitivity",
    "direct_attribution",
    "sensitivity",
]
