"""What was asked of a study and answered, kept on disk with the question: found again after a reload, after a restart
and in other sessions.

A result is one JSON file. A study's results lie together, the same for the same weights, pairs and fit, whoever fitted
it and however often.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, get_origin

from detox_engine.disk import read_record, write_whole
from detox_engine.errors import InputError
from ui.session.folders import folder_of
from ui.session.kept import Kept
from ui.session.view import Fitted
from ui.words import rude_words

if TYPE_CHECKING:
    from cattrs import Converter

    from detox_engine.study.study import Study

ROOM = "results"
FORMAT = 1
LARGEST = 2**28
"""Bytes of a result that are read at most."""
LONGEST_NAME = 60
A = TypeVar("A")
R = TypeVar("R")


@dataclass(frozen=True, eq=False)
class KeptResult(Generic[A, R]):
    """A question and its answer."""

    file: Path | None
    """None where it is in memory alone."""
    asked: A
    found: R
    made: str
    """When, in ISO 8601, UTC."""
    whole: bool
    """Whether it was answered to the end."""
    name: str = ""
    """What a person calls it; empty where nobody gave it a name."""


@dataclass(frozen=True)
class Shape(Generic[A, R]):
    """What questions and answers of one kind are made of: dataclasses, numbers, texts and NumPy arrays of them."""

    kind: str
    """The folder within a study's."""
    asked: type[A]
    find: Callable[[], type[R]]
    """Imports the class of the answers, which takes seconds where nobody has yet."""


_READ: Kept[tuple[Path, int, Fitted], KeptResult[Any, Any]] = Kept(64)
"""Those that were read, by their file, when it was last changed, and the study at hand."""


def find_folder(study: Study) -> Path:
    """Where what was found with a study lies."""
    return folder_of(ROOM, study.model.weights_hash, study.pairs_hash, study.plan)


def list_results(shape: Shape[A, R], study: Study, fitted: Fitted) -> list[KeptResult[A, R]]:
    """All of a kind, the latest last; what cannot be read is left out, and left where it is."""
    found = []
    for file in _list_files(shape, study):
        with suppress(OSError):
            key = (file, file.stat().st_mtime_ns, fitted)
            result = _READ.find(key)
            if result is None:
                result = _read(shape, file, fitted)
                if result is None:
                    continue
                _READ.keep(key, result)
            found.append(result)
    return sorted(found, key=lambda result: (result.made, result.file.name))


def _list_files(shape: Shape[Any, Any], study: Study) -> list[Path]:
    folder = find_folder(study) / shape.kind
    try:
        return [file for file in folder.iterdir() if file.suffix == ".json"]
    except OSError:
        return []


def keep_result(
    shape: Shape[A, R], study: Study, asked: A, found: R, whole: bool, texts: Iterable[str] = ()
) -> KeptResult[A, R] | None:
    """Keep an answer in place of an earlier one to the same question, with which words of its `texts` are rude.

    An answer in part gives way to one that is whole. None where the disk takes nothing: then it stays in memory alone.
    """
    question = json.dumps(_converter(None).unstructure(asked, shape.asked), sort_keys=True)
    file = find_folder(study) / shape.kind / f"{hashlib.sha256(question.encode()).hexdigest()[:32]}.json"
    earlier = read_record(file, LARGEST, FORMAT)
    if not whole and earlier is not None and earlier["whole"]:
        return None
    result = KeptResult(
        file, asked, found, datetime.now(UTC).isoformat(timespec="microseconds"), whole, (earlier or {}).get("name", "")
    )
    record = {
        "format": FORMAT,
        "made": result.made,
        "whole": whole,
        "name": result.name,
        "asked": json.loads(question),
        "found": _converter(None).unstructure(found, shape.find()),
        "rude_words": rude_words.rate_words(texts),
    }
    return result if _write(file, record) else None


def hold_result(asked: A, found: R, whole: bool, before: KeptResult[A, R] | None) -> KeptResult[A, R]:
    """An answer that is in memory alone, or stands for what is on disk while it is found anew."""
    made = datetime.now(UTC).isoformat(timespec="microseconds")
    return KeptResult(before and before.file, asked, found, made, whole, before.name if before else "")


def tidy_name(name: str) -> str:
    """What a person calls something, on one line and not too long."""
    return " ".join(name.split())[:LONGEST_NAME]


def name_result(result: KeptResult[Any, Any], name: str) -> None:
    """Give a result a name; an empty one takes it away.

    Raises:
        InputError: it is not there any more, or cannot be written.
    """
    record = None if result.file is None else read_record(result.file, LARGEST, FORMAT)
    if record is None or not _write(result.file, record | {"name": tidy_name(name)}):
        raise InputError("The name could not be kept: the result is gone, or the disk takes nothing.")


def delete_result(result: KeptResult[Any, Any]) -> None:
    """Take a result from the disk.

    Raises:
        InputError: it cannot be taken away.
    """
    if result.file is None:
        return
    try:
        result.file.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"The result cannot be deleted ({error.strerror}).") from None


def _read(shape: Shape[A, R], file: Path, fitted: Fitted) -> KeptResult[A, R] | None:
    record = read_record(file, LARGEST, FORMAT)
    try:
        words = {str(word): bool(rude) for word, rude in record["rude_words"].items()}
        converter = _converter(fitted)
        result = KeptResult(
            file,
            converter.structure(record["asked"], shape.asked),
            converter.structure(record["found"], shape.find()),
            str(record["made"]),
            bool(record["whole"]),
            str(record["name"])[:LONGEST_NAME],
        )
    # A converter raises whatever the file's values lead to: it may be of another version, or of anybody.
    except Exception:
        return None
    rude_words.learn_words(words)
    return result


def _write(file: Path, record: dict[str, Any]) -> bool:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # Not `write_json`: a NaN that came back as nothing would be no number.
        write_whole(file, json.dumps(record, ensure_ascii=False))
    except (OSError, ValueError):
        return False
    return True


@lru_cache(8)
def _converter(fitted: Fitted | None) -> Converter:
    """Between values and JSON. A study is not written down, as the folder is its own: `fitted` stands for it again."""
    import numpy as np
    from cattrs import Converter

    from detox_engine.plans.evaluation import EvaluationPlan
    from detox_engine.scoring.scorer import ScorerKind
    from detox_engine.scoring.scorers import read_plan, record_plan, scorers

    converter = Converter(forbid_extra_keys=True, detailed_validation=False)

    def is_array(kind: Any) -> bool:
        return kind is np.ndarray or get_origin(kind) is np.ndarray

    converter.register_unstructure_hook_func(is_array, lambda array: array.tolist())
    converter.register_structure_hook_func(is_array, lambda value, _: np.asarray(value, dtype=np.float64))
    for kind in (frozenset, set):
        converter.register_unstructure_hook_func(
            lambda given, kind=kind: get_origin(given) is kind,
            lambda value: sorted(list(each) if isinstance(each, tuple) else each for each in value),
        )
    converter.register_unstructure_hook(Fitted, lambda _: None)
    converter.register_structure_hook(Fitted, lambda _, __: fitted)
    converter.register_unstructure_hook(EvaluationPlan, record_plan)
    converter.register_structure_hook(EvaluationPlan, lambda value, _: read_plan(value))
    converter.register_unstructure_hook(ScorerKind, lambda kind: kind.name)
    converter.register_structure_hook(ScorerKind, lambda name, _: scorers()[name])
    return converter
