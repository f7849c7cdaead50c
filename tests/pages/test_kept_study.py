"""A first visit's study is kept between starts, and only used where it is of this very model and these pairs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from detox_engine.errors import InputError
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.sources import BUNDLED, SMOLLM2, ModelSpec, PairSpec
from detox_engine.workbench import Workbench
from tests.models import open_tiny
from ui.session import kept_study
from ui.session.kept_study import WORDS, find_folder, has_study, is_to_be_kept, keep_study, read_study
from ui.session.view import StudyKey
from ui.words import rude_words

PLAN = FitPlan(pairs=PairSpec(limit=20), keep=3)
KEY = StudyKey(fit=PLAN)
ROOT = Path(__file__).parents[2]


@pytest.fixture(params=[BUNDLED, SMOLLM2])
def at_hand(request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[StudyKey, Path, Path]:
    """Stands in for a model at hand and its pairs: the study to be kept, the file with the weights, and the pairs."""
    folder, pairs = tmp_path / "model", tmp_path / "pairs.jsonl"
    folder.mkdir()
    weights = folder / ("model.safetensors" if request.param == BUNDLED else "model.gguf")
    weights.write_bytes(b"weights")
    pairs.write_text("pairs")
    monkeypatch.setattr(kept_study, "BUNDLED_MODEL", folder)
    monkeypatch.setattr(kept_study, "find_smollm2", lambda: weights)
    monkeypatch.setattr(kept_study, "bundled_pairs", lambda name: pairs)
    return StudyKey(ModelSpec(request.param), PLAN), weights, pairs


@pytest.mark.parametrize("changed", ["plan", "weights", "pairs", "insults"])
def test_a_kept_study_comes_back_as_it_was_and_only_for_its_own_question(at_hand, monkeypatch, changed):
    key, weights, pairs = at_hand
    study = Workbench(open_tiny("gpt2")).fit(PLAN)
    assert read_study(key) is None
    keep_study(key, study)
    again = read_study(key)
    assert again.made == study.made and torch.equal(again.subspaces[1].basis, study.subspaces[1].basis)
    assert torch.equal(again.embeddings.toxic, study.embeddings.toxic)
    if changed == "insults":
        monkeypatch.setattr(rude_words, "INSULTS", rude_words.INSULTS | {"lamp"})
    elif changed != "plan":
        {"weights": weights, "pairs": pairs}[changed].write_text("others")
    other = StudyKey(key.model, FitPlan(pairs=PairSpec(limit=21), keep=3))
    assert read_study(other if changed == "plan" else key) is None


def test_each_model_at_hand_has_its_own():
    keep_study(KEY, Workbench(open_tiny("gpt2")).fit(PLAN))
    assert read_study(KEY) is not None and read_study(StudyKey(ModelSpec(SMOLLM2), PLAN)) is None


@pytest.mark.parametrize("part", ["study.json", WORDS])
def test_a_broken_kept_study_is_as_good_as_none_and_gives_way(at_hand, part):
    key = at_hand[0]
    study = Workbench(open_tiny("gpt2")).fit(PLAN)
    keep_study(key, study)
    (find_folder(key) / part).write_text("{")
    assert read_study(key) is None
    keep_study(key, study)
    assert read_study(key).pairs_hash == study.pairs_hash


def test_a_better_search_makes_anew_what_an_installation_keeps_and_nothing_that_a_person_fitted(at_hand, monkeypatch):
    own, plain = at_hand[0], StudyKey(at_hand[0].model)
    before = find_folder(own), find_folder(plain)
    monkeypatch.setattr("detox_engine.study.suggestion.SEARCH", 99)
    assert find_folder(own) == before[0] and find_folder(plain) != before[1]


def test_on_a_server_for_others_only_the_study_of_a_first_visit_is_kept(at_hand, monkeypatch):
    plain = StudyKey(at_hand[0].model)
    assert is_to_be_kept(at_hand[0])
    monkeypatch.setattr(kept_study, "keeps_results", lambda: False)
    assert is_to_be_kept(plain) and not has_study(plain)
    others = (at_hand[0], StudyKey(ModelSpec(plain.model.name, dtype="bfloat16")), StudyKey(ModelSpec("someone/model")))
    assert not any(map(is_to_be_kept, others))
    keep_study(plain, Workbench(open_tiny("gpt2")).fit(PLAN))
    assert has_study(plain) and not any(map(has_study, others))


def test_of_a_model_that_is_not_installed_no_study_is_kept(monkeypatch):
    def missing():
        raise InputError("SmolLM2-135M is not installed here.")

    monkeypatch.setattr(kept_study, "find_smollm2", missing)
    key = StudyKey(ModelSpec(SMOLLM2))
    assert not has_study(key) and read_study(key) is None
    keep_study(key, Workbench(open_tiny("gpt2")).fit(PLAN))


def test_installing_fits_a_model_at_hand_once(at_hand, monkeypatch):
    loaded = []

    class Loaded(Workbench):
        @classmethod
        def load(cls, spec, progress):
            loaded.append(spec.name)
            return cls(open_tiny("gpt2"))

        def fit_and_suggest(self, plan, progress, **options):
            return super().fit_and_suggest(PLAN, progress, **options)

    monkeypatch.setattr("detox_engine.workbench.Workbench", Loaded)
    name = at_hand[0].model.name
    for _ in range(2):
        kept_study.main(name)
    assert loaded == [name] and has_study(StudyKey(ModelSpec(name)))


def test_a_kept_study_and_its_blurred_words_need_neither_the_model_library_nor_the_scorer():
    """What takes seconds to import is not between a person and the first page."""
    script = """
import sys
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.sources import PairSpec
from ui.session import kept_study
from ui.session.view import StudyKey
from ui.words import rude_words
study = kept_study.read_study(StudyKey(fit=FitPlan(pairs=PairSpec(limit=20), keep=3)))
rude = rude_words.find_rude_words(side for pair in study.pairs for side in (pair.prompt, pair.toxic, pair.civil))
assert len(rude) > 3, rude
assert not {"transformers", "sklearn"} & set(sys.modules), sorted(sys.modules)
"""
    keep_study(KEY, Workbench(open_tiny("gpt2")).fit(PLAN))
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
