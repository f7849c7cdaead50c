"""Trade-offs: which rank and layers are worth it?"""
