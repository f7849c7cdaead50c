"""Scorers of what a model writes, one a file."""
