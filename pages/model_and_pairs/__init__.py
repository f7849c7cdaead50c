"""Model & pairs: what are we looking at?"""
