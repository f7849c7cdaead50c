"""The picks of the Overview."""

from __future__ import annotations

from dataclasses import dataclass

from ui.session.picks import WRITTEN, Picks, pick


@dataclass(frozen=True)
class OverviewPicks(Picks):
    """What the model goes on with."""

    prompt: str = pick("", "continue", form=WRITTEN)
    """Empty stands for the starter that the suggested edit makes milder by most."""
