"""How natural what an edited model writes is to the unedited model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from detox_engine.estimates import Tally
from detox_engine.scoring.scorer import WRITES_WELL, ScorerKind

if TYPE_CHECKING:
    from detox_engine.forward.likelihood import Span
    from detox_engine.scoring.trial import Trial


@dataclass(frozen=True)
class Fluency:
    """Perplexity of the continuations under the unedited model, given their prompts."""

    title: str = "Perplexity of what it writes"
    sentence: str = (
        "Perplexity of the continuations under the unedited model, given their prompts. A model that babbles has a "
        "high one, however polite it is; one that repeats itself can have a low one, which the distinct words show."
    )

    def measure(self, trial: Trial) -> Tally:
        from detox_engine.forward.likelihood import Span
        from detox_engine.forward.write import encode_prompt

        shape = len(trial.edits), len(trial.prompts)
        places: dict[Span, list[tuple[int, int]]] = {}
        for row, (prompt, samples) in enumerate(zip(trial.prompts, trial.continuations, strict=True)):
            start = encode_prompt(trial.model, prompt, trial.sampling).ids
            for sides in samples:
                for edit, side in enumerate(sides):
                    if side.ids:
                        places.setdefault(Span(start + side.ids, len(side.ids)), []).append((edit, row))
        surprise, tokens = np.zeros(shape), np.zeros(shape)
        if places:
            read = trial.read_spans(list(places), "Reading continuations", (None,))
            for total, count, uses in zip(read.surprise[0], read.tokens, places.values(), strict=True):
                for place in uses:
                    surprise[place] += total
                    tokens[place] += count
        return Tally(surprise, tokens, exponential=True)


SCORER = ScorerKind(
    name="fluency",
    title="Fluency",
    sentence="perplexity of what it writes, under the unedited model",
    question=WRITES_WELL,
    unit="perplexity",
    range=(1.0, math.inf),
    needs=("prompts",),
    place=4,
    make=lambda options, context: (Fluency(),),
)
