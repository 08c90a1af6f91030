"""How results look in a terminal of 80 columns: safe text, highlighted tokens, histograms, tables, pages, progress.

Everything here takes plain values and returns rich renderables; nothing here reads a database or a model.
"""
