"""Claims: do the claims of the paper hold?"""
