"""What the Overview shows at other strengths of the suggested edit, worked out beforehand for the demo model.

Its slider then waits for no model: text, map and numbers of a strength are looked up. They are made once, at
installation, and kept beside the opening; where they are missing, as with a model of one's own, each strength is worked
out when it is asked for, and comes to the same.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from detox_engine.study.suggestion import Change
from pages.overview.measuring import FIRST_LOOK, measure_several
from pages.overview.opening import (
    Asked,
    Opening,
    Places,
    Written,
    find_file,
    keep_record,
    read_change,
    read_places,
    read_record,
    read_written,
)
from pages.overview.work import Prompted, Reread, go_on, read_again
from ui.session import kept_study
from ui.session.kept import Kept

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from detox_engine.errors import Progress
    from detox_engine.plans.edit import EditPlan
    from detox_engine.study.study import Study
    from detox_engine.workbench import Workbench

STRENGTHS = tuple(round(0.05 * step, 2) for step in range(41))
"""Those of the slider."""
AT_ONCE = 6
"""Strengths whose numbers share a pass, each with its random directions."""


@dataclass(frozen=True)
class Move:
    """What one strength shows."""

    written: Written
    """The opening's prompt gone on with."""
    after: Places
    """Where the opening's texts lie."""
    changes: tuple[Change, ...]
    """What a first look at it comes to."""


Moves = dict[float, Move]
"""By strength."""
KEPT: Kept[Asked, Moves] = Kept(2)
"""Those that were read from disk."""


def find_move(asked: Asked, study: Study, edit: EditPlan) -> Move | None:
    """What an edit shows that is the suggested one but for its strength; None where that was not worked out."""
    if replace(edit, strength=asked.edit.strength) != asked.edit or not kept_study.is_to_be_kept(asked.fitted.study):
        return None
    found = KEPT.find(asked)
    if found is None:
        found = KEPT.keep(asked, read_record(_find_file(asked, study), _read) or {})
    return found.get(edit.strength)


def work_out_moves(bench: Workbench, study: Study, asked: Asked, opening: Opening, progress: Progress) -> Moves:
    """All strengths of the slider, which are kept on disk where the opening is; an edit of 0 removes nothing."""
    edits = [replace(asked.edit, strength=strength) for strength in STRENGTHS]

    def ignore(found: object) -> None:
        """Nobody waits for a part."""

    moves = {}
    for start in range(0, len(edits), AT_ONCE):
        some = edits[start : start + AT_ONCE]
        progress("Moving the strength", start, len(edits))
        for edit, changes in zip(some, measure_several(bench.model, study, some, FIRST_LOOK, progress), strict=True):
            written = go_on(bench, study, Prompted(asked.fitted, edit, opening.written.prompt), progress, ignore)
            again = Reread(asked.fitted, edit, asked.edit.method, opening.scene.layer, opening.scene.pairs)
            moves[edit.strength] = Move(written, read_again(bench, study, again, progress, ignore), changes)
    progress("Moving the strength", len(edits), len(edits))
    record = {"moves": [asdict(move) | {"strength": strength} for strength, move in moves.items()]}
    keep_record(_find_file(asked, study), record, [text for move in moves.values() for text in move.written.texts])
    return moves


def _find_file(asked: Asked, study: Study) -> Path:
    return find_file(asked, study).with_name("moves.json")


def _read(record: Mapping[str, Any]) -> Moves:
    """What `work_out_moves` kept; fails with the errors of whatever it is instead."""
    return {float(each["strength"]): _read_move(each) for each in record["moves"]}


def _read_move(record: Mapping[str, Any]) -> Move:
    changes: Sequence[Mapping[str, Any]] = record["changes"]
    return Move(
        read_written(record["written"]), read_places(record["after"]), tuple(read_change(each) for each in changes)
    )
