"""What the Directions page works out: kept for all sessions, or in a worker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from detox_engine.plans.fit import PAPER
from pages.directions.pairs import CarriedPair
from ui.session.shared_models import Kept, shelf
from ui.session.view import Fitted
from ui.work.tasks import Task, Tell

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from detox_engine.errors import Progress
    from detox_engine.plans.read import Measure
    from detox_engine.reading.causal import CausalReading, CleanRun
    from detox_engine.reading.directions import DirectionReading
    from detox_engine.reading.lens import Reading
    from detox_engine.reading.neurons import ValueVectors
    from detox_engine.reading.pairs import Separation, TellingPairs
    from detox_engine.scoring.evaluation import Score
    from detox_engine.study.study import Study
    from detox_engine.study.subspace import ToxicSubspace
    from detox_engine.workbench import Workbench


@dataclass(frozen=True)
class Asked:
    """Which direction of which study."""

    fitted: Fitted
    layer: int
    direction: int
    method: str = PAPER
    """Whose directions they are."""

    @property
    def place(self) -> str:
        """Tells directions apart whose work does not stop each other's, as cards stand beside each other."""
        return f"{self.layer}.{self.direction}" + ("" if self.method == PAPER else f" {self.method}")

    def subspace(self, study: Study) -> ToxicSubspace:
        """All directions of its layer and method."""
        return study.of(self.method)[self.layer]

    def vector(self, study: Study) -> Tensor:
        """`[hidden]`."""
        return self.subspace(study).basis[self.direction]


@dataclass(frozen=True, eq=False)
class Effect:
    """What removing a direction changes."""

    scores: tuple[Score, ...]
    prompts: int
    seconds: float


def carry(bench: Workbench, study: Study, asked: Asked, progress: Progress, tell: Tell) -> TellingPairs[CarriedPair]:
    """The pairs that the direction sets apart most, least and the other way round, with the tokens that do so."""
    from detox_engine.reading.pairs import TellingPairs, carry_pairs, separate_pairs

    separated = separate_pairs(study.embeddings, asked.layer, asked.subspace(study))
    picked = separated.pick_pairs(asked.direction)
    pairs = [study.pairs[index] for index, _ in picked.pairs]
    carried = iter(carry_pairs(bench.model, pairs, asked.layer, asked.vector(study), study.plan, progress))
    return TellingPairs(
        *(
            tuple(CarriedPair(index, study.pairs[index], times, *next(carried)) for index, times in group)
            for group in picked
        )
    )


def words_of(found: TellingPairs[CarriedPair]) -> Iterator[str]:
    for pair in found.pairs:
        for side in (pair.toxic, pair.civil):
            yield from (*side.text.tokens, "".join(side.text.pieces))


def measure_effect(bench: Workbench, study: Study, asked: Asked, progress: Progress, tell: Tell) -> Effect:
    """What removing the direction alone changes, beside random directions."""
    progress("Reading prompts and texts", 0, 0)
    from detox_engine.scoring.ablation import ablate

    found = ablate(bench.model, study, asked.layer, asked.direction, asked.method, progress=progress)
    return Effect(found.scores, len(found.prompts), found.seconds)


def read_causally(bench: Workbench, study: Study, asked: Asked, progress: Progress, tell: Tell) -> CausalReading:
    """What the direction promotes; the run that it is compared with is kept for the layer's other directions."""
    progress("Reading prompts", 0, 0)
    from detox_engine.reading.causal import read_causally, run_clean

    clean = CLEAN.find_or_make(
        (asked.fitted, asked.layer), lambda: run_clean(bench.model, [asked.layer], progress=progress)
    )
    vectors = asked.vector(study)[None]
    off = study.massive_dimensions
    return read_causally(bench.model, clean, asked.layer, vectors, off=off, progress=progress)[0]


def tokens_of(found: CausalReading) -> Iterator[str]:
    return (end.word for end in (*found.toxic_pole, *found.civil_pole))


CLEAN: Kept[tuple[Fitted, int], CleanRun] = Kept(8)
CAUSAL = Task("causal reading", read_causally, keep=512, words=tokens_of)
PAIRS = Task("pairs of", carry, keep=64, words=words_of, each=lambda asked: asked.place, title="Reading the pairs")
EFFECT = Task(
    "effect of",
    measure_effect,
    keep=512,
    each=lambda asked: f"{asked.place} {asked.fitted.made}",
    title="The effect of a direction",
)


@st.cache_resource(max_entries=256, show_spinner=False)
def readings(fitted: Fitted, layer: int, measure: Measure, method: str) -> tuple[DirectionReading, ...]:
    """Every kept direction of one layer in tokens, strongest first."""
    study, bench = _open(fitted)
    return bench.read(study, [layer], study.of(method)[layer].kept, measure=measure, method=method)


@st.cache_resource(max_entries=256, show_spinner=False)
def mean_reading(fitted: Fitted, layer: int, measure: Measure) -> Reading:
    """The mean direction of one layer in tokens."""
    from detox_engine.reading.lens import read_tokens

    study, bench = _open(fitted)
    direction = study.subspaces[layer].mean_direction[None]
    return read_tokens(direction, bench.model, measure=measure)[0]


@st.cache_resource(max_entries=64, show_spinner=False)
def separation(fitted: Fitted, layer: int, method: str = PAPER) -> Separation:
    """How far every direction of one layer sets each pair apart, from the study's embeddings."""
    from detox_engine.reading.pairs import separate_pairs

    study = shelf().find_study(fitted.study)
    return separate_pairs(study.embeddings, layer, study.of(method)[layer])


@st.cache_resource(max_entries=256, show_spinner=False)
def value_vectors(asked: Asked) -> ValueVectors:
    """The neurons of a layer that write most along one of its directions."""
    from detox_engine.reading.neurons import find_value_vectors

    study, bench = _open(asked.fitted)
    return find_value_vectors(bench.model, asked.layer, asked.vector(study))


@st.cache_resource(max_entries=256, show_spinner=False)
def cosines(asked: Asked) -> np.ndarray:
    """`[layers, directions]` of one direction with every direction that all layers kept."""
    from detox_engine.reading.across_layers import measure_cosines

    study = shelf().find_study(asked.fitted.study)
    return measure_cosines(study.of(asked.method), asked.vector(study)).numpy()


@st.cache_resource(max_entries=64, show_spinner=False)
def angles(fitted: Fitted, rank: int, method: str = PAPER) -> np.ndarray:
    """`[layers, layers, rank]` principal angles between the first directions of every two layers, in degrees."""
    from detox_engine.reading.across_layers import measure_angles

    return measure_angles(shelf().find_study(fitted.study).of(method), rank).numpy()


def _open(fitted: Fitted) -> tuple[Study, Workbench]:
    return shelf().find_study(fitted.study), shelf().workbench(fitted.study.model)
