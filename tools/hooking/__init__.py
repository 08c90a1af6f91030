"""Edits of forward passes, and the hooks that make them: what `tools.capture` and `tools.interventions` are made of."""
