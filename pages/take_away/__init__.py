"""Take away: what do I get?"""
