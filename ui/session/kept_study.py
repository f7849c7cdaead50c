"""Studies kept on disk between starts: those of a first visit to a model at hand, and those that people fit.

`python -m ui.session.kept_study [MODEL]` makes one; `make app` does so when it installs. A kept study is found and read
without the model, whose library takes seconds to import, and comes with which of its words are to be blurred, which
takes the scorer.
"""

from __future__ import annotations

import json
import shutil
import sys
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from detox_engine.data.bundled import BUNDLED_MODEL, bundled_pairs, find_smollm2
from detox_engine.disk import hash_file, write_whole
from detox_engine.errors import InputError
from detox_engine.plans.sources import AT_HAND, BUNDLED, SMOLLM2, ModelSpec, find_place, is_path
from ui.session import library
from ui.session.folders import folder_of
from ui.session.places import keeps_results
from ui.session.view import StudyKey
from ui.words import rude_words

if TYPE_CHECKING:
    from detox_engine.study.study import Study

ROOM = "studies"
WORDS = "words.json"


def is_of_first_visit(key: StudyKey) -> bool:
    """Whether it is the study of a model at hand as it comes, with the pairs and the plan of a first visit."""
    return key.model.name in AT_HAND and key == StudyKey(ModelSpec(key.model.name))


def is_to_be_kept(key: StudyKey) -> bool:
    """Whether a study stays: on a server for others only that of a first visit does, which is nobody's."""
    return is_of_first_visit(key) or keeps_results()


def find_folder(key: StudyKey) -> Path:
    """Where the study of a model and pairs as they are now, of this plan, machine and packages lies.

    Whether a model or a data set of the Hub has changed is not looked up.

    Raises:
        InputError: the model is not installed.
        OSError: a file is not there.
    """
    import torch

    from detox_engine.study.study import FORMAT, stamp
    from detox_engine.study.suggestion import SEARCH

    contents = [*_stamp_model(key.model), *_stamp_pairs(key)]
    _, versions = stamp()
    lists = sorted(rude_words.INSULTS), sorted(rude_words.HARMLESS)
    words = rude_words.RUDE_FROM, *lists, version("alt-profanity-check")
    machine = str(torch.accelerator.current_accelerator(True))
    # What comes with an installation is made anew by a better search; what a person has fitted stays as it is.
    search = (SEARCH,) if is_of_first_visit(key) else ()
    return folder_of(ROOM, FORMAT, contents, machine, key, versions, words, *search)


def _stamp_model(spec: ModelSpec) -> list[object]:
    """What changes when the files of a model do: those at hand by their bytes, others, which can be large, by date."""
    place = find_place(spec)
    if spec.name in AT_HAND:
        return [_hash(path) for path in list_files(spec.name)]
    if place is None:
        return []
    files = sorted(path for path in place.iterdir() if path.is_file()) if place.is_dir() else [place]
    return [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]


def _stamp_pairs(key: StudyKey) -> list[str]:
    source = key.fit.pairs.source
    file = bundled_pairs(key.model.name) if source == BUNDLED else Path(source)
    return [_hash(file)] if source == BUNDLED or is_path(source) else []


def list_files(name: str) -> list[Path]:
    """The files of a model at hand.

    Raises:
        InputError: it is not installed.
    """
    if name == SMOLLM2:
        return [find_smollm2()]
    return sorted(path for path in BUNDLED_MODEL.iterdir() if path.suffix in (".json", ".safetensors"))


def _hash(path: Path) -> str:
    return _digest(path, path.stat().st_size, path.stat().st_mtime_ns)


@lru_cache(64)
def _digest(path: Path, size: int, changed: int) -> str:
    """The hash of a file that was last changed then; a hundred megabytes are not read in every run of a page."""
    return hash_file(path)


def has_study(key: StudyKey) -> bool:
    """Whether this study is kept, as far as can be told without reading it."""
    try:
        return is_to_be_kept(key) and (find_folder(key) / WORDS).is_file()  # which is written last
    except (InputError, OSError):
        return False


def read_study(key: StudyKey, folder: Path | None = None) -> Study | None:
    """The kept study, or None where there is none that is whole.

    Args:
        folder: where it lies, where that is not where a study of now would.
    """
    from detox_engine.study.study import Study

    try:
        folder = folder or find_folder(key)
        study = Study.load(folder)
        rude_words.learn_words(json.loads((folder / WORDS).read_text(encoding="utf-8")))
    except (InputError, OSError, ValueError):
        return None
    return study


def keep_study(key: StudyKey, study: Study) -> None:
    """Keep a study for the next start; a disk that takes none only costs that start its seconds."""
    sides = (side for pair in study.pairs for side in (pair.prompt, pair.toxic, pair.civil))
    try:
        folder = find_folder(key)
        name = library.find_name(folder)
        # What was kept and could not be read is in the way.
        shutil.rmtree(folder, ignore_errors=True)
        study.save(folder)
        library.keep_entry(folder, key, study, name)
        write_whole(folder / WORDS, json.dumps(rude_words.rate_words(sides)))
    except (InputError, OSError):
        return


def keep_suggestion(key: StudyKey, study: Study) -> None:
    """Keep what a check said of a kept study's suggestion."""
    with suppress(InputError, OSError):
        if has_study(key):
            folder = find_folder(key)
            study.write_suggestion(folder)
            library.keep_entry(folder, key, study, library.find_name(folder))


def main(name: str = BUNDLED) -> None:
    """Fit a model at hand as on a first visit and keep the study, unless it is kept already."""
    from detox_engine.cli.output import progress_bars
    from detox_engine.workbench import Workbench

    key = StudyKey(ModelSpec(name))
    if read_study(key) is None:
        with progress_bars() as progress:
            bench = Workbench.load(key.model, progress)
            study = bench.fit_and_suggest(key.fit, progress, keep_moments=False)
            suggests = study.suggestion is not None and study.suggestion.edit is not None
            keep_study(key, bench.check(study, progress) if suggests else study)


if __name__ == "__main__":
    main(*sys.argv[1:])
