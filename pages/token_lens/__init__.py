"""Token lens: where in a text does it light up?"""
