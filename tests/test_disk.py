"""What is written is whole, or it is as if nothing had been written."""

import os
from pathlib import Path

import pytest

from detox_engine.disk import PARTIAL, clear_leftovers, new_folder, write_whole


def test_a_file_that_cannot_be_written_whole_stays_as_it_was(tmp_path):
    file = tmp_path / "notes.json"
    write_whole(file, "[“one”]\n")
    assert file.read_bytes() == "[“one”]\n".encode()
    with pytest.raises(UnicodeEncodeError):
        write_whole(file, "half of a character: \ud83d")
    assert file.read_bytes() == "[“one”]\n".encode() and list(tmp_path.iterdir()) == [file]


def test_a_folder_whose_filling_fails_leaves_nothing(tmp_path):
    folder = tmp_path / "study"
    with pytest.raises(RuntimeError, match="midway"), new_folder(folder) as partial:
        (partial / "half").write_text("half")
        raise RuntimeError("midway")
    assert list(tmp_path.iterdir()) == []
    with new_folder(folder) as partial:
        (partial / "whole").write_text("whole")
    assert [file.name for file in folder.iterdir()] == ["whole"] and list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("kind", ["device", "pipe", "folder"])
def test_what_is_no_regular_file_is_not_replaced(tmp_path, kind):
    place = tmp_path / "there"
    if kind == "device":
        place = Path(os.devnull)
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        place.mkdir()
    mode = place.stat().st_mode
    with pytest.raises(OSError, match="no regular file"):
        write_whole(place, "content")
    assert place.stat().st_mode == mode and len(list(tmp_path.iterdir())) == (kind != "device")


def test_what_is_being_written_is_no_leftover(tmp_path):
    with new_folder(tmp_path / "whole") as partial:
        (partial / "file").write_text("half")
        clear_leftovers(tmp_path)
        assert partial.is_dir()
    (tmp_path / f"{PARTIAL}dead").mkdir()
    (tmp_path / f"{PARTIAL}file").write_text("half")
    clear_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


def test_a_missing_place_names_itself(tmp_path):
    with pytest.raises(OSError, match="No such file") as error:
        write_whole(tmp_path / "none" / "file", "a")
    assert error.value.filename == str(tmp_path / "none" / "file")
