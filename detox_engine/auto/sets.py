"""Three sets of texts that share nothing: one to fit on, one to choose an edit by, one to report on what it does."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from detox_engine.data.bundled import bundled_neutral, bundled_pairs, bundled_prompts
from detox_engine.data.columns import Pair
from detox_engine.data.pairs import read_pairs
from detox_engine.data.stream import PairStream, hash_pairs, open_pairs
from detox_engine.data.texts import Text, hash_texts, read_any_prompts, read_text
from detox_engine.errors import InputError, Progress, ignore_progress
from detox_engine.plans.auto import AutoPlan
from detox_engine.plans.sources import TextSpec
from detox_engine.study.fit import hold_out
from detox_engine.study.suggestion.search import divide_neutral

CHOOSING = 64
"""Prompts to choose by, of which half of all are the most."""
LEAST_REPORTED = 20
"""Prompts without which no report is begun."""


@dataclass(frozen=True, eq=False)
class Sets:
    """What is in which set; the neutral texts to choose by are those of every search for an edit (`divide_neutral`)."""

    pairs: tuple[Pair, ...]
    """All of them; those to fit on are the ones that are not among `choosing_pairs`."""
    choosing_pairs: tuple[Pair, ...]
    choosing_prompts: tuple[str, ...]
    reported_prompts: tuple[str, ...]
    reported_text: Text

    def open_fit(self, plan: AutoPlan, model: str) -> PairStream:
        """The pairs to fit on, none of them read yet."""
        return open_pairs(plan.pairs, bundled_pairs(model), frozenset(self.choosing_pairs))

    def record(self) -> dict[str, Any]:
        """How much is in each set, and the hash of it."""
        chosen = set(self.choosing_pairs)
        fitted = [pair for pair in self.pairs if pair not in chosen]
        return {
            "fit": {"pairs": len(fitted), "pairs_hash": hash_pairs(fitted)},
            "choose": {
                "pairs": len(self.choosing_pairs),
                "pairs_hash": hash_pairs(self.choosing_pairs),
                "prompts": len(self.choosing_prompts),
                "prompts_hash": hash_texts(self.choosing_prompts),
            },
            "report": {
                "prompts": len(self.reported_prompts),
                "prompts_hash": hash_texts(self.reported_prompts),
                "texts": len(self.reported_text.lines),
                "texts_hash": hash_texts(self.reported_text.lines),
            },
        }


def divide(model: str, plan: AutoPlan, progress: Progress = ignore_progress) -> Sets:
    """Divide what a plan names, the same way every time.

    A prompt that begins a pair, or that directions are read with, is not among those to report on.

    Args:
        model: the name of the model, which tells what “bundled” means.

    Raises:
        InputError: a source cannot be read, or too few prompts are left to report on.
    """
    pairs = read_pairs(plan.pairs, bundled_pairs(model), progress).pairs
    held = hold_out(len(pairs))
    choosing, reported = _divide_prompts(model, plan, pairs)
    return Sets(
        pairs=pairs,
        choosing_pairs=tuple(dict.fromkeys(pairs[row] for row in sorted(held))),
        choosing_prompts=choosing,
        reported_prompts=reported,
        reported_text=_leave_searched(model, plan.neutral),
    )


def _divide_prompts(model: str, plan: AutoPlan, pairs: Sequence[Pair]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    from detox_engine.reading.causal import list_shortest

    prompts = list(dict.fromkeys(read_any_prompts(plan.prompts, bundled_prompts(model), None)))
    seen = set(list_shortest(model))
    fitted = {_bare(pair.prompt) for pair in pairs}
    # Files are often sorted by kind, and each set is to have all kinds.
    random.Random(0).shuffle(prompts)
    prompts.sort(key=lambda prompt: prompt not in seen)
    count = min(CHOOSING, len(prompts) // 2)
    choosing, others = prompts[:count], prompts[count:]
    reported = [prompt for prompt in others if prompt not in seen and _bare(prompt) not in fitted]
    if len(reported) < LEAST_REPORTED:
        raise InputError(
            f"Of {len(prompts)} prompts {len(reported)} are left to report on, which neither fit nor choose, and "
            f"{LEAST_REPORTED} are needed: give more prompts."
        )
    return tuple(choosing), tuple(reported)


def _bare(text: str) -> str:
    return " ".join(text.lower().split())


def _leave_searched(model: str, spec: TextSpec) -> Text:
    """The neutral text without what every search for an edit reads."""
    text = read_text(spec, bundled_neutral(model))
    if text.running:
        return text
    first, second = divide_neutral(read_text(TextSpec(), bundled_neutral(model)).lines)
    searched = {*first, *second}
    lines = tuple(line for line in text.lines if line not in searched)
    if not lines:
        raise InputError(f"{spec.source} has no neutral text besides what edits are chosen by: give another.")
    return Text(lines, False)
