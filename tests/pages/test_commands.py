"""The same from the command line: what the pages say to type is what the command line reads."""

import pytest
import typer

from detox_engine.cli.main import app as command_line
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.map import MapPlan
from detox_engine.plans.measure import EvaluationPlan, SamplingPlan
from detox_engine.plans.sources import ModelSpec, PairSpec
from ui.frame import commands
from ui.session.view import StudyKey

KEY = StudyKey(ModelSpec("owner/model", "v2", "cpu", "float32"), FitPlan(PairSpec("a b.csv", limit=30), keep=12))


def parse(command: list[str]) -> dict[str, object]:
    """The parameters that `detox` reads from a command of the pages."""
    assert command[0] == "detox"
    return typer.main.get_command(command_line).commands[command[1]].make_context(command[1], command[2:]).params


def test_the_fit_reads_back_as_the_study():
    told = parse(commands.fit_command(KEY))
    assert ModelSpec(told["model"], told["revision"], told["device"], told["dtype"]) == KEY.model
    assert (told["pairs"], told["limit"], told["keep"], told["out"].name) == ("a b.csv", 30, 12, commands.STUDY)


def test_a_first_visits_fit_needs_no_options():
    assert commands.write_command(commands.fit_command(StudyKey())) == "detox fit --out my-study"


@pytest.mark.parametrize("asked", [("product", False, False), ("cosine", True, True)])
def test_the_reading_of_directions_reads_back(asked):
    told = parse(commands.directions_command(KEY, (1, 2, 5), 7, *asked))
    assert (told["layers"], told["rank"], told["device"], told["dtype"]) == ("1-2,5", 7, "cpu", "float32")
    assert (told["measure"], told["through_norm"], told["as_json"]) == asked


@pytest.mark.parametrize(
    "sampling", [SamplingPlan(), SamplingPlan(7, 4, temperature=0.65, top_p=0.9, seed=2), SamplingPlan(5, greedy=True)]
)
def test_a_comparison_reads_back_as_its_edit_prompts_and_sampling(sampling):
    prompts = ('He said: "it\'s $HOME & `x`"', "--seed 3 is what", "-", "שלום 😀")
    command = commands.compare_command(KEY, EditPlan((0, 3, 4), 3, 0.25), prompts, sampling)
    told = parse(commands.shlex.split(commands.write_command(command)))
    assert (told["layers"], told["rank"], told["strength"]) == ("0,3-4", 3, 0.25)
    assert tuple(told["prompt"]) == prompts and told["prompts"] is None
    names = ("max_new_tokens", "samples", "greedy", "temperature", "top_p", "seed")
    assert SamplingPlan(*(told[name] for name in names)) == sampling


def test_many_prompts_are_read_from_a_file():
    told = parse(commands.compare_command(KEY, EditPlan((0,)), ["Hello"] * 21, SamplingPlan()))
    assert told["prompts"] == commands.PROMPTS and not told["prompt"]


@pytest.mark.parametrize("name", ["compare", "evaluate", "map", "lens"])
def test_switched_off_directions_are_in_every_command_that_edits(name):
    edit = EditPlan((0, 1), 2, 1.0, frozenset({(1, 0), (0, 1)}))
    command = {
        "compare": lambda: commands.compare_command(KEY, edit, ["Hello"], SamplingPlan()),
        "evaluate": lambda: commands.evaluate_command(KEY, edit, EvaluationPlan()),
        "map": lambda: commands.map_command(KEY, 1, MapPlan(), edit),
        "lens": lambda: commands.lens_command(KEY, "Hello", 1, None, edit),
    }[name]()
    assert parse(command)["switch_off"] == "0.1,1.0"
