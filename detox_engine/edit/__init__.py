"""Removing directions, in three faces that agree, and the control beside it."""
