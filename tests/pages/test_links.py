"""The link of a view: what it holds, that it restores all of it, and that nothing in it can do harm."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detox_engine.errors import InputError
from detox_engine.plans.choice import Choice, usual_options
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.evaluation import EvaluationPlan
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.lab.factors import FactorPlan
from detox_engine.plans.option import LARGEST, Leaf
from detox_engine.plans.read import MapPlan
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.plans.sources import ModelSpec, PairSpec, TextSpec
from detox_engine.scoring.scorers import scorers
from detox_engine.scoring.scorers.capability import CapabilityOptions
from detox_engine.scoring.scorers.classifier import ClassifierOptions
from detox_engine.study.methods import methods
from detox_engine.study.methods.fisher import FisherOptions
from pages.claims.factor_picks import FactorPicks
from pages.claims.picks import (
    BenchPicks,
    CentringPicks,
    ClaimsPicks,
    LabelNoisePicks,
    LinkPicks,
    SampleSizePicks,
    TrainingPicks,
)
from pages.compare.picks import ComparePicks
from pages.decide.picks import DecidePicks
from pages.directions.picks import DirectionsPicks
from pages.evaluate.picks import EvaluatePicks
from pages.learn.picks import LearnPicks, OwnEdit, Predictions, QuizPicks
from pages.map.picks import MapPicks
from pages.model_and_pairs.picks import ChoicePicks
from pages.overview.picks import OverviewPicks
from pages.spectrum.picks import SpectrumPicks
from pages.take_away.picks import TakeAwayPicks
from pages.token_lens.picks import TokenLensPicks
from pages.trade_offs.picks import TradeOffsPicks
from tests.fuzz import EXAMPLES
from ui.session import places
from ui.session.folders import PATHS
from ui.session.links import leaves_files_out, left_out, list_names, list_parts, read_link, write_address, write_link
from ui.session.view import StudyKey, View
from ui.widgets.evaluation import MeasurePicks
from ui.widgets.uploads import store_upload

WORDS = "Say «50% & more»\nto your #1 friend? \u05e9\u05dc\u05d5\u05dd \U0001f600 <b>"
SAMPLING = SamplingPlan(7, 3, True, 0.65, 0.9, 11, True)
NEUTRAL = TextSpec("a/b", "raw", "train", "body", "text", 64, 32, 9)
MEASURES = MeasurePicks(
    EvaluationPlan(("drift",), "c/d", 12, SAMPLING, NEUTRAL, "matched", 4, 3, 300),
    usual_options(scorers())
    | {"classifier": ClassifierOptions("e/f", "rude"), "capability": CapabilityOptions(("boolq", "rte"), 5)},
    "hub",
    "",
    "file",
    "",
)
TRAINING = TrainingPicks(30, "0.0001,0.002")
WORLD = FactorPlan(60, 32, 4, 3, 4, 0.5, 0.1, 1.5, 0.2, 10.0, 3)
EVERYTHING = View(
    ModelSpec("owner/model", "v2", "cpu", "float32", "cpu=2GiB"),
    FitPlan(
        PairSpec(
            "owner/pairs",
            "rude",
            "nice",
            "start",
            "en",
            "test",
            "v3",
            limit=30,
            seed=4,
        ),
        64,
        "last",
        12,
        False,
        "keep",
        ("detox", "mean-difference"),
        True,
        False,
        "strong",
    ),
    usual_options(methods()) | {"fisher": FisherOptions(0.25)},
    edit=EditPlan((2, 5, 6, 7), 3, 0.25, frozenset({(5, 1), (2, 0)}), True, "both", "mean-difference"),
    layer=6,
    direction=0,
    pages={
        "model_and_pairs": ChoicePicks(),
        "spectrum": SpectrumPicks("values", "curves"),
        "directions": DirectionsPicks("lens", True, ((7, 0), (2, 3))),
        "map": MapPicks("umap", MapPlan("pca", "both", 30, 0.25, 5), ("on paper",), "moves", True, True),
        "token_lens": TokenLensPicks("own", 9, "plain", 4, WORDS, "second", "length", 5),
        "overview": OverviewPicks(WORDS),
        "compare": ComparePicks("own", 12, 3, WORDS, SAMPLING),
        "trade_offs": TradeOffsPicks((1, 3), 1, 2, 2, (3, 4), ("0.5", "1"), True, MEASURES, 7.5),
        "evaluate": EvaluatePicks(replace(MEASURES, plan=replace(MEASURES.plan, seed=8))),
        "decide": DecidePicks("strong", 1.2, 30),
        "take_away": TakeAwayPicks("model"),
        "claims": ClaimsPicks(
            "profanity",
            BenchPicks(("detox", "dpo"), "both", 40, TRAINING),
            SampleSizePicks("5,50", 4, ("detox",), 20, TRAINING),
            LabelNoisePicks("0.1,0.4", 5, ("dpo",), 25, TRAINING),
            LinkPicks("0", "7,9", 3),
            CentringPicks("2,3", 35),
            FactorPicks(WORLD, "noise"),
        ),
        "learn": LearnPicks(
            6,
            Predictions(1, 2, 0, 3, 1, 2, 0, 40, 3),
            ("noise", "own"),
            60,
            0.7,
            30,
            OwnEdit(1, 3, 2, 0.5),
            QuizPicks(*range(4), *range(4), 0, 1),
            True,
        ),
    },
)
"""Everything in it is other than on a first visit."""


def test_a_link_holds_nothing_of_what_is_only_to_be_fitted():
    chosen = View(
        pages=View().pages | {"model_and_pairs": ChoicePicks.of(View(ModelSpec("someone/model"), FitPlan(keep=5)))}
    )
    assert chosen != View() and not write_link(chosen)


def test_a_link_restores_every_part_of_a_view():
    written = write_link(EVERYTHING)
    assert read_link(dict(parse_qsl(urlencode(written)))) == EVERYTHING
    assert written.keys() == list_names(), "give the new part of the view a value in EVERYTHING"


def test_every_part_of_a_view_has_a_name_of_its_own_in_the_link():
    names = [leaf.link for leaf in list_parts(EVERYTHING)]
    assert len(set(names)) == len(names)


def test_a_long_text_stays_out_of_the_link_and_everything_else_is_in_it():
    view = (
        View(layer=2)
        .put("token_lens.own", "word " * 400)
        .put("compare.own", "\u05e9" * 400)
        .put("token_lens.second", "short")
    )
    assert left_out(view) == {"token_lens.own", "compare.own"}
    assert write_link(view) == {"layer": "2", "second": "short"}


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("evaluate.measures.prompts_from", "file", True),
        ("trade_offs.measures.neutral_from", "file", True),
        ("evaluate.measures.options.classifier.classifier", "/a/folder", True),
        ("evaluate.measures.plan.prompts", "owner/name", False),
        ("evaluate.measures.options.classifier.classifier", "owner/name", False),
    ],
)
def test_files_of_this_machine_stay_out_of_the_link_and_that_is_said(path, value, said):
    view = View().put(path, value)
    assert leaves_files_out(view) is said and not leaves_files_out(View())
    assert value not in write_link(view).values() or not value.startswith("/")


def test_a_first_visit_needs_no_parameters():
    assert write_link(View()) == {}
    assert read_link({}) == View()
    assert read_link({"unknown": "1"}) == View()


@pytest.mark.parametrize(
    "parameters",
    [
        {"rank": "x"},
        {"rank": "0"},
        {"layers": "7-4"},
        {"strength": "inf"},
        {"off": "1"},
        {"pooling": "sum"},
        {"limit": "1"},
        {"seed": "9" * 30},
        {"layer": "-1"},
        {"direction": "0"},
        {"pins": "1.2,x"},
        {"temperature": "nan"},
        {"samples": "1e3"},
        {"top_p": "0"},
        {"greedy": "maybe"},
        {"prompts": "<script>"},
        {"states": "before,never"},
        {"text": "x" * 2000},
    ],
)
def test_a_link_that_cannot_be_restored_says_so_in_one_sentence(parameters):
    with pytest.raises(InputError) as raised:
        read_link(parameters)
    assert str(raised.value).endswith(".") and "\n" not in str(raised.value)


def test_the_address_of_a_view_replaces_the_parameters_that_were_there():
    view = View(layer=2).put("compare.own", "a&b #c")
    assert write_address("http://host/compare?layer=1&rank=3", view) == "http://host/compare?layer=2&own=a%26b+%23c"
    assert write_address("http://host/compare?layer=1", View()) == "http://host/compare"


def test_another_study_lets_go_of_what_was_picked_of_the_first_and_keeps_the_rest():
    moved = EVERYTHING.move_to(StudyKey())
    assert moved.study_key == StudyKey() and moved.edit is moved.layer is moved.direction is None
    assert moved["directions"] == replace(EVERYTHING["directions"], pins=())
    assert (moved["token_lens.pair"], moved["token_lens.rank"], moved["token_lens.own"]) == (1, None, WORDS)
    assert moved["compare"] == EVERYTHING["compare"]


PLACES = st.tuples(st.integers(0, 999), st.integers(0, 999))
LISTS = st.lists(st.integers(0, 999).map(str), min_size=1, max_size=9).map(",".join)
TRAINED = ("bench", "sample_size", "label_noise")
OF_A_FORM = {
    "layers": st.sets(st.integers(0, 999), min_size=1).map(lambda layers: tuple(sorted(layers))),
    "off": st.frozensets(PLACES, min_size=1),
    "direction": st.integers(0, LARGEST - 1),
    "pins": st.lists(PLACES, unique=True, min_size=1).map(tuple),
    **dict.fromkeys(("own", "text", "second", "continue"), st.text(max_size=80)),
    "sweep_ranks": st.lists(st.integers(1, 999), min_size=1).map(tuple),
    "sweep_ends": st.sets(st.integers(0, 999), min_size=1).map(lambda layers: tuple(sorted(layers))),
    "sweep_strengths": st.lists(st.floats(-10, 10).map(str), unique=True).map(tuple),
    **dict.fromkeys(("sample_size_sizes", "dpo_link_at_steps", "dpo_link_few", "centring_ranks"), LISTS),
    **dict.fromkeys((f"{lab}_dpo_rates" for lab in TRAINED), LISTS),
    **dict.fromkeys(
        (f"{lab}_methods" for lab in TRAINED), st.lists(st.just("detox"), min_size=1, max_size=2).map(tuple)
    ),
    "label_noise_flipped": LISTS,
}
"""Values of the parts that are no plain numbers, words or switches."""


NAMES = st.sampled_from(("owner/name", "gpt2", "a-b.c/d_e"))


def values_of(leaf: Leaf) -> st.SearchStrategy:
    """Whatever a part of a view can be."""
    low, high = leaf.option.low, leaf.option.high
    if leaf.link in OF_A_FORM:
        return OF_A_FORM[leaf.link]
    if leaf.path.endswith(("plan.prompts", "neutral.source", "pairs.source", "classifier.classifier")):
        return NAMES
    if leaf.path.endswith(("plan.scorers", "capability.tasks")):
        return st.lists(NAMES, unique=True).map(tuple)
    if leaf.path.endswith("methods"):
        return st.lists(NAMES.map(Choice), unique=True).map(tuple)
    if leaf.form is not None:
        return st.lists(st.sampled_from(leaf.choices), unique=True).map(tuple)
    plain = {
        bool: st.booleans(),
        int: st.integers(-LARGEST if low is None else low, LARGEST if high is None else high),
        float: st.floats(low, high),
        str: st.text(min_size=1),
    }
    found = plain[leaf.kind] if leaf.kind in plain else st.sampled_from(leaf.choices)
    return st.none() | found if leaf.optional else found


@st.composite
def views(draw) -> View:
    view = View()
    for leaf in list_parts(view):
        if draw(st.booleans()):
            view = view.put(leaf.path, draw(values_of(leaf)))
    return view


@settings(max_examples=30, deadline=None, derandomize=True)
@given(views())
def test_a_link_restores_whatever_view_it_was_written_from(view):
    query = urlencode(write_link(view))
    read = read_link(dict(parse_qsl(query, keep_blank_values=True)))
    assert {leaf.link: leaf.value for leaf in list_parts(read)} == {leaf.link: leaf.value for leaf in list_parts(view)}


NASTY = (
    "",
    "all",
    "nan",
    "-inf",
    "1e999",
    "9" * 5000,
    "0-" + "9" * 5000,
    "1.1,",
    "\x00",
    "../../etc/passwd",
    "-1",
    "０",
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.dictionaries(st.sampled_from(sorted(list_names())), st.text() | st.sampled_from(NASTY), min_size=1))
def test_no_text_in_a_link_is_worse_than_one_sentence(parameters):
    try:
        read_link(parameters)
    except InputError as error:
        assert str(error).startswith("The link could not be restored")


def test_no_link_tells_where_a_file_lies_or_has_one_opened(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("A line\n")
    for name in ("plan.prompts", "plan.neutral.source", "options.classifier.classifier", "options.capability.tasks"):
        value = (str(file),) if name.endswith("tasks") else str(file)
        view = View().put(f"evaluate.measures.{name}", value)
        assert write_link(view) == {}
    view = View().put("evaluate.measures.prompts_from", "file").put("evaluate.measures.prompts_file", str(file))
    assert write_link(view) == {"evaluate_prompts_from": "file"}
    for part in ("prompts", "neutral", "classifier", "tasks"):
        for path in (str(file), "../secret.txt", "pages/navigation.yml"):
            with pytest.raises(InputError, match=f"“evaluate_{part}”"):
                read_link({f"evaluate_{part}": path})


FILES = (
    "/etc/passwd",
    "~root/x.csv",
    "../x.csv",
    "data/x.csv",
    "a/b/c",
    "x.parquet",
    "C:\\x",
    "x\0y",
    "./x",
    "." * 3000,
)


@pytest.mark.parametrize("name", FILES)
def test_a_link_names_no_file_and_nothing_of_this_machine_is_looked_up(name, monkeypatch):
    looked = []
    for ask in ("exists", "is_file", "is_dir", "stat", "open"):
        monkeypatch.setattr(Path, ask, lambda self, *given, **more: looked.append(str(self)))
    for part in ("pairs", "evaluate_prompts", "evaluate_neutral"):
        with pytest.raises(InputError, match="names no files of a machine"):
            read_link({part: name})
    assert looked == []


def test_a_link_names_an_upload_by_its_content_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = store_upload("mine & yours.csv", b"toxic,civil\na,b\n")
    view = View().put("fit.pairs.source", str(file))
    link = write_link(view)
    assert link == {"pairs": f"upload:{sha256(file.read_bytes()).hexdigest()}/mine _ yours.csv"}
    assert read_link(link) == view and str(tmp_path) not in str(link)
    for told in ("upload:abc/x.csv", f"upload:{'a' * 64}/../x.csv", f"upload:{'a' * 64}/a/b.csv", "upload:"):
        with pytest.raises(InputError):
            read_link({"pairs": told})


def test_folders_of_a_server_that_others_reach_are_switched_off(monkeypatch):
    assert read_link({"model": "/a/model"}).model.name == "/a/model"
    monkeypatch.setattr(places, "LOCAL", frozenset())
    with pytest.raises(InputError, match="switched off"):
        read_link({"model": "/a/model"})
    assert write_link(View().put("model.name", "/a/model")) == {}
    assert read_link({"model": "openai-community/gpt2"}).model.name == "openai-community/gpt2"
    own = replace(MEASURES, prompts_from="bundled", neutral_from="bundled", options=MEASURES.options | {
        "classifier": ClassifierOptions("/a/folder", "rude")
    }, plan=replace(MEASURES.plan, scorers=("classifier",)))  # fmt: skip
    with pytest.raises(InputError, match="switched off"):
        own.complete()
    monkeypatch.setenv(PATHS, "on")
    assert read_link({"model": "/a/model"}).model.name == "/a/model" and own.complete()


@given(st.dictionaries(st.sampled_from(sorted(list_names())), st.text(max_size=400), max_size=6))
@settings(deadline=None, max_examples=EXAMPLES)
def test_any_link_is_a_view_or_one_sentence(parameters):
    try:
        view = read_link(parameters)
    except InputError as error:
        assert "\n" not in str(error) and len(str(error)) < 1200
    else:
        assert write_link(read_link(write_link(view))) == write_link(view)


@pytest.mark.parametrize("part", ["layers", "rank", "off", "limit", "layer", "direction", "luck", "strength"])
@pytest.mark.parametrize("text", ["9" * 5000, "-" + "9" * 5000, "1e" + "9" * 500, "0-" + "9" * 5000])
def test_numbers_of_thousands_of_digits_are_one_sentence(part, text):
    with pytest.raises(InputError, match="could not be restored"):
        read_link({part: text})
