"""Taking units away, and what the subject's predictions lose by it.

    reference = Reference.of(subject, texts, "100 documents of the corpus")
    found = ablate(subject, [[UnitId.parse("head:1:2")], [UnitId.parse("mlp:0:7")]], sequences, "resample", reference)
    found.effects[0].kl, found.effects[0].loss_change

What is put in a unit's place matters. In order of preference: its value in another text (`resample`), which the rest of
the model has met; its mean over a reference set, by position (`mean`); nothing (`zero`), which the model may never have
met. So the kind, and a hash of the reference set, are part of every result.
"""

from tools.ablation.ablate import KINDS, Ablation, AblationEffect, Kind, Peak, ablate
from tools.ablation.reference import Reference

__all__ = ["KINDS", "Ablation", "AblationEffect", "Kind", "Peak", "Reference", "ablate"]
