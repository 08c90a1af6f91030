"""How much of planted units do explainers recover? `python -m benchmarks.planted --help`; see docs/planted.md."""
