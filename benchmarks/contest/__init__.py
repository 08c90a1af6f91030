"""Does the contest of rivals earn its forward passes? See `benchmarks.contest.__main__`."""
