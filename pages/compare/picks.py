"""The picks of Compare."""

from dataclasses import dataclass
from typing import Literal

from detox_engine.plans.sampling import SamplingPlan
from ui.session.picks import WRITTEN, Picks, part, pick


@dataclass(frozen=True)
class ComparePicks(Picks):
    """What the model continues, and how."""

    prompts: Literal["hostile", "plain", "everyday", "own"] | None = pick(None, "prompts")
    """A set of bundled prompts or a person's own; None stands for the first set that suits the model."""
    count: int | None = pick(None, "count", low=1)
    """How many of a bundled set are drawn; None stands for as many as at first."""
    draw: int = pick(0, "draw", "Another seed picks other prompts.", low=0)
    """Seed of that draw."""
    own: str = pick("", "own", form=WRITTEN)
    """A person's own prompts, one a line."""
    sampling: SamplingPlan = part(SamplingPlan)
