"""Notes: kept with the study, replaced as a whole, never half-written."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from detox_engine.errors import InputError
from detox_engine.study import notes
from detox_engine.study.notes import find_note, read_notes, write_note
from detox_engine.study.study import Study

STUDY = SimpleNamespace(layers=3, of=lambda method: (SimpleNamespace(kept=40),) * 3)
"""What notes need of a study: its layers and how many directions each kept."""
STUDY.check_direction = partial(Study.check_direction, STUDY)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Not there yet."""
    return tmp_path / "notes" / "of a study"


def test_a_note_is_read_back_and_replaced_and_taken_away(folder):
    assert read_notes(folder) == () and find_note(folder, 0, 1) == ""
    long = "Insults; “café” 日本 <b>\nsecond line"
    assert write_note(folder, STUDY, 2, 0, long) == long
    write_note(folder, STUDY, 0, 1, "Commas")
    both = read_notes(folder)
    assert [(note.layer, note.direction, note.text) for note in both] == [(0, 1, "Commas"), (2, 0, long)]
    assert both[1].written.endswith("+00:00")
    write_note(folder, STUDY, 0, 1, "Full stops")
    assert find_note(folder, 0, 1) == "Full stops" and find_note(folder, 2, 0) == long
    assert write_note(folder, STUDY, 0, 1, "  \n") == ""
    assert [note.layer for note in read_notes(folder)] == [2]
    assert [path.name for path in folder.iterdir()] == ["notes.json"]


def test_a_note_that_someone_else_changed_meanwhile_keeps_both_texts(folder):
    write_note(folder, STUDY, 0, 0, "Mine", seen="")
    write_note(folder, STUDY, 0, 0, "Mine, longer", seen="Mine")
    assert find_note(folder, 0, 0) == "Mine, longer"
    assert write_note(folder, STUDY, 0, 0, "Yours", seen="Mine") == "Mine, longer\n\nYours"
    assert write_note(folder, STUDY, 0, 0, "", seen="Mine") == find_note(folder, 0, 0) == "Mine, longer\n\nYours"
    assert write_note(folder, STUDY, 0, 0, "", seen="Mine, longer\n\nYours") == ""


def test_a_failed_write_leaves_the_old_notes_and_nothing_else(folder, monkeypatch):
    write_note(folder, STUDY, 1, 0, "Kept")

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(notes.Path, "replace", fail)
    with pytest.raises(InputError, match="notes.json cannot be written: No space left on device"):
        write_note(folder, STUDY, 1, 0, "Lost")
    assert find_note(folder, 1, 0) == "Kept"
    assert sorted(path.name for path in folder.iterdir()) == ["notes.json"]


def test_notes_written_at_once_are_all_kept(folder):
    with ThreadPoolExecutor(8) as writers:
        list(writers.map(lambda direction: write_note(folder, STUDY, 0, direction, f"Note {direction}"), range(40)))
    assert [note.text for note in read_notes(folder)] == [f"Note {direction}" for direction in range(40)]


@pytest.mark.parametrize(
    ("place", "text", "says"),
    [
        ((3, 0), "x", "Layer 3 is outside the model: its layers are 0-2"),
        ((-1, 0), "x", "Layer -1 is outside"),
        ((0, -1), "x", "Direction -1 of layer 0 was not kept: choose one of 0-39"),
        ((0, 40), "x", "Direction 40 of layer 0 was not kept"),
        ((0, 0), "x" * 10_001, "at most 10,000 characters"),
        ((0, 0), "\ud800", "not UTF-8"),
    ],
)
def test_a_note_that_cannot_be_kept_gets_a_sentence_and_changes_nothing(folder, place, text, says):
    with pytest.raises(InputError, match=says):
        write_note(folder, STUDY, *place, text)
    assert not folder.exists()


def test_broken_notes_get_a_sentence_and_stay_as_they_are(folder):
    write_note(folder, STUDY, 0, 0, "x")
    (folder / "notes.json").write_text("{broken")
    for call in (lambda: read_notes(folder), lambda: write_note(folder, STUDY, 0, 0, "y")):
        with pytest.raises(InputError, match="notes.json cannot be read: mend the file"):
            call()
    assert (folder / "notes.json").read_text() == "{broken"


def test_a_folder_that_cannot_be_made_gets_a_sentence(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InputError, match="cannot be (read|written)"):
        write_note(tmp_path / "file" / "notes", STUDY, 0, 0, "x")
