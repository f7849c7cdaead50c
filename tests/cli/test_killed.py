"""Commands that are killed at any moment, or asked to end, leave no broken study, and the next run clears the litter.

A process with everything imported makes a child for each life. `make fuzz` kills a hundred of them.
"""

import json
import os
import subprocess
import sys
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
from tests.cli.test_cli import ROOT, home  # noqa: F401  (a fixture)
from tests.fuzz import EXAMPLES

LONG = EXAMPLES > 100
COMMANDS = ("fit", "extend", "export", *(("check", "sweep", "evaluate", "report") if LONG else ()))
MOMENTS = 100 if LONG else 9

LIVES = """
import json, os, random, signal, sys, time
from pathlib import Path
from typer.testing import CliRunner
from detox_engine.cli import main
import detox_engine.export.take_away, detox_engine.export.report, detox_engine.scoring.evaluation
import detox_engine.scoring.sweep, detox_engine.workbench, detox_engine.scoring.records

home, place, moments = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
chance = random.Random(0)
few = ["--layers", 1, "--rank", 1]
brief = ["--max-new-tokens", 3, "--limit-prompts", 2, "--controls", 2, "--resamples", 100]
brief += ["--prompts", home / "prompts.txt", "--neutral", home / "prompts.txt"]


def command(name, out):
    return {
        "fit": ["fit", "--model", home / "model", "--pairs", home / "pairs.jsonl", "--out", out, "--no-suggest"],
        "extend": ["extend", home / "study", "--pairs", home / "pairs.jsonl", "--out", out],
        "check": ["check", place / "suggests"],
        "sweep": ["sweep", home / "study", "--ranks", "1,2", "--starts", "1", "--out", place / "sweep.jsonl", *brief],
        "evaluate": ["evaluate", home / "study", *few, *brief, "--report", f"{out}.json"],
        "export": ["export", home / "study", *few, "--out", out, "--as", "model"],
        "report": ["report", home / "study", "--out", f"{out}.html", *few],
    }[name]


def live(name, out):
    result = CliRunner().invoke(main.app, list(map(str, command(name, out))))
    if result.exit_code:
        print(name, result.exit_code, result.output, result.exception, file=sys.stderr)
    return result.exit_code


def fork(name, out):
    child = os.fork()
    if child == 0:
        sys.stdout = open(os.devnull, "w")
        os._exit(live(name, out))
    return child


names = sys.argv[4:]
took = {}
for name in names:
    start = time.perf_counter()
    _, status = os.waitpid(fork(name, place / f"{name}-first"), 0)
    assert os.waitstatus_to_exitcode(status) == 0, name
    took[name] = time.perf_counter() - start
killed = 0
for life in range(moments):
    name = names[life % len(names)]
    if name == "sweep":
        (place / "sweep.jsonl").unlink(missing_ok=True)
    child = fork(name, place / f"{name}-{life}")
    time.sleep(chance.uniform(0.2, 1.0) * took[name])
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    killed += os.WIFSIGNALED(status)
left = [path.name for path in place.iterdir() if path.name.startswith(".")]
for name in names:
    _, status = os.waitpid(fork(name, place / f"{name}-last"), 0)
    assert os.waitstatus_to_exitcode(status) == 0, name
print(json.dumps({"killed": killed, "left": left, "took": took}))
"""


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


