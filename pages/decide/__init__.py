"""Decide: is the edit worth shipping?"""
