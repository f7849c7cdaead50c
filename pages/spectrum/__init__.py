"""Spectrum: how many directions stand out, and where?"""
