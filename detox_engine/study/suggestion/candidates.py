"""Which edits are worth measuring: methods, ranges of layers, sites and ranks, each as strong as its budget allows."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from detox_engine.forward.slopes import SITES, Slopes
from detox_engine.plans.edit import EditPlan, Sites
from detox_engine.study.suggestion import Tried

STARTS = 16
"""First layers that are tried at most, evenly from the bottom to the top."""

ENDS = (0.0, 0.125)
"""How much of the model is left out at the top: nothing, or the last layers."""

RANKS = (1, 2, 4)
TRIED_SITES: tuple[Sites, ...] = ("mlp", "both")

MOST_STRENGTH = 2.0
STEP = 0.05
"""Strengths are multiples of it, as those of the sidebar are."""

EXTREME = 100.0
"""A layer whose curvature is above this many medians is never touched: it writes or cancels attention sinks."""

GAIN = 1.1
"""A higher rank is tried where it promises this many times the gap of a lower one."""

PICKED_GAIN = 1.01
"""A layer is taken among those that are picked, or left out again, where that promises this many times the gap."""

ALIKE = 0.7
"""Two edits that share this much of all the directions that either removes are too alike to measure both."""


def list_candidates(slopes: Slopes, budget: float) -> list[Tried]:
    """Every candidate that promises a gap, each as strong as the predicted divergence allows, largest gap first.

    Args:
        budget: most divergence, in nats a token.
    """
    layers = 1 + max(place.layer for place in slopes.places)
    shunned = find_extreme_layers(slopes)
    found = []
    picked = _list_picked(slopes, layers, shunned, budget)
    for method, sites, chosen in dict.fromkeys([*_list_ranges(slopes, layers, shunned), *picked]):
        least = 0.0
        for rank in _list_ranks(slopes, method, chosen):
            candidate = _promise(slopes, EditPlan(chosen, rank, method=method, sites=sites), budget)
            if candidate is not None and candidate.predicted_gap > least:
                found.append(candidate)
                least = GAIN * candidate.predicted_gap
    return sorted(found, key=lambda candidate: -candidate.predicted_gap)


def find_extreme_layers(slopes: Slopes) -> tuple[int, ...]:
    """Layers in which the first direction of a method has a curvature far above that method's median."""
    curvature: dict[tuple[str, str], dict[int, float]] = {}
    for place, value in zip(slopes.places, slopes.information.diagonal(), strict=True):
        if place.direction == 0:
            curvature.setdefault((place.method, place.site), {})[place.layer] = float(value)
    extreme = set()
    for by_layer in curvature.values():
        median = float(np.median(list(by_layer.values())))
        extreme |= {layer for layer, value in by_layer.items() if value > EXTREME * median > 0}
    return tuple(sorted(extreme))


def _list_ranges(slopes: Slopes, layers: int, shunned: Sequence[int]) -> Iterator[tuple[str, Sites, tuple[int, ...]]]:
    """Method, sites and layers of every range that is tried."""
    methods = dict.fromkeys(place.method for place in slopes.places)
    starts = np.unique(np.linspace(0, layers - 1, min(layers, STARTS)).round().astype(int)).tolist()
    ends = sorted({layers - 1 - round(share * layers) for share in ENDS})
    ranges = {
        tuple(layer for layer in range(start, end + 1) if layer not in shunned) for start in starts for end in ends
    }
    attended = _list_attended(slopes)
    for chosen in sorted(ranges - {()}):
        for method in methods:
            for sites in TRIED_SITES:
                if sites == "mlp" or attended.issuperset(chosen):
                    yield method, sites, chosen


def _list_attended(slopes: Slopes) -> set[int]:
    """Layers whose attention can be edited."""
    return {place.layer for place in slopes.places if place.site == "attention"}


def _list_picked(
    slopes: Slopes, layers: int, shunned: Sequence[int], budget: float
) -> Iterator[tuple[str, Sites, tuple[int, ...]]]:
    """Method, sites and the layers that together promise the largest gap, whether or not they are neighbours.

    They are found step by step: the layer that gains most is taken in, or left out again, while one does. The first
    directions of neighbours move the same tokens, so that a range of layers pays more for its gap than some of them.
    """
    attended = _list_attended(slopes)
    for method in dict.fromkeys(place.method for place in slopes.places):
        for sites in TRIED_SITES:
            reach = [layer for layer in range(layers) if layer not in shunned and (sites == "mlp" or layer in attended)]
            rows = np.array([cover(slopes, EditPlan((layer,), 1, method=method, sites=sites)) for layer in reach])
            chosen = pick_units(rows @ slopes.gap, rows @ slopes.information @ rows.T, budget) if reach else ()
            if chosen:
                yield method, sites, tuple(reach[number] for number in chosen)


