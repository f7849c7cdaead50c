"""Side-by-side timings: each benchmark runs its sides in turn, in one run, and reports medians and ratios."""
