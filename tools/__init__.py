"""What can be done to a subject model: subjects, units, dictionaries, corpora, the activation index, heads, lenses.

This room imports nothing of ours and needs only torch, transformers, numpy, safetensors (and pyarrow for Parquet), so
it runs alone on a GPU machine.
"""
