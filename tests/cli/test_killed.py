"""Commands that are killed at any moment, or asked to end, leave no broken study, and the next run clears the litter.

`make fuzz` kills a hundred of them.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from detox_engine.disk import PARTIAL
from detox_engine.estimates import Estimate
from detox_engine.export.receipt import RECEIPT, list_wrong_files, read_receipt
from detox_engine.plans.edit import EditPlan
from detox_engine.scoring.records import load_evaluation
from detox_engine.scoring.results import load_points
from detox_engine.study.study import Study
from detox_engine.study.suggestion import Suggestion, Tried
from tests.cli.lives import call, fit_until_asked_to_end, live_and_die, run_forked, write_to_a_full_disk
from tests.cli.test_cli import ROOT, home  # noqa: F401  (a fixture)
from tests.fuzz import EXAMPLES

LONG = EXAMPLES > 100
COMMANDS = ("fit", "extend", "export", *(("check", "sweep", "evaluate", "report") if LONG else ()))
MOMENTS = 100 if LONG else 9


@pytest.fixture(scope="module")
def place(home, tmp_path_factory) -> Path:  # noqa: F811
    """Where the lives of one test write, with the system's temporary files beside."""
    folder = tmp_path_factory.mktemp("lives")
    (folder / "temporary").mkdir()
    edit = EditPlan((1, 2), 1, 0.75, method="fisher", sites="both")
    tried = Tried(edit, 0.4, 0.01, Estimate(0.5, 0.4, 0.6, 12), 0.012, 1.01)
    suggestion = Suggestion(edit, "gentle", "Measured.", (tried,))
    replace(Study.load(home / "study"), suggestion=suggestion).save(folder / "suggests")
    return folder


@pytest.fixture
def said(tmp_path_factory) -> Path:
    """Where a process says something that is not to lie where it writes."""
    return tmp_path_factory.mktemp("said")


def test_killed_at_any_moment_nothing_is_half_there_and_the_next_run_clears_up(home, place, tmp_path):  # noqa: F811
    temporary = str(place / "temporary")
    asked = (home, place, MOMENTS, COMMANDS)
    told = run_forked(live_and_die, *asked, folder=ROOT, said=tmp_path, TMPDIR=temporary)
    assert told.code == 0, told.error[-3000:]
    found = json.loads(told.output.splitlines()[-1])
    assert found["killed"] >= MOMENTS / 3, "most were done before they were killed, and this says nothing"
    litter = [str(path) for path in place.rglob(f"{PARTIAL}*")]
    assert not litter, (litter, found)
    for path in sorted(place.iterdir()):
        if path.name.startswith(("fit-", "extend-", "suggests")):
            Study.load(path)
        elif path.name.startswith("evaluate-"):
            load_evaluation(path)
        elif path.name.startswith("export-"):
            assert list_wrong_files(read_receipt(path), path) == [], path
        elif path.name.startswith("report-"):
            assert path.read_text(encoding="utf-8").rstrip().endswith("</html>"), path
    assert not LONG or len(load_points(place / "sweep.jsonl")) == 2
    assert (place / "export-last" / RECEIPT).is_file()


def test_asked_to_end_it_clears_up_and_says_so(home, tmp_path, said):  # noqa: F811
    record = (home / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    # Different pairs, so many that it is still at them when it is asked to end.
    lines = [line.replace('"prompt": "', f'"prompt": "{count} ') for count in range(15_000) for line in record]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "temporary").mkdir()
    temporary = str(tmp_path / "temporary")
    asked = (home / "model",)
    done = run_forked(fit_until_asked_to_end, *asked, folder=tmp_path, said=said, TMPDIR=temporary)
    assert done.output.splitlines() == ["SIGTERM 0", "SIGHUP 0", "SIGINT 0"], done.error
    assert done.error == "Stopped; nothing was left half-written.\n" * 3
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["pairs.jsonl", "temporary"]


def test_on_a_full_disk_every_writer_ends_in_one_sentence_and_leaves_nothing(home, place, tmp_path, said):  # noqa: F811
    """The system refuses to write more than so many bytes of a file, as a full disk does."""
    study = (place / "suggests" / "study.json").read_bytes()
    limits = (0, 1024, 9000, 40000) if LONG else (9000,)
    asked, temporary = (home, place, limits), str(place / "temporary")
    told = run_forked(write_to_a_full_disk, *asked, folder=tmp_path, said=said, TMPDIR=temporary)
    assert told.code == 0, told.error[-3000:]
    refused = set()
    for name, most, code, sentence, failed, added in json.loads(told.output.splitlines()[-1]):
        assert not failed, (name, most, failed)
        if code:
            refused.add(name)
            assert code == 2 and sentence.count("\n") == 1 and "Traceback" not in sentence, (name, most, sentence)
            assert "cannot be" in sentence or "could not be" in sentence, (name, most, sentence)
            assert not added, (name, most, added)
    assert refused >= {"fit", "extend", "evaluate", "model"}, refused
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert json.loads(study) and Study.load(place / "suggests")


def test_an_output_that_takes_nothing_is_told(home, tmp_path):  # noqa: F811
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    words = ("directions", home / "study", "--measure", "product")
    done = run_forked(call, *words, folder=tmp_path, said=tmp_path, output="/dev/full")
    assert done.code == 2 and done.error.count("\n") == 1 and "No space left" in done.error, done.error
