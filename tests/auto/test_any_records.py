"""Results, receipts, recipes and notes that may be anybody's are read or refused in one sentence, whatever they say.

What was read can be used as well: held against the model, put on a card, told as a verdict.
"""

import copy
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from detox_engine.auto.repeat import Sources, repeat
from detox_engine.auto.verdict import judge
from detox_engine.errors import InputError
from detox_engine.export.receipt import RECEIPT
from detox_engine.export.recipe import EVALUATION, RECIPE, read_recipe
from detox_engine.export.take_away import Enclosed, export_edit, verify_export
from detox_engine.model.load import OpenModel, load_model
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.evaluation import EvaluationPlan, SweepPlan
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.plans.sources import ModelSpec, PairSpec, TextSpec
from detox_engine.scoring.evaluation import evaluate
from detox_engine.scoring.records import load_evaluation, record_evaluation
from detox_engine.scoring.results import load_points
from detox_engine.scoring.sweep import run_sweep
from detox_engine.study.fit import fit_study
from detox_engine.study.notes import read_notes, write_note
from detox_engine.study.study import Study
from tests.fuzz import EXAMPLES, anything
from tests.models import SENTENCES, save_tiny_model

FEW = settings(deadline=None, max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])


class World(NamedTuple):
    """A model, a study of it, and a folder with an exported edit, its evaluation, a sweep and notes."""

    folder: Path
    model: OpenModel
    study: Study

    def __repr__(self) -> str:
        return "the world"  # or a failing example fills pages


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    model = load_model(ModelSpec(str(save_tiny_model("gpt2", folder / "model")), device="cpu"))
    sides = zip(SENTENCES[:5], SENTENCES[5:], strict=True)
    lines = [json.dumps({"toxic": one, "civil": other}) for one, other in sides]
    (folder / "pairs.jsonl").write_text("\n".join(lines))
    (folder / "prompts.txt").write_text("The train is\nShe explained\n")
    study = fit_study(model, FitPlan(PairSpec(str(folder / "pairs.jsonl")), keep=2))
    edit = EditPlan((1, 2), 1)
    texts = str(folder / "prompts.txt")
    plan = EvaluationPlan(
        prompts=texts, neutral=TextSpec(texts), sampling=SamplingPlan(max_new_tokens=3), controls=2, resamples=100
    )
    record = record_evaluation(evaluate(model, study, edit, plan))
    export_edit(model, study, edit, folder / "export", enclosed=Enclosed(record))
    run_sweep(model, study, SweepPlan(ranks=(1,), starts=(1,), evaluation=plan), folder / "sweep.jsonl")
    write_note(folder, study, 1, 0, "Insults")
    return World(folder, model, study)


def places(value, path=()):
    """Every place in a record."""
    yield path
    for key, part in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(part, (*path, key))


def spoil(data, record):
    """The record with something else at one place; or without it."""
    changed = copy.deepcopy(record)
    path = data.draw(some.sampled_from([each for each in places(record) if each]))
    part = changed
    for name in path[:-1]:
        part = part[name]
    if isinstance(part, dict) and data.draw(some.booleans()):
        del part[path[-1]]
    else:
        part[path[-1]] = data.draw(anything())
    return changed


def is_told(error: InputError) -> None:
    assert "\n" not in str(error) and len(str(error)) < 1500


@given(data=some.data())
@FEW
def test_any_evaluation_is_used_or_refused_in_one_sentence(world, tmp_path, data):
    folder, model, study = world
    record = spoil(data, json.loads((folder / "export" / EVALUATION).read_text()))
    (tmp_path / "evaluation.json").write_text(json.dumps(record))
    try:
        found = load_evaluation(tmp_path / "evaluation.json")
        judge(found, 1.05)
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        export_edit(model, study, EditPlan((1, 2), 1), tmp_path / "out", enclosed=Enclosed(record))
    except InputError as error:
        is_told(error)


@given(data=some.data())
@FEW
def test_any_receipt_is_verified_or_refused_in_one_sentence(world, tmp_path, data):
    folder, model, _ = world
    export = Path(shutil.copytree(folder / "export", tmp_path / "export", dirs_exist_ok=True))
    record = spoil(data, json.loads((folder / "export" / RECEIPT).read_text()))
    (export / RECEIPT).write_text(json.dumps(record))
    try:
        claims = verify_export(export, model)
    except InputError as error:
        is_told(error)
    else:
        assert all("\n" not in claim.sentence for claim in claims)


@given(data=some.data())
@FEW
def test_any_recipe_is_read_or_refused_in_one_sentence(world, tmp_path, data):
    record = spoil(data, json.loads((world.folder / "export" / RECIPE).read_text()))
    (tmp_path / RECIPE).write_text(json.dumps(record))
    try:
        found = read_recipe(tmp_path / RECIPE)
        assert found.edit.rank >= 1 and found.base.layers >= 1
    except InputError as error:
        is_told(error)


@given(data=some.data())
@FEW
def test_any_results_of_a_sweep_are_read_or_refused_in_one_sentence(world, tmp_path, data):
    (line,) = (world.folder / "sweep.jsonl").read_text().splitlines()
    (tmp_path / "sweep.jsonl").write_text(json.dumps(spoil(data, json.loads(line))) + "\n")
    try:
        for point in load_points(tmp_path / "sweep.jsonl").values():
            assert point.edit.rank == point.rank >= 1
            assert all(effect.before.n >= 0 for effect in point.effects.values())
    except InputError as error:
        is_told(error)


@given(data=some.data())
@FEW
def test_any_notes_are_read_or_refused_in_one_sentence(world, tmp_path, data):
    record = spoil(data, json.loads((world.folder / "notes.json").read_text()))
    (tmp_path / "notes.json").write_text(json.dumps(record))
    try:
        assert all(note.layer >= 0 and isinstance(note.text, str) for note in read_notes(tmp_path))
    except InputError as error:
        is_told(error)


@pytest.mark.parametrize("content", [b"", b"null", b"3", b"[" * 200_000, b"\xff\xfe", b'{"format": 1e999}', b"[{}]"])
def test_what_is_no_record_at_all_is_told(world, tmp_path, content):
    export = Path(shutil.copytree(world.folder / "export", tmp_path / "export"))
    readers = {
        RECEIPT: lambda: verify_export(export, world.model),
        RECIPE: lambda: read_recipe(export / RECIPE),
        EVALUATION: lambda: load_evaluation(export / EVALUATION),
        "notes.json": lambda: read_notes(export),
        "sweep.jsonl": lambda: load_points(export / "sweep.jsonl"),
    }
    for name, read in readers.items():
        (export / name).write_bytes(content)
        try:
            found = read()
        except InputError as error:
            is_told(error)
        else:
            assert name in ("notes.json", "sweep.jsonl") and not found and content in (b"", b"null")


def test_other_texts_than_it_was_measured_on_are_told_before_anything_is_fitted(world, tmp_path, monkeypatch):
    texts, pairs = str(world.folder / "prompts.txt"), str(world.folder / "pairs.jsonl")
    (tmp_path / "other.txt").write_text("The train is\nShe asked\n")

    def again(prompts: str):
        spec = ModelSpec(str(world.folder / "model"), device="cpu")
        given = Sources(pairs, prompts, texts)
        return repeat(world.folder / "export" / RECIPE, spec, lambda *_: world.model, tmp_path, given)

    assert [claim.holds for claim in again(texts).claims].count(False) == 0
    monkeypatch.setattr("detox_engine.auto.repeat.fit_study", None)
    told = again(str(tmp_path / "other.txt"))
    assert not told.holds and [claim.name for claim in told.claims] == ["base", "texts"]
