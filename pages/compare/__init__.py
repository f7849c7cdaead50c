"""Compare: what changes in what it writes?"""
