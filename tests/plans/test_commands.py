"""A plan as the words of a command line, and the commands of the pages: the command line reads back what was meant."""

import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typer import Context
from typer.main import get_command

from detox_engine.cli.flags import collect, read_said
from detox_engine.cli.main import app
from detox_engine.plans import commands
from detox_engine.plans.choice import CHOICES, Choice, Kind, usual_options
from detox_engine.plans.edit import EditBeside, EditPlan
from detox_engine.plans.evaluation import SWEEP_EVALUATION, EvaluationPlan, SweepPlan, write_setting
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.lab.experiments import QUICK
from detox_engine.plans.option import Leaf, fill, leaves
from detox_engine.plans.read import LensPlan, MapPlan, ReadPlan
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.plans.sources import ModelSpec, PairSpec, StudyModel, TextSpec
from detox_engine.scoring.scorers import scorers
from detox_engine.study.methods import methods
from ui.session.view import StudyKey

KEY = StudyKey(ModelSpec("owner/model", "v2", "cpu", "float32"), FitPlan(PairSpec("a b.csv", limit=30), keep=12))
COMMANDS = get_command(app).commands
NEEDED = {
    "fit": ["--out", "study"],
    "extend": ["study", "--out", "new", "--pairs", "more.csv"],
    "lens": ["study", "--text", "Hello"],
}
"""What a command asks for beside its plan."""
PLANS = [
    ("fit", ModelSpec()),
    ("fit", FitPlan()),
    ("extend", StudyModel()),
    ("directions", ReadPlan()),
    ("directions", StudyModel()),
    ("compare", EditPlan()),
    ("compare", SamplingPlan()),
    ("evaluate", EditPlan()),
    ("evaluate", EvaluationPlan()),
    ("sweep", SweepPlan()),
    ("map", MapPlan()),
    ("map", EditBeside()),
    ("lens", LensPlan()),
    ("lens", EditBeside()),
]

WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
NAMES = st.text(st.characters(categories=["L", "N", "P"], exclude_characters=","), min_size=1)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
LAYERS = st.sets(st.integers(0, 999), min_size=1, max_size=20).map(lambda layers: tuple(sorted(layers)))
OWN = {
    "layers": LAYERS,
    "starts": st.none() | LAYERS,
    "ends": st.none() | LAYERS,
    "ranks": st.lists(st.integers(1, 500), min_size=1).map(tuple),
    "also": st.builds(EditPlan, LAYERS, st.integers(1, 500), st.floats(-1e6, 1e6)).map(write_setting) | st.just(""),
    "strengths": st.lists(NUMBERS, min_size=1).map(tuple),
    "switched_off": st.frozensets(st.tuples(st.integers(0, 999), st.integers(0, 999))),
    "tasks": st.lists(NAMES, min_size=1).map(tuple),
}
"""The values of options that are lists."""


def any_of(kinds: Mapping[str, Kind]) -> st.SearchStrategy[Choice]:
    """Any of these kinds, with any options."""
    names = st.sampled_from(list(kinds))
    return names.flatmap(lambda name: st.builds(Choice, st.just(name), any_plan(kinds[name].options())))


def values_of(leaf: Leaf) -> st.SearchStrategy[Any]:
    """Any value that an option can have."""
    low, high = leaf.option.low, leaf.option.high
    if leaf.form is CHOICES:
        kinds = methods() if leaf.path.endswith("methods") else scorers()
        return st.lists(any_of(kinds), min_size=1, unique_by=lambda choice: choice.name).map(tuple)
    if leaf.path.rpartition(".")[2] in OWN:
        return OWN[leaf.path.rpartition(".")[2]]
    if leaf.choices:
        return st.sampled_from(leaf.choices)
    kinds = {
        bool: st.booleans(),
        int: st.integers(0 if low is None else int(low), 2**53 - 1 if high is None else int(high)),
        float: NUMBERS if low is None else st.floats(low, high),
        str: WORDS,
    }
    return st.none() | kinds[leaf.kind] if leaf.optional else kinds[leaf.kind]


def any_plan(plan: Any) -> st.SearchStrategy[Any]:
    """Any plan like this one, in what the command line asks for."""
    asked = {leaf.path: values_of(leaf) for leaf in leaves(plan) if leaf.flag is not None}
    return st.fixed_dictionaries(asked).map(lambda values: fill(plan, values))


def parse(command: str, words: list[str]):
    """What `detox` reads from a command as a person types it."""
    return COMMANDS[command].make_context(command, shlex.split(shlex.join(words)))


def read(context: Context, usual: Any) -> Any:
    """The plan that a command reads, with the options of what it chooses."""
    plan = read_said(context, usual).over(usual)
    kinds = {EvaluationPlan: scorers, SweepPlan: scorers, FitPlan: methods}.get(type(plan))
    options = collect(context, usual_options(kinds()), None) if kinds else {}
    if isinstance(plan, SweepPlan):
        return replace(plan, evaluation=plan.evaluation.with_options(options))
    return plan.with_options(options) if kinds else plan


