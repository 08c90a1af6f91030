"""Do the statistics hold what they promise? `python -m benchmarks.error_control --help`; see docs/design/0008."""
