"""Widgets that ask for plans."""
