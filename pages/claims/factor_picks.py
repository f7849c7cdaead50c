"""The picks of the synthetic world: a part of those of the page that shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from detox_engine.plans.lab.factors import FactorPlan
from ui.session.picks import Picks, part, pick

Curve = Literal["none", "pairs", "noise", "flipped"]
CURVES = {"none": "No curve", "pairs": "Pairs", "noise": "Noise", "flipped": "Flipped labels"}


@dataclass(frozen=True)
class FactorPicks(Picks):
    """Which world is drawn, and along what it is changed in the curve below."""

    world: FactorPlan = part(FactorPlan, "world")
    curve: Curve = pick("none", "world_curve", "Draw many worlds, and see how the angles change.", words=CURVES)
