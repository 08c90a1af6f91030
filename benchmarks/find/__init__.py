"""How well generated functions are described, everywhere and on the part where they are corrupted."""
