"""Explainers and predictors that ask a language model; one file each."""
