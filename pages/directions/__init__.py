"""Directions: what do they mean?"""