def pick_units(gaps: NDArray[np.float64], information: NDArray[np.float64], budget: float) -> tuple[int, ...]:
    """Which of some units, each taken whole or not at all, promise the largest gap at a budget of divergence.

    Args:
        gaps: `[units]` slope of the gap, in nats a token per unit of strength.
        information: `[units, units]` Fisher information in the strengths, in nats a token.
        budget: most divergence, in nats a token.
    """
    chosen = np.zeros(len(gaps))
    most = 0.0
    while True:
        tried = np.abs(chosen - np.eye(len(gaps)))  # each row with one unit more, or one less
        divergences = 0.5 * np.einsum("ij,jk,ik->i", tried, information, tried)
        promised = [
            strengthen(1.0, divergence, budget) * gap for divergence, gap in zip(divergences, tried @ gaps, strict=True)
        ]
        best = int(np.argmax(promised))
        if promised[best] <= PICKED_GAIN * most or promised[best] <= 0:
            return tuple(np.flatnonzero(chosen).tolist())
        chosen, most = tried[best], promised[best]


def _list_ranks(slopes: Slopes, method: str, chosen: Sequence[int]) -> tuple[int, ...]:
    """The ranks that the method has directions for at every one of these layers."""
    counts = dict.fromkeys(chosen, 0)
    for place in slopes.places:
        if place.method == method and place.layer in counts and place.site == "mlp":
            counts[place.layer] += 1
    return tuple(rank for rank in RANKS if rank <= min(counts.values()))


def _promise(slopes: Slopes, edit: EditPlan, budget: float) -> Tried | None:
    """The edit as strong as the budget allows, or None where it promises no gap."""
    whole = cover(slopes, edit)
    gap, divergence = slopes.predict(whole)
    strength = strengthen(1.0, divergence, budget)
    if gap <= 0 or strength < STEP:
        return None
    return predict(slopes, edit, strength)


def predict(slopes: Slopes, edit: EditPlan, strength: float) -> Tried:
    """What an edit of another strength promises."""
    gap, divergence = slopes.predict(strength * cover(slopes, edit))
    chosen = EditPlan(edit.layers, edit.rank, strength, method=edit.method, sites=edit.sites)
    return Tried(chosen, gap, divergence)


def cover(slopes: Slopes, edit: EditPlan) -> NDArray[np.float64]:
    """`[places]` 1 where an edit of strength 1 removes the direction, else 0."""
    layers, sites = set(edit.layers), SITES if edit.sites == "both" else (edit.sites,)
    return np.array(
        [
            float(
                place.method == edit.method
                and place.layer in layers
                and place.site in sites
                and place.direction < edit.rank
            )
            for place in slopes.places
        ]
    )


def strengthen(strength: float, divergence: float, budget: float) -> float:
    """The strength at which `divergence`, which is there at `strength` and grows with its square, meets the budget."""
    return round_strength(MOST_STRENGTH if divergence <= 0 else strength * math.sqrt(budget / divergence))


def find_factor(predicted: float, measured: float, budget: float) -> float:
    """The multiple of a strength at which the divergence meets the budget, from what it is at the strength itself.

    It goes with the square of small strengths, as predicted, and faster with larger ones: what was measured beyond the
    prediction is taken to go with the fourth power.
    """
    beyond = measured - predicted
    if beyond <= 0:
        return math.sqrt(budget / max(measured, 1e-9))
    return math.sqrt((math.sqrt(predicted**2 + 4 * beyond * budget) - predicted) / (2 * beyond))


def round_strength(strength: float) -> float:
    """The next strength below that is within the cap and a multiple of `STEP`."""
    return round(STEP * math.floor(min(strength, MOST_STRENGTH) / STEP + 1e-9), 2)


def shortlist(candidates: Sequence[Tried], count: int) -> tuple[Tried, ...]:
    """The best of every method, so that none falls on its promise alone, then the best others that differ."""
    methods = dict.fromkeys(candidate.edit.method for candidate in candidates)
    chosen = [next(each for each in candidates if each.edit.method == method) for method in methods][:count]
    for candidate in candidates:
        if len(chosen) >= count:
            break
        if not any(_are_alike(candidate.edit, other.edit) for other in chosen):
            chosen.append(candidate)
    return tuple(chosen)


def _are_alike(one: EditPlan, other: EditPlan) -> bool:
    if one.method != other.method:
        return False
    first, second = _removed(one), _removed(other)
    return len(first & second) >= ALIKE * len(first | second)


def _removed(edit: EditPlan) -> frozenset[tuple[int, str, int]]:
    sites = SITES if edit.sites == "both" else (edit.sites,)
    return frozenset(
        (layer, site, direction) for layer in edit.layers for site in sites for direction in range(edit.rank)
    )
