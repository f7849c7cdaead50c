"""Evaluate: is this edit good?"""
