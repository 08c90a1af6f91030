"""Where what a unit writes shows."""

from __future__ import annotations

from tools.subject import Subject
from tools.types import Site, UnitId
from tools.units import group_site


def write_site(subject: Subject, unit: UnitId) -> Site:
    """Where what a unit writes is added: of a neuron or head what its MLP or attention puts out."""
    if unit.kind == "sae":
        return subject.dictionaries[unit.where].site_out
    site = group_site(subject, unit.group)
    outside = {"mlp_act": "mlp_out", "head_z": "attn_out"}.get(site.kind, site.kind)
    return Site(site.layer, outside if outside in subject.plan(site.layer).taps else "resid_post")
