"""Work out what the Overview opens with for a model at hand, once its study is kept: `python -m pages.overview`.

Of the demo model also what each strength shows; of a larger one that would take minutes.
"""

import sys
from dataclasses import replace

from detox_engine.cli.output import progress_bars
from detox_engine.plans.sources import BUNDLED, ModelSpec
from detox_engine.workbench import Workbench
from pages.overview.moves import find_move, work_out_moves
from pages.overview.opening import Asked, find_opening
from pages.overview.work import open_up
from ui.session import kept_study
from ui.session.view import Fitted, StudyKey


def main(name: str = BUNDLED) -> None:
    key = StudyKey(ModelSpec(name))
    study = kept_study.read_study(key)
    if study is None:
        return
    asked = Asked(Fitted(key, study.made), study.suggested_edit)
    opening, still = find_opening(asked, study), replace(asked.edit, strength=0.0)
    lacks_moves = name == BUNDLED and find_move(asked, study, still) is None
    if opening is not None and not lacks_moves:
        return
    with progress_bars() as progress:
        bench = Workbench.load(key.model, progress)
        if opening is None:
            opening = open_up(bench, study, asked, progress, lambda found: None)
        if lacks_moves:
            work_out_moves(bench, study, asked, opening, progress)


if __name__ == "__main__":
    main(*sys.argv[1:])
