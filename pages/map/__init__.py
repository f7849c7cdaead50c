"""Map: do toxic and civil texts part?"""
