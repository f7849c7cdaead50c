"""Measured settings of a sweep, and the file that keeps them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from detox_engine.disk import read_as, write_whole
from detox_engine.errors import InputError
from detox_engine.estimates import Control, Effect, Estimate
from detox_engine.plans.edit import EditPlan, Sites

LARGEST = 2**28
"""Bytes of a results file that are read at most."""


@dataclass(frozen=True)
class SweepPoint:
    """One setting of the grid and what was measured under it."""

    layers: tuple[int, ...]
    rank: int
    strength: float
    effects: Mapping[str, Effect]
    """Scorer -> its effect, with controls of the same rank and layers."""
    method: str = EditPlan.method
    sites: Sites = EditPlan.sites
    unmatched: int = 0
    """Draws of a matched control that move neutral text less than the setting at any strength that was tried."""

    @property
    def edit(self) -> EditPlan:
        return EditPlan(self.layers, self.rank, self.strength, method=self.method, sites=self.sites)


@dataclass(frozen=True)
class _Setting:
    """What tells a setting from others, as a file has it."""

    layers: tuple[int, ...]
    rank: int
    strength: float
    method: str = EditPlan.method
    sites: Sites = EditPlan.sites
    unmatched: int = 0


def load_points(file: Path) -> dict[str, SweepPoint]:
    """Key -> point, of a results file; none where there is no file yet.

    Raises:
        InputError: it is no results file, or a line of it is broken.
    """
    points, number = {}, 0
    try:
        if file.exists() and (not file.is_file() or file.stat().st_size > LARGEST):
            raise ValueError
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        for number, line in enumerate(lines, start=1):  # noqa: B007  (the except clause names it)
            record = json.loads(line)
            effects = {name: _read_effect(effect) for name, effect in record["scorers"].items()}
            # Files of earlier versions know of one method, one site and one kind of control.
            later = {name: record[name] for name in ("method", "sites", "unmatched") if name in record}
            setting = {name: record[name] for name in ("layers", "rank", "strength")} | later
            points[str(record["key"])] = SweepPoint(**asdict(read_as(_Setting, setting)), effects=effects)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise InputError(
            f"{file}, line {number}: no result of a sweep can be read from it; remove the file, or name another."
        ) from None
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}): name another file for the results.") from None
    return points


def _read_effect(record: dict[str, Any]) -> Effect:
    sides = (read_as(Estimate, record[side]) for side in ("before", "after", "difference"))
    # As they were kept when there was one kind of control.
    plain = {"kind": "plain", "level": record.get("control"), "difference": record.get("control_difference")}
    controls = record.get("controls") or [plain | {"draws": record["draws"]}]
    return Effect(*sides, controls=tuple(map(_read_control, controls)))


def _read_control(record: dict[str, Any]) -> Control:
    level, difference = (read_as(Estimate, record[side]) for side in ("level", "difference"))
    beyond = record.get("beyond")
    draws = tuple(map(float, record["draws"]))
    return Control(str(record["kind"]), level, difference, draws, None if beyond is None else read_as(Estimate, beyond))


def keep_points(file: Path, points: Mapping[str, SweepPoint]) -> None:
    """Add points to a results file: the whole file is written beside it and renamed, so that it is never half one."""
    merged = load_points(file) | points
    lines = [
        json.dumps(
            {
                "key": key,
                "layers": point.layers,
                "rank": point.rank,
                "strength": point.strength,
                "method": point.method,
                "sites": point.sites,
                "scorers": {name: asdict(effect) for name, effect in point.effects.items()},
                "unmatched": point.unmatched,
            }
        )
        for key, point in merged.items()
    ]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, "".join(f"{line}\n" for line in lines))
    except OSError as error:
        raise InputError(f"{file} cannot be written ({error.strerror}): name another file for the results.") from None
