"""Who turns evidence into descriptions, and descriptions into predictions.

`registry` has the explainers by name, `types` what travels, `rules` the rule language, `pattern` the explainer without
a language model, `tables` the lookup tables that rules stand beside.
"""
