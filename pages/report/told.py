"""What a report tells besides its study, as it is drawn from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detox_engine.plans.edit import EditPlan, read_edit
from detox_engine.scoring.records import KeptEvaluation, read_evaluation
from detox_engine.scoring.results import SweepPoint, load_points

EVERY_LAYER = 1_000_000
"""More layers than any model has: the study says which of them there are."""


@dataclass(frozen=True)
class ReadDirection:
    """A direction in words."""

    layer: int
    direction: int
    readable: bool
    toxic: tuple[tuple[str, float], ...]
    civil: tuple[tuple[str, float], ...]


@dataclass(frozen=True, eq=False)
class Shown:
    """What a report shows."""

    edit: EditPlan
    model: str
    readings: tuple[ReadDirection, ...] = ()
    evaluation: KeptEvaluation | None = None
    points: tuple[SweepPoint, ...] = ()
    """Of a sweep."""
    verdict: Mapping[str, Any] | None = None


def read_told(file: Path) -> Shown:
    """What `write_report` of the engine wrote."""
    record = json.loads(file.read_text(encoding="utf-8"))
    return Shown(
        edit=read_edit(record["edit"], EVERY_LAYER),
        model=record["model"],
        readings=read_readings(record["readings"]),
        evaluation=None if record["evaluation"] is None else read_evaluation(record["evaluation"]),
        points=() if record["sweep"] is None else tuple(load_points(Path(record["sweep"])).values()),
        verdict=record["verdict"],
    )


def read_readings(records: Sequence[Mapping[str, Any]]) -> tuple[ReadDirection, ...]:
    return tuple(
        ReadDirection(
            record["layer"],
            record["direction"],
            record["readable"],
            tuple((token, score) for token, score in record["toxic"]),
            tuple((token, score) for token, score in record["civil"]),
        )
        for record in records
    )
