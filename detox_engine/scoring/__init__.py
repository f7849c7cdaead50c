"""Is an edit good?"""
