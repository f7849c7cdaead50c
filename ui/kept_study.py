"""The study of a first visit, kept on disk between starts, so that the dashboard opens with it.

`python -m ui.kept_study` makes it; `make app` does so when it installs.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from detox_engine.errors import InputError
from detox_engine.specs import FitPlan
from ui.uploads import cache_folder

if TYPE_CHECKING:
    from detox_engine.study import Study
    from detox_engine.workbench import Workbench


def find_folder(workbench: Workbench, plan: FitPlan) -> Path:
    """Where the study of these weights, these pairs, this plan and these packages lies, if it was made."""
    from detox_engine.study import FORMAT, stamp
    from detox_engine.workbench import bundled_pairs

    pairs = hashlib.sha256(bundled_pairs(workbench.loaded.spec.name).read_bytes()).hexdigest()
    _, versions = stamp()
    answers = repr((FORMAT, workbench.loaded.weights_hash, str(workbench.loaded.model.device), pairs, plan, versions))
    return cache_folder() / "studies" / hashlib.sha256(answers.encode()).hexdigest()[:32]


def read_study(workbench: Workbench, plan: FitPlan) -> Study | None:
    """The kept study, or None where there is none that is whole and of this model."""
    from detox_engine.study import Study

    try:
        study = Study.load(find_folder(workbench, plan))
        study.require_fit(workbench.loaded)
    except (InputError, OSError):
        return None
    return study


def keep_study(workbench: Workbench, study: Study) -> None:
    """Keep a study for the next start; a disk that takes none only costs that start its seconds."""
    try:
        study.save(find_folder(workbench, study.plan))
    except (InputError, OSError):
        return


def main() -> None:
    from detox_engine.workbench import Workbench

    workbench = Workbench.load()
    if read_study(workbench, FitPlan()) is None:
        keep_study(workbench, workbench.fit())


if __name__ == "__main__":
    main()
