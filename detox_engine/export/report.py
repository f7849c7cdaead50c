"""A study and what was measured of it as one HTML file, drawn by the dashboard's own figures in a process of its own.

The engine knows no chart: it gathers what is to be told and starts `python -m pages.report`, as `detox app` starts the
dashboard.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from detox_engine.data.bundled import HOME
from detox_engine.disk import scratch_folder, write_json
from detox_engine.errors import InputError, Progress, ignore_progress
from detox_engine.plans.edit import EditPlan, record_edit
from detox_engine.study.study import require_new_file

if TYPE_CHECKING:
    from detox_engine.model.load import OpenModel
    from detox_engine.reading.directions import DirectionReading
    from detox_engine.study.study import Study

LAYERS_READ = 6
"""Layers whose first direction a report reads in words, evenly over those that are edited."""
TOP = 12
"""Tokens at each pole of a direction."""
STAGE = "Drawing the report"


@dataclass(frozen=True, eq=False)
class Told:
    """What a report tells besides the study itself."""

    edit: EditPlan
    model: str
    """As others call it."""
    readings: Sequence[Mapping[str, Any]] = ()
    """As `read_for_report` made them."""
    evaluation: Mapping[str, Any] | None = None
    """As `record_evaluation` made it."""
    sweep: Path | None = None
    """A sweep's file of results."""
    verdict: Mapping[str, Any] | None = None
    """As `record_verdict` made it."""


def read_for_report(
    model: OpenModel, study: Study, edit: EditPlan, progress: Progress = ignore_progress
) -> list[dict[str, Any]]:
    """The first direction of some of the layers that `edit` changes, by what its removal changes in what follows."""
    from detox_engine.reading.directions import read_directions

    picked = np.linspace(0, len(edit.layers) - 1, min(LAYERS_READ, len(edit.layers))).round().astype(int)
    layers = [edit.layers[place] for place in dict.fromkeys(picked.tolist())]
    return [
        record_reading(each) for each in read_directions(model, study, layers, 1, TOP, "causal", edit.method, progress)
    ]


def record_reading(found: DirectionReading) -> dict[str, Any]:
    """A direction and its tokens, as a report shows them."""
    reading = found.reading
    return {
        "layer": found.layer,
        "direction": found.direction,
        "share": found.share,
        "polarity": found.polarity,
        "readable": reading.is_readable,
        "toxic": [[token.word, token.score] for token in reading.toxic_pole],
        "civil": [[token.word, token.score] for token in reading.civil_pole],
    }


def write_report(study: Path, told: Told, out: Path, progress: Progress = ignore_progress) -> None:
    """Draw the report of the study in a folder into the new file `out`.

    Raises:
        InputError: the file exists or cannot be written, or there is no dashboard here to draw it.
    """
    require_new_file(out)
    if not (HOME / "pages" / "report").is_dir():
        raise InputError(f"The dashboard is missing (looked for {HOME / 'pages'}): run from a whole installation.")
    progress(STAGE, 0, 1)
    record = asdict(told) | {"edit": record_edit(told.edit), "sweep": None if told.sweep is None else str(told.sweep)}
    with scratch_folder() as place:
        file = place / "told.json"
        file.write_text(write_json(record), encoding="utf-8")
        path = os.pathsep.join(filter(None, [str(HOME), os.environ.get("PYTHONPATH")]))
        command = [sys.executable, "-m", "pages.report", str(study.absolute()), str(file), str(out.absolute())]
        drawn = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
    if drawn.returncode:
        said = drawn.stderr.strip().splitlines() or ["it ended without a word"]
        raise InputError(said[-1] if drawn.returncode == 2 else f"The report could not be drawn: {said[-1][:300]}")
    progress(STAGE, 1, 1)
