"""Which parts of a subject, or of a text, a prediction rests on."""

from __future__ import annotations

from tools.attribution.direct import DirectAttribution, Part, direct_attribution

__all__ = ["DirectAttribution", "Part", "direct_attribution"]
