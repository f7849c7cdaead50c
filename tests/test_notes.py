"""Notes: kept with the study, replaced as a whole, never half-written."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from detox_engine import notes
from detox_engine.errors import InputError
from detox_engine.notes import read_notes, write_note


@pytest.fixture
def study(tmp_path) -> Path:
    """What notes need of a study: its folder and how many layers it has."""
    (tmp_path / "study.json").write_text(json.dumps({"model": {"layers": 3}}))
    return tmp_path


def test_a_note_is_read_back_and_replaced_and_taken_away(study):
    assert read_notes(study) == ()
    write_note(study, 2, 0, "Insults; “café” 日本 <b>\nsecond line")
    both = write_note(study, 0, 1, "Commas")
    assert [(note.layer, note.direction) for note in both] == [(0, 1), (2, 0)] and read_notes(study) == both
    assert both[1].text == "Insults; “café” 日本 <b>\nsecond line" and both[1].written.endswith("+00:00")
    assert [note.text for note in write_note(study, 0, 1, "Full stops")] == ["Full stops", both[1].text]
    assert [note.layer for note in write_note(study, 0, 1, "  \n")] == [2]
    assert sorted(path.name for path in study.iterdir()) == ["notes.json", "study.json"]


def test_a_failed_write_leaves_the_old_notes_and_nothing_else(study, monkeypatch):
    kept = write_note(study, 1, 0, "Kept")

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(notes.Path, "replace", fail)
    with pytest.raises(InputError, match="notes.json cannot be written: No space left on device"):
        write_note(study, 1, 0, "Lost")
    assert read_notes(study) == kept
    assert sorted(path.name for path in study.iterdir()) == ["notes.json", "study.json"]


def test_notes_written_at_once_are_all_kept(study):
    with ThreadPoolExecutor(8) as writers:
        list(writers.map(lambda direction: write_note(study, 0, direction, f"Note {direction}"), range(40)))
    assert [note.text for note in read_notes(study)] == [f"Note {direction}" for direction in range(40)]


@pytest.mark.parametrize(
    ("place", "text", "says"),
    [
        ((3, 0), "x", "Layer 3 is outside the model: its layers are 0-2"),
        ((-1, 0), "x", "Layer -1 is outside"),
        ((0, -1), "x", "no direction -1"),
        ((0, 0), "x" * 10_001, "at most 10,000 characters"),
        ((0, 0), "\ud800", "not UTF-8"),
    ],
)
def test_a_note_that_cannot_be_kept_gets_a_sentence_and_changes_nothing(study, place, text, says):
    with pytest.raises(InputError, match=says):
        write_note(study, *place, text)
    assert [path.name for path in study.iterdir()] == ["study.json"]


def test_a_folder_that_is_no_study_or_notes_that_are_broken_get_a_sentence(study, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    for call in (lambda: read_notes(empty), lambda: write_note(empty, 0, 0, "x")):
        with pytest.raises(InputError, match="is no study"):
            call()
    assert list(empty.iterdir()) == []
    (study / "notes.json").write_text("{broken")
    with pytest.raises(InputError, match="notes.json cannot be read: mend the file"):
        write_note(study, 0, 0, "x")
    assert (study / "notes.json").read_text() == "{broken"
