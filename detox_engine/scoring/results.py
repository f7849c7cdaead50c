"""Results that are kept under a key, each as soon as it is measured: those of a sweep, and pieces of what is long."""

import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from detox_engine.disk import read_as, write_whole
from detox_engine.errors import InputError
from detox_engine.estimates import Control, Effect, Estimate
from detox_engine.plans.edit import EditPlan, Sites

Result = TypeVar("Result")

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


def load_kept(file: Path, read: Callable[[Mapping[str, Any]], Result], what: str) -> dict[str, Result]:
    """Key -> result, of a file that may be anybody's; none where there is no file yet.

    Args:
        read: what makes a result of a line's record; it fails where that is none.
        what: results of which kind, for a sentence.

    Raises:
        InputError: it is no results file, or a line of it is broken.
    """
    results, number = {}, 0
    try:
        if file.exists() and (not file.is_file() or file.stat().st_size > LARGEST):
            raise ValueError
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        for number, line in enumerate(lines, start=1):  # noqa: B007  (the except clause names it)
            record = json.loads(line)
            results[str(record["key"])] = read(record)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise InputError(
            f"{file}, line {number}: no result of a {what} can be read from it; remove the file, or name another."
        ) from None
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}): name another file for the results.") from None
    return results


def keep_results(file: Path, records: Mapping[str, Mapping[str, Any]]) -> None:
    """Key -> record, a line each: the whole file is written beside it and renamed, so that it is never half one.

    Raises:
        InputError: it cannot be written.
    """
    lines = [json.dumps({"key": key, **record}) + "\n" for key, record in records.items()]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, "".join(lines))
    except OSError as error:
        raise InputError(f"{file} cannot be written ({error.strerror}): name another file for the results.") from None


def load_points(file: Path) -> dict[str, SweepPoint]:
    """Key -> point, of the results file of a sweep; raises like `load_kept`."""
    return load_kept(file, _read_point, "sweep")


def _read_point(record: Mapping[str, Any]) -> SweepPoint:
    effects = {name: _read_effect(effect) for name, effect in record["scorers"].items()}
    # Files of earlier versions know of one method, one site and one kind of control.
    later = {name: record[name] for name in ("method", "sites", "unmatched") if name in record}
    setting = {name: record[name] for name in ("layers", "rank", "strength")} | later
    return SweepPoint(**asdict(read_as(_Setting, setting)), effects=effects)


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
    """Add points to the results file of a sweep; raises like `keep_results`."""
    merged = load_points(file) | points
    keep_results(file, {key: _record_point(point) for key, point in merged.items()})


def _record_point(point: SweepPoint) -> dict[str, Any]:
    return {
        "layers": point.layers,
        "rank": point.rank,
        "strength": point.strength,
        "method": point.method,
        "sites": point.sites,
        "scorers": {name: asdict(effect) for name, effect in point.effects.items()},
        "unmatched": point.unmatched,
    }


class Pieces:
    """What a long measurement has come to, piece by piece, each in a file as soon as it is there.

    Whoever was stopped and asks for the same pieces again makes only those that are missing.
    """

    def __init__(self, folder: Path) -> None:
        """
        Args:
            folder: holds nothing else; where it takes no piece, or holds a broken one, that piece is made anew.
        """
        self.folder = folder

    def find_or_make(self, name: str, kind: Any, make: Callable[[], Result]) -> Result:
        """The piece called `name`, from its file or made now.

        Args:
            kind: its type, of dataclasses, tuples, lists and numbers.
        """
        from pydantic import TypeAdapter

        adapter, file = TypeAdapter(kind), self.folder / f"{name}.json"
        with suppress(OSError, ValueError, RecursionError):
            if file.stat().st_size <= LARGEST:
                # By `json`, which has words for numbers that are infinite or none.
                return adapter.validate_python(json.loads(file.read_text(encoding="utf-8")))
        made = make()
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(file, json.dumps(adapter.dump_python(made, mode="json"), ensure_ascii=False))
        return made

    def clear(self) -> None:
        """Take all away, once the whole is there."""
        shutil.rmtree(self.folder, ignore_errors=True)
