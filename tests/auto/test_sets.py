"""What fits, what chooses and what reports share nothing, whatever repeats in the files."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from detox_engine.auto.sets import CHOOSING, LEAST_REPORTED, divide
from detox_engine.data.bundled import bundled_neutral
from detox_engine.data.texts import read_text
from detox_engine.errors import InputError
from detox_engine.plans.auto import AutoPlan
from detox_engine.plans.sources import BUNDLED, PairSpec, TextSpec
from detox_engine.reading.causal import list_shortest
from detox_engine.study.suggestion.search import divide_neutral

MODEL = "someone/model"


def write_texts(folder, pairs: int = 30, prompts: int = 60, repeats: int = 0) -> AutoPlan:
    rows = [{"prompt": f"Prompt {number}", "toxic": "you idiot", "civil": "my friend"} for number in range(pairs)]
    rows += rows[:repeats]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = [f"Prompt {number}" for number in range(3)] + [f"Once {number} came" for number in range(prompts)]
    (folder / "prompts.txt").write_text("\n".join([*lines, *lines[:repeats]]))
    return AutoPlan(PairSpec(str(folder / "pairs.jsonl")), str(folder / "prompts.txt"))


def read_fitted(sets, plan) -> list:
    return [pair for _, pair in sets.open_fit(plan, MODEL)]


@given(pairs=some.integers(10, 60), prompts=some.integers(45, 200), repeats=some.integers(0, 9))
@settings(deadline=None, max_examples=15)
def test_no_text_is_in_two_sets(tmp_path_factory, pairs, prompts, repeats):
    plan = write_texts(tmp_path_factory.mktemp("texts"), pairs, prompts, repeats)
    sets = divide(MODEL, plan)
    fitted = read_fitted(sets, plan)
    assert fitted and sets.choosing_pairs and not set(fitted) & set(sets.choosing_pairs)
    assert not set(sets.choosing_prompts) & set(sets.reported_prompts)
    beginnings = {pair.prompt for pair in sets.pairs}
    assert not beginnings & set(sets.reported_prompts)
    assert len(sets.choosing_prompts) <= CHOOSING and len(sets.reported_prompts) >= LEAST_REPORTED
    own = read_text(TextSpec(), bundled_neutral(MODEL)).lines
    first, second = divide_neutral(own)
    assert not {*first, *second} & set(sets.reported_text.lines) and sets.reported_text.lines
    record = sets.record()
    assert record["fit"]["pairs"] == len(fitted)
    assert record == divide(MODEL, plan).record()


@pytest.mark.parametrize("model", [BUNDLED, MODEL])
def test_prompts_that_directions_are_read_with_report_nothing(model):
    sets = divide(model, AutoPlan())
    assert not set(list_shortest(model)) & set(sets.reported_prompts)
    assert len(sets.reported_prompts) > 150


def test_an_edit_of_a_text_is_seen_in_the_record(tmp_path):
    plan = write_texts(tmp_path)
    before = divide(MODEL, plan).record()
    file = tmp_path / "prompts.txt"
    file.write_text(file.read_text() + "\nAnother one came")
    after = divide(MODEL, plan).record()
    assert before["fit"] == after["fit"] and before["report"] != after["report"]


def test_too_few_prompts_are_one_sentence(tmp_path):
    with pytest.raises(InputError, match="left to report on.*20 are needed"):
        divide(MODEL, write_texts(tmp_path, prompts=30))


def test_neutral_text_that_chose_everything_is_one_sentence(tmp_path):
    first, _ = divide_neutral(read_text(TextSpec(), bundled_neutral(MODEL)).lines)
    (tmp_path / "neutral.txt").write_text("\n".join(first))
    plan = write_texts(tmp_path)
    with pytest.raises(InputError, match="no neutral text besides"):
        divide(MODEL, AutoPlan(plan.pairs, plan.prompts, TextSpec(str(tmp_path / "neutral.txt"))))
