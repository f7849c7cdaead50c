"""What the benchmarks report: bounds that are held to, a machine that is named, a table in the README made from it."""

import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from benchmarks import grid, side_by_side
from benchmarks.side_by_side import Figure, describe_machine, median_ratio, time_sides

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("value", "must", "aim", "verdict"),
    [(0.5, 1, 0.5, "aim"), (0.9, 1, 0.5, "must"), (1.1, 1, 0.5, "MISSED"), (1, 1, None, "must"), (9, None, None, "")],
)
def test_a_figure_over_its_bound_is_missed(value, must, aim, verdict):
    assert Figure("", value, "s", must, aim).verdict == verdict


def test_sides_take_turns_and_their_ratio_is_of_medians():
    order = []
    seconds = time_sides({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=2)
    assert order == ["a", "b"] * 3 and {side: len(taken) for side, taken in seconds.items()} == {"a": 2, "b": 2}
    assert median_ratio({"a": [9.0, 2.0, 1.0], "b": [4.0, 4.0, 100.0]}, "a", "b") == 0.5


def test_the_machine_is_named_with_the_cores_that_may_be_used(monkeypatch):
    monkeypatch.setattr(side_by_side.os, "sched_getaffinity", lambda pid: {0, 3}, raising=False)
    assert describe_machine().startswith("2 cores of ")


@pytest.fixture
def run(monkeypatch, tmp_path):
    """`run(value, *options)`: the command line with one benchmark that measures `value`; status and JSON."""

    def measure(value: float, *options: str):
        figure = Figure("waiting", value, "s", 1.0, 0.5, {"side": [value]})
        monkeypatch.setattr("benchmarks.compare.measure", lambda quick: [figure])
        commands = []
        monkeypatch.setattr(typer, "run", commands.append)
        runpy.run_module("benchmarks.__main__")
        app = typer.Typer()
        app.command()(commands[0])
        file = tmp_path / "new" / "figures.json"
        result = CliRunner().invoke(app, ["compare", "--json", str(file), *options])
        return result.exit_code, result.output, json.loads(file.read_text())

    return measure


def test_a_missed_bound_is_shown_and_is_the_exit_status(run):
    code, output, record = run(1.5)
    assert code == 1 and "MISSED" in output
    assert record["machine"] and record["figures"][0]["verdict"] == "MISSED"
    code, output, _ = run(0.7)
    assert code == 0 and "MISSED" not in output


def test_a_quick_look_holds_no_bounds(run):
    code, output, record = run(1.5, "--quick")
    assert code == 0 and "MISSED" not in output and record["quick"]


def test_the_readme_table_is_the_last_whole_run(run, tmp_path):
    module = runpy.run_path(str(ROOT / "tools" / "write_readme_examples.py"))
    show = module["show_benchmarks"]
    show.__globals__["BENCHMARKS"] = tmp_path / "new" / "figures.json"
    with pytest.raises(SystemExit, match="run make bench first"):
        show()
    run(1.5)
    table = show()
    assert "| waiting | 1.5 s | ≤ 1 s **missed** |" in table and describe_machine() in table
    run(0.7, "--quick")
    with pytest.raises(SystemExit, match="without --quick"):
        show()


def test_the_grid_and_its_settings_one_by_one_are_sweeps_of_one_model(monkeypatch):
    model, given = object(), []
    monkeypatch.setattr(grid.Workbench, "load", lambda: SimpleNamespace(model=model))
    monkeypatch.setattr(grid.subprocess, "run", lambda *command, **settings: None)
    monkeypatch.setattr(grid.Study, "load", lambda folder: SimpleNamespace(layers=8))
    monkeypatch.setattr(grid, "run_sweep", lambda *asked: given.append(asked))
    (figure,) = grid.measure(quick=True)
    assert [asked[0] for asked in given] == [model] * 4, "the grid, two settings, and one to warm up"
    assert len({asked[2] for asked in given}) == 3 and figure.name.startswith("2 settings")
