"""The explainer without a language model: induces a rule, prunes it, tests it by edits, and puts it in words."""