@pytest.mark.parametrize(
    ("command", "usual"), PLANS, ids=lambda part: part if isinstance(part, str) else type(part).__name__
)
def test_any_plan_reads_back_from_its_words(command, usual):
    @settings(max_examples=25, deadline=None)
    @given(any_plan(usual))
    @example(usual)
    def reads_back(plan):
        context = parse(command, [*NEEDED.get(command, ["study"]), *commands.spell(plan, usual)])
        assert read(context, usual) == plan

    reads_back()


@settings(max_examples=25, deadline=None)
@given(any_plan(PairSpec("more.csv")))
def test_the_pairs_of_an_extension_read_back(pairs):
    context = parse("extend", [*NEEDED["extend"], *commands.spell(pairs, PairSpec("more.csv"))])
    assert read_said(context, PairSpec()).over(PairSpec("more.csv")) == pairs


def test_a_limit_can_be_lifted():
    plan = SweepPlan(evaluation=EvaluationPlan(limit_prompts=None, neutral=TextSpec(limit=5)))
    words = commands.sweep_command(KEY, plan, 1.25)
    assert words[words.index("--limit-prompts") + 1] == "all" and words[words.index("--limit-neutral") + 1] == "5"
    assert SWEEP_EVALUATION.limit_prompts is not None
    context = parse("sweep", words[2:])
    assert read(context, SweepPlan()) == plan and context.params["perplexity_limit"] == 1.25


def test_the_fit_reads_back_as_the_study():
    context = parse("fit", commands.fit_command(KEY)[2:])
    assert read_said(context, ModelSpec()).over(ModelSpec()) == KEY.model
    assert read(context, FitPlan()) == KEY.fit
    assert context.params["out"].name == commands.STUDY


def test_a_first_visits_fit_needs_no_options():
    assert commands.fit_command(StudyKey()) == ["detox", "fit", "--out", "my-study"]


@pytest.mark.parametrize("asked", [("causal", None, False), ("lens", "fisher", True), ("product", "detox", False)])
def test_the_reading_of_directions_reads_back(asked):
    context = parse("directions", commands.directions_command(KEY, (1, 2, 5), 7, *asked)[2:])
    assert read_said(context, ReadPlan()).over(ReadPlan()) == ReadPlan((1, 2, 5), 7, 10, *asked[:2])
    assert read_said(context, StudyModel()).values == {"device": "cpu", "dtype": "float32"}
    assert context.params["as_json"] == asked[2]


def test_a_comparison_reads_back_as_its_prompts():
    prompts = ('He said: "it\'s $HOME & `x`"', "--seed 3 is what", "-", "שלום 😀")
    edit, sampling = EditPlan((0, 3, 4), 3, 0.25), SamplingPlan(7, 4, temperature=0.65, top_p=0.9, seed=2)
    context = parse("compare", commands.compare_command(KEY, edit, prompts, sampling)[2:])
    assert tuple(context.params["prompt"]) == prompts and context.params["prompts"] is None
    assert read_said(context, EditPlan()).over(EditPlan()) == edit
    assert read_said(context, SamplingPlan()).over(SamplingPlan()) == sampling


def test_many_prompts_are_read_from_a_file():
    context = parse("compare", commands.compare_command(KEY, EditPlan((0,)), ["Hello"] * 21, SamplingPlan())[2:])
    assert context.params["prompts"] == commands.PROMPTS and not context.params["prompt"]


@pytest.mark.parametrize("name", ["compare", "evaluate", "map", "lens"])
def test_every_command_that_edits_says_the_whole_edit(name):
    edit = EditPlan((0, 1), 2, 1.0, frozenset({(1, 0), (0, 1)}), edit_bias=True, sites="both")
    command = {
        "compare": lambda: commands.compare_command(KEY, edit, ["Hello"], SamplingPlan()),
        "evaluate": lambda: commands.evaluate_command(KEY, edit, EvaluationPlan()),
        "map": lambda: commands.map_command(KEY, 1, MapPlan(), edit),
        "lens": lambda: commands.lens_command(KEY, "Hello", 1, None, edit),
    }[name]()
    usual = EditBeside() if name in ("map", "lens") else EditPlan()
    assert read_said(parse(name, command[2:]), usual).over(EditPlan()) == edit


def test_a_map_says_of_umap_only_what_it_uses():
    words = commands.map_command(KEY, 1, MapPlan("pca", "both", neighbours=30, seed=4), EditPlan((0,)))
    assert "--frame" in words and not {"--neighbours", "--seed"} & set(words)


@pytest.mark.parametrize("lab", QUICK)
def test_a_lab_reads_back_as_its_plan(lab):
    plan = replace(QUICK[lab], training=replace(QUICK[lab].training, steps=7))
    program, command, *words = commands.lab_command(KEY, lab, plan)
    if lab == "bench":
        context = parse(command, words)
    else:
        assert (command, words[0]) == ("lab", lab)
        context = COMMANDS["lab"].commands[lab].make_context(lab, words[1:])
    assert program == "detox" and read_said(context, type(plan)()).over(type(plan)()) == plan
    assert read_said(context, StudyModel()).values == {"device": "cpu", "dtype": "float32"}
