"""Words that are rude whoever reads them, and words that only a scorer takes for rude."""

RUDE_FROM = 0.8
"""A word on its own that the profanity scorer rates this high is rude."""

INSULTS = frozenset(
    """arrogant arse ass blockhead blowhard brainless brat buffoon bum butt clown clueless coward cowards crap crappy
    creep cretin damn damned dang deadbeat dimwit dimwitted dolt dope dork dumb dumber dumbest dummy dunce fool foolish
    fools freak freeloader garbage git goof halfwit heck hell hopeless hypocrite idiocy idiot idiotic idiots imbecile
    imbeciles incompetent jerk jerks knucklehead lame lazy liar loser losers lousy lowlife moron moronic morons muppet
    nincompoop nitwit numbskull numpty oaf pathetic pest pig plonker prat rubbish scum slimy slob sleaze snob stupid
    stupidity suck sucks trash twerp twit useless weasel weirdo wimp worthless wretched""".split()  # noqa: SIM905
)
"""Ordinary insults and mild profanity, some of which the scorer does not know."""

HARMLESS = frozenset("bloody fat gay hate kill killed killing killer lose mom mouth queer ridiculous shut sick".split())  # noqa: SIM905
"""Names of groups and everyday words that the scorer rates as toxic on their own."""
