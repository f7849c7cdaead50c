"""How many of the words that the first directions of a suggested edit are read as are rude, beside random directions.

    python -m tools.read_suggested bundled
    python -m tools.read_suggested smollm2 --study STUDY
    python -m tools.read_suggested smollm2 --study STUDY --words words.txt

Of each suggested layer the causal reading's top twenty are held against the word list, as tokens and as the words that
they begin. A list knows fewer words than people do, so `--words` writes all of them, those of the random directions
among them, in an order that tells nothing; a reader who has seen neither model nor layer keeps the lines that are rude
to say of a person, and `--rated` reads what is left.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from detox_engine.cli.output import progress_bars
from detox_engine.estimates import estimate_share
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.sources import BUNDLED, ModelSpec, PairSpec
from detox_engine.reading.causal import TokenEffect, read_causally, run_clean
from detox_engine.scoring.scorers.mass import is_rude
from detox_engine.scoring.scorers.profanity import ProfanityScorer
from detox_engine.study.study import Study
from detox_engine.study.suggestion.search import suggest_edit
from detox_engine.workbench import Workbench

TOP = 20
CONTROLS = 3
"""Random directions of each layer."""

Poles = list[tuple[TokenEffect, ...]]
"""Toxic poles, of `TOP` tokens each, of several directions."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default=BUNDLED)
    parser.add_argument("--study", type=Path, help="a study of the model with a suggestion; fitted here by default")
    parser.add_argument("--words", type=Path, help="write the words for a blind reader, one a line")
    parser.add_argument("--rated", type=Path, help="the lines of that file that a blind reader took for rude")
    asked = parser.parse_args()
    bench = Workbench.load(ModelSpec(asked.model))
    with progress_bars() as progress:
        study = Study.load(asked.study) if asked.study else bench.fit(FitPlan(PairSpec()), progress)
        suggestion = study.suggestion or suggest_edit(bench.model, study, progress=progress).suggestion
    edit = suggestion.edit
    if edit is None:
        raise SystemExit(f"Nothing is suggested for this study: {suggestion.reason}")
    found = {layer: read_layer(bench, study, layer, edit.method) for layer in edit.layers}
    words = sorted({bare(end.word) for poles in found.values() for pole in poles for end in pole})
    if asked.words:
        random.Random(0).shuffle(words)
        asked.words.write_text("\n".join(words), encoding="utf-8")
    listed = list_rude(words + [bare(end.token) for poles in found.values() for pole in poles for end in pole])
    columns: list[tuple[str, Callable[[TokenEffect], bool]]] = [
        ("tokens listed as rude", lambda end: bare(end.token) in listed),
        ("words listed as rude", lambda end: bare(end.word) in listed),
    ]
    if asked.rated:
        rated = set(asked.rated.read_text(encoding="utf-8").split("\n"))
        columns.append(("words rude to a blind reader", lambda end: bare(end.word) in rated))
    print(f"First directions of {edit.method}, top {TOP}, {len(edit.layers)} suggested layers of {asked.model}\n")
    print("| layer |", " | ".join(f"{name} | random" for name, _ in columns), "|")
    print("| --- " * (1 + 2 * len(columns)) + "|")
    for layer, (own, *controls) in found.items():
        print(f"| {layer} |", " | ".join(tell(own, controls, is_rude) for _, is_rude in columns), "|")
    own = [end for first, *_ in found.values() for end in first]
    controls = [pole for _, *others in found.values() for pole in others]
    print("| all |", " | ".join(tell(own, controls, is_rude) for _, is_rude in columns), "|")


def read_layer(bench: Workbench, study: Study, layer: int, method: str) -> Poles:
    """The toxic poles of the layer's first direction and of random ones off the massive dimensions."""
    drawn = torch.randn(
        CONTROLS, study.of(method)[layer].basis.shape[1], generator=torch.Generator().manual_seed(layer)
    )
    drawn[:, list(study.massive_dimensions)] = 0
    directions = torch.cat([study.of(method)[layer].basis[:1], torch.nn.functional.normalize(drawn)])
    readings = read_causally(
        bench.model, run_clean(bench.model, [layer]), layer, directions, TOP, study.massive_dimensions
    )
    return [reading.toxic_pole for reading in readings]


def bare(token: str) -> str:
    """A token or word in small letters, without the sign for a space before it."""
    return token.removeprefix("·").lower()


def list_rude(words: Sequence[str]) -> set[str]:
    """Those of the words that the word list, or the profanity scorer, takes for rude."""
    # The scorer is unsure of letters that are no word.
    distinct = sorted({word for word in words if word.isalpha() and len(word) > 2})
    return {
        word for word, score in zip(distinct, ProfanityScorer().score(distinct), strict=True) if is_rude(word, score)
    }


def tell(own: Sequence[TokenEffect], controls: Poles, is_rude: Callable[[TokenEffect], bool]) -> str:
    """The share of rude words with its 95 % interval, beside that of the random directions, as cells of a table."""
    share = estimate_share(sum(map(is_rude, own)) / len(own), len(own))
    others = [end for pole in controls for end in pole]
    return (
        f"{share.mean:.2f} [{share.low:z.2f} {share.high:z.2f}] | {sum(map(is_rude, others)) / max(1, len(others)):.2f}"
    )


if __name__ == "__main__":
    main()
