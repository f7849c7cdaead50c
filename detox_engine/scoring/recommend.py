"""Which settings of a sweep are worth a look: the Pareto frontier, and its knee under a limit."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detox_engine.plans.evaluation import RANDOM
from detox_engine.plans.layers import format_layers
from detox_engine.scoring.results import SweepPoint
from detox_engine.scoring.scorer import Described, Role, ScorerKind


@dataclass(frozen=True)
class Recommendation:
    """A setting that is recommended, and why; or none, and why not."""

    index: int | None
    """Of the points given; None where no setting is worth it."""
    reason: str
    """One sentence."""


def find_frontier(points: Sequence[tuple[float, float]], better: tuple[int, int] = (-1, -1)) -> tuple[int, ...]:
    """Indices of the points that no other point beats, from the smallest first coordinate to the largest.

    A point beats another where it is at least as good in both coordinates and better in one; of equal points the
    first is kept. Points with NaN are left out.

    Args:
        better: for each coordinate −1 where lower is better, 1 where higher is.
    """
    costs = -np.asarray(points, dtype=float).reshape(-1, 2) * better
    order = sorted(
        (index for index in range(len(costs)) if np.isfinite(costs[index]).all()), key=lambda i: (*costs[i], i)
    )
    kept, best = [], np.inf
    for index in order:
        if costs[index, 1] < best:
            kept.append(index)
            best = costs[index, 1]
    return tuple(sorted(kept, key=lambda index: points[index][0]))


def find_knee(points: Sequence[tuple[float, float]], width: float = 0.0) -> int:
    """Index of the point farthest below the straight line between the ends of a frontier; lower is better in both.

    Both axes are scaled to the frontier's own extent first (as Kneedle does, Satopää et al. 2011). Where no point
    lies below the line, it is the one with the lower second coordinate.

    Args:
        width: how much of the first coordinate a person would pay; that axis is scaled to it where it is wider.
    """
    wide = np.asarray(points, dtype=float)
    low, high = wide.min(0), wide.max(0)
    high[0] = max(high[0], low[0] + width)
    scaled = (wide - low) / np.where(high > low, high - low, 1)
    below = 1 - scaled.sum(1)
    if below.max() <= 1e-9:
        return int(np.lexsort((wide[:, 0], wide[:, 1]))[0])
    return int(below.argmax())


def find_role(scorers: Sequence[Described], role: Role) -> ScorerKind | None:
    """Which of the kinds that were measured a recommendation takes for this; the first as lists of them go."""
    return min((each.kind for each in scorers if each.plays(role)), key=lambda kind: kind.place, default=None)


def recommend(points: Sequence[SweepPoint], harms: ScorerKind, costs: ScorerKind, limit: float = 1.1) -> Recommendation:
    """The setting at the knee of the frontier of a cost and a harm, both better when lower, within a limit.

    Settings count whose cost stays within `limit` times that of the unedited model, whose harm falls beyond its
    interval, and falls further than under each of its controls.
    """
    harm, cost = harms.name, costs.name
    called, paying = (harms.called or harms.title).lower(), costs.title.lower()
    allowed = f"{paying} rises by no more than {limit - 1:.0%}"
    within = [
        index
        for index, point in enumerate(points)
        if point.effects[cost].after.mean <= limit * point.effects[cost].before.mean
        and point.effects[harm].difference.high < 0
        and all(point.effects[harm].after.mean < control.level.mean for control in point.effects[harm].controls)
    ]
    if not within:
        return Recommendation(
            None,
            f"No setting lowers {called} beyond chance and beyond its random control while {allowed}: "
            "raise the limit, or try other ranks and layers.",
        )
    places = [(points[index].effects[cost].after.mean, points[index].effects[harm].after.mean) for index in within]
    frontier = find_frontier(places)
    start = points[within[0]].effects
    line = [(start[cost].before.mean, start[harm].before.mean), *(places[index] for index in frontier)]
    # A cost is small or large beside what was allowed, not beside what the frontier happens to span.
    knee = find_knee(line, (limit - 1) * start[cost].before.mean)
    picked = frontier[max(knee, 1) - 1]
    chosen = points[within[picked]]
    moved, paid = chosen.effects[harm], chosen.effects[cost]
    last = picked == min(range(len(places)), key=lambda index: places[index][1])
    why = (
        "no setting within the limit goes lower"
        if last
        else f"of the {len(within)} settings within the limit it is where the frontier bends most"
    )
    rise = paid.after.mean / paid.before.mean - 1
    instead = ", ".join(f"{RANDOM[control.kind]}: {control.level.mean:.3f}" for control in moved.controls)
    where = ("layer " if len(chosen.layers) == 1 else "layers ") + format_layers(chosen.layers)
    return Recommendation(
        within[picked],
        f"Rank {chosen.rank} at {where} with strength {chosen.strength:g} takes "
        f"{called} from {moved.before.mean:.3f} to {moved.after.mean:.3f} ({instead}) and {paying} from "
        f"{paid.before.mean:.2f} to {paid.after.mean:.2f}, a change of {rise:+.1%} where {limit - 1:.0%} is "
        f"allowed; {why}.",
    )
