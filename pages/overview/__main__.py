"""Work out what the Overview opens with for a model at hand, once its study is kept: `python -m pages.overview`."""

import sys

from detox_engine.cli.output import progress_bars
from detox_engine.plans.sources import BUNDLED, ModelSpec
from detox_engine.workbench import Workbench
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
    if find_opening(asked, study) is None:
        with progress_bars() as progress:
            open_up(Workbench.load(key.model, progress), study, asked, progress, lambda found: None)


if __name__ == "__main__":
    main(*sys.argv[1:])
