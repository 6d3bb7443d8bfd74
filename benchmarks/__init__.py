"""Benchmarks: two things measured in one run, in turn, compared by ratios."""
