"""How fast patching sweeps are, and which circuits are found; see `python -m benchmarks.causal --help`."""