def test_killed_at_any_moment_nothing_is_half_there_and_the_next_run_clears_up(home, place):  # noqa: F811
    environment = os.environ | {"TMPDIR": str(place / "temporary"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = (sys.executable, "-c", LIVES, home, place, str(MOMENTS), *COMMANDS)
    told = subprocess.run(tuple(map(str, command)), env=environment, cwd=ROOT, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr[-3000:]
    found = json.loads(told.stdout.splitlines()[-1])
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


ASKED = """
import os, signal, sys, time
from detox_engine.cli import main
import detox_engine.workbench

children = {}
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    children[number] = os.fork()
    if children[number] == 0:
        sys.argv = ["detox", "fit", "--model", sys.argv[1], "--pairs", "pairs.jsonl", "--out", number.name]
        try:
            main.main()
        except SystemExit as end:
            sys.stderr.flush()
            os._exit(end.code)
time.sleep(4)
for number, child in children.items():
    os.kill(child, number)
for number, child in children.items():
    _, status = os.waitpid(child, 0)
    print(number.name, os.waitstatus_to_exitcode(status) - 128 - number)
"""


def test_asked_to_end_it_clears_up_and_says_so(home, tmp_path):  # noqa: F811
    record = (home / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    # Different pairs, so many that it is still at them when it is asked to end.
    lines = [line.replace('"prompt": "', f'"prompt": "{count} ') for count in range(15_000) for line in record]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "temporary").mkdir()
    added = {"TMPDIR": str(tmp_path / "temporary"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = (sys.executable, "-c", ASKED, str(home / "model"))
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | added, capture_output=True, text=True, timeout=100)
    assert done.stdout.splitlines() == ["SIGTERM 0", "SIGHUP 0", "SIGINT 0"], done.stderr
    assert done.stderr == "Stopped; nothing was left half-written.\n" * 3
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["pairs.jsonl", "temporary"]


FULL = """
import json, os, resource, sys, tempfile
from pathlib import Path
from typer.testing import CliRunner
from detox_engine.cli import main
import detox_engine.export.take_away, detox_engine.export.report, detox_engine.scoring.evaluation, gguf
import detox_engine.scoring.sweep, detox_engine.workbench, detox_engine.scoring.records

home, place, *limits = Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:])
few = ["--layers", 1, "--rank", 1]
brief = ["--max-new-tokens", 3, "--limit-prompts", 2, "--controls", 2, "--resamples", 100]
brief += ["--prompts", home / "prompts.txt", "--neutral", home / "prompts.txt"]
study = home / "study"
CliRunner().invoke(main.app, list(map(str, ["compare", study, *few, "--prompt", "a"])))
commands = {
    "fit": ["fit", "--model", home / "model", "--pairs", home / "pairs.jsonl", "--no-suggest", "--out", "fit"],
    "extend": ["extend", study, "--pairs", home / "pairs.jsonl", "--out", "extend"],
    "check": ["check", place / "suggests"],
    "sweep": ["sweep", study, "--ranks", "1", "--starts", "1", *brief, "--out", "sweep.jsonl"],
    "evaluate": ["evaluate", study, *few, *brief, "--report", "evaluation.json"],
    "adapter": ["export", study, *few, "--as", "adapter", "--out", "adapter"],
    "model": ["export", study, *few, "--as", "model", "--out", "model"],
    "gguf-adapter": ["export", study, *few, "--as", "gguf-adapter", "--out", "gguf"],
    "report": ["report", study, *few, "--out", "report.html"],
}
if len(limits) == 1:
    del commands["report"]  # which takes seconds


def list_all():
    return sorted(str(path) for folder in (place, Path()) for path in folder.rglob("*"))


_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
found = []
for name, command in commands.items():
    for most in limits:
        before = list_all()
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
        result = CliRunner().invoke(main.app, list(map(str, command)))
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        failed = "" if result.exception is None or isinstance(result.exception, SystemExit) else repr(result.exception)
        found.append([name, most, result.exit_code, result.stderr, failed, sorted(set(list_all()) - set(before))])
        if result.exit_code == 0:
            break
print(json.dumps(found))
"""


def test_on_a_full_disk_every_writer_ends_in_one_sentence_and_leaves_nothing(home, place, tmp_path):  # noqa: F811
    """The system refuses to write more than so many bytes of a file, as a full disk does."""
    environment = os.environ | {"TMPDIR": str(place / "temporary"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    study = (place / "suggests" / "study.json").read_bytes()
    limits = ("0", "1024", "9000", "40000") if LONG else ("9000",)
    command = (sys.executable, "-c", FULL, str(home), str(place), *limits)
    told = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr[-3000:]
    refused = set()
    for name, most, code, sentence, failed, added in json.loads(told.stdout.splitlines()[-1]):
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
    with Path("/dev/full").open("wb") as full:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        command = (sys.executable, "-m", "detox_engine", "directions", str(home / "study"), "--measure", "product")
        done = subprocess.run(command, env=environment, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "No space left" in done.stderr, done.stderr
