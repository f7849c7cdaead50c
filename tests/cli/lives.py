"""What tests of the command line do in processes of their own, which are forked from one that has imported everything.

A function runs with the folder, the settings and the standard output and error of its process, and ends with it.
"""

import json
import multiprocessing
import os
import random
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import NamedTuple

import gguf  # noqa: F401
import peft  # noqa: F401
from transformers import AutoTokenizer, GPT2LMHeadModel  # noqa: F401
from typer.testing import CliRunner

import detox_engine
from detox_engine.cli import main

# A command imports what it needs as it needs it, so that `--help` comes at once; here all of it is wanted beforehand.
for found in walk_packages(detox_engine.__path__, "detox_engine."):
    if found.name.split(".")[1] in ("data", "edit", "export", "forward", "model", "reading", "scoring", "study"):
        import_module(found.name)

FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload([__name__])

FEW = ["--layers", 1, "--rank", 1]
BRIEF = ["--max-new-tokens", 3, "--limit-prompts", 2, "--controls", 2, "--resamples", 100]


class Done(NamedTuple):
    """How a process ended, and what it said."""

    code: int
    output: str
    error: str


def run_forked(
    function: Callable, *arguments: object, folder: Path, said: Path, output: str = "", **settings: str
) -> Done:
    """`function(*arguments)` in a process of its own.

    Args:
        folder: where it runs.
        said: a folder for what it says.
        output: a file that is its standard output instead.
        settings: environment variables of its own.
    """
    files = (output or str(said / "output.txt"), str(said / "error.txt"))
    process = FORKED.Process(target=_run, args=(function, arguments, folder, files, settings))
    process.start()
    process.join()
    told, wrong = (Path(file).read_text(encoding="utf-8") if Path(file).is_file() else "" for file in files)
    return Done(process.exitcode, told, wrong)


def _run(function: Callable, arguments: tuple, folder: Path, files: tuple[str, str], settings: dict[str, str]) -> None:
    os.chdir(folder)
    os.environ.update(settings)
    for number, file in enumerate(files, 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    code = 0
    try:
        function(*arguments)
        sys.stdout.flush()
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    os._exit(code)


def call(*words: object) -> None:
    """The command line with these words."""
    sys.argv = ["detox", *map(str, words)]
    main.main()


def live_and_die(home: Path, place: Path, moments: int, names: Sequence[str]) -> None:
    """Each command once, then killed at so many moments, then once more; prints what became of them."""
    chance, took, killed = random.Random(0), {}, 0
    for name in names:
        start = time.perf_counter()
        _, status = os.waitpid(_fork(_spell(name, home, place, place / f"{name}-first")), 0)
        assert os.waitstatus_to_exitcode(status) == 0, name
        took[name] = time.perf_counter() - start
    for life in range(moments):
        name = names[life % len(names)]
        if name == "sweep":
            (place / "sweep.jsonl").unlink(missing_ok=True)
        start, due = time.perf_counter(), chance.uniform(0.2, 1.0) * took[name]
        child = _fork(_spell(name, home, place, place / f"{name}-{life}"))
        ended, _ = os.waitpid(child, os.WNOHANG)
        while not ended and time.perf_counter() - start < due:
            time.sleep(0.01)
            ended, _ = os.waitpid(child, os.WNOHANG)
        if ended:  # The machine is less busy than it was, or warmer.
            took[name] = time.perf_counter() - start
            continue
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        killed += os.WIFSIGNALED(status)
    left = [path.name for path in place.iterdir() if path.name.startswith(".")]
    for name in names:
        _, status = os.waitpid(_fork(_spell(name, home, place, place / f"{name}-last")), 0)
        assert os.waitstatus_to_exitcode(status) == 0, name
    print(json.dumps({"killed": killed, "left": left, "took": took}))


def _spell(name: str, home: Path, place: Path, out: Path, kind: str = "model") -> list:
    """A command of this name that writes to `out`; a sweep to one file beside it, and `kind` is what is exported."""
    brief = [*BRIEF, "--prompts", home / "prompts.txt", "--neutral", home / "prompts.txt"]
    grid = ["--ranks", "1,2", "--starts", "1"]
    return {
        "fit": ["fit", "--model", home / "model", "--pairs", home / "pairs.jsonl", "--out", out, "--no-suggest"],
        "extend": ["extend", home / "study", "--pairs", home / "pairs.jsonl", "--out", out],
        "check": ["check", place / "suggests"],
        "sweep": ["sweep", home / "study", *grid, "--out", out.parent / "sweep.jsonl", *brief],
        "evaluate": ["evaluate", home / "study", *FEW, *brief, "--report", f"{out}.json"],
        "export": ["export", home / "study", *FEW, "--out", out, "--as", kind],
        "report": ["report", home / "study", "--out", f"{out}.html", *FEW],
    }[name]


def _fork(words: list) -> int:
    """The number of a child that runs this command."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        result = CliRunner().invoke(main.app, list(map(str, words)))
        if result.exit_code:
            print(words, result.exit_code, result.output, result.exception, file=sys.stderr, flush=True)
        os._exit(result.exit_code)
    return child


def fit_until_asked_to_end(model: Path) -> None:
    """Three fits, each asked to end by another signal; prints how far their exit codes are from what is due."""
    children = {}
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        children[number] = os.fork()
        if children[number] == 0:
            try:
                call("fit", "--model", model, "--pairs", "pairs.jsonl", "--out", number.name)
            except SystemExit as end:
                sys.stderr.flush()
                os._exit(end.code)
    time.sleep(2)
    for number, child in children.items():
        os.kill(child, number)
    for number, child in children.items():
        _, status = os.waitpid(child, 0)
        print(number.name, os.waitstatus_to_exitcode(status) - 128 - number)


def write_to_a_full_disk(home: Path, place: Path, limits: Sequence[int]) -> None:
    """Every command that writes, where no file may be longer than each of these limits; prints what became of it."""
    CliRunner().invoke(main.app, list(map(str, ["compare", home / "study", *FEW, "--prompt", "a"])))
    commands = {name: _spell(name, home, place, Path(name)) for name in ("fit", "extend", "check", "sweep", "evaluate")}
    for kind in ("adapter", "model", "gguf-adapter"):
        commands[kind] = _spell("export", home, place, Path(kind), kind)
    commands["report"] = _spell("report", home, place, Path("report"))
    if len(limits) == 1:
        del commands["report"]  # which takes seconds

    def list_all() -> list[str]:
        return sorted(str(path) for folder in (place, Path()) for path in folder.rglob("*"))

    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    found = []
    for name, command in commands.items():
        for most in limits:
            before = list_all()
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
            result = CliRunner().invoke(main.app, list(map(str, command)))
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            failed = (
                "" if result.exception is None or isinstance(result.exception, SystemExit) else repr(result.exception)
            )
            found.append([name, most, result.exit_code, result.stderr, failed, sorted(set(list_all()) - set(before))])
            if result.exit_code == 0:
                break
    print(json.dumps(found))
