"""The study of a first visit, kept on disk between starts, so that the dashboard opens with it.

`python -m ui.session.kept_study` makes it; `make app` does so when it installs. It is found and read without the model,
whose library takes seconds to import, and comes with which of its words are to be blurred, which takes the scorer.
"""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from detox_engine.data.bundled import DEMO
from detox_engine.errors import InputError
from detox_engine.plans.fit import FitPlan
from ui.session.folders import folder_of
from ui.words import rude_words

if TYPE_CHECKING:
    from detox_engine.study.study import Study

WORDS = "words.json"


def find_folder(plan: FitPlan) -> Path:
    """Where the study of the bundled model and its pairs as they are, this plan, machine and packages lies."""
    import torch

    from detox_engine.study.study import FORMAT, stamp

    files = sorted(path for path in (DEMO / "model").iterdir() if path.suffix in (".json", ".safetensors"))
    contents = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (*files, DEMO / "pairs.jsonl")]
    _, versions = stamp()
    lists = sorted(rude_words.INSULTS), sorted(rude_words.HARMLESS)
    words = rude_words.RUDE_FROM, *lists, version("alt-profanity-check")
    machine = str(torch.accelerator.current_accelerator(True))
    return folder_of("studies", FORMAT, contents, machine, plan, versions, words)


def read_study(plan: FitPlan) -> Study | None:
    """The kept study, or None where there is none that is whole."""
    from detox_engine.study.study import Study

    try:
        folder = find_folder(plan)
        study = Study.load(folder)
        rude_words.learn_words(json.loads((folder / WORDS).read_text(encoding="utf-8")))
    except (InputError, OSError, ValueError):
        return None
    return study


def keep_study(study: Study) -> None:
    """Keep a study for the next start; a disk that takes none only costs that start its seconds."""
    sides = (side for pair in study.pairs for side in (pair.prompt, pair.toxic, pair.civil))
    try:
        folder = find_folder(study.plan)
        study.save(folder)
        (folder / WORDS).write_text(json.dumps(rude_words.rate_words(sides)), encoding="utf-8")
    except (InputError, OSError):
        return


def main() -> None:
    from detox_engine.workbench import Workbench

    if read_study(FitPlan()) is None:
        keep_study(Workbench.load().fit(keep_moments=False))


if __name__ == "__main__":
    main()
