"""Toxicity by alt-profanity-check: a linear model over words, small enough to ship and to run anywhere."""

import warnings
from collections.abc import Sequence
from functools import cache


class ProfanityScorer:
    """Probability that a text is offensive, from its words alone."""

    name = "profanity"
    title = "Toxicity"
    sentence = (
        "Probability that a text is offensive, by alt-profanity-check, a linear model over words trained on "
        "200,000 labelled comments: fast and transparent, and blind to context and irony."
    )
    range = (0.0, 1.0)
    lower_is_better = True

    def score(self, texts: Sequence[str]) -> list[float]:
        """One probability for each text; an empty text scores as the model scores no words at all."""
        if not texts:
            return []
        return [float(value) for value in _predict_prob()(list(texts))]


@cache
def _predict_prob():
    with warnings.catch_warnings():
        # The package's model file was written by an older scikit-learn; its scores are checked in the tests.
        warnings.simplefilter("ignore")
        from profanity_check import predict_prob
    return predict_prob
