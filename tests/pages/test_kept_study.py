"""The first visit's study is kept between starts, and only used where it is of this very model and these pairs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from detox_engine.plans.fit import FitPlan
from detox_engine.plans.sources import PairSpec
from detox_engine.workbench import Workbench
from tests.models import open_tiny
from ui.session import kept_study
from ui.session.kept_study import WORDS, find_folder, keep_study, read_study
from ui.words import rude_words

PLAN = FitPlan(pairs=PairSpec(limit=20), keep=3)
ROOT = Path(__file__).parents[2]


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands in for the bundled model and its pairs."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "pairs.jsonl").write_text("pairs")
    monkeypatch.setattr(kept_study, "DEMO", tmp_path)
    return tmp_path


@pytest.mark.parametrize("changed", ["plan", "model/model.safetensors", "pairs.jsonl", "insults"])
def test_a_kept_study_comes_back_as_it_was_and_only_for_its_own_question(demo, monkeypatch, changed):
    study = Workbench(open_tiny("gpt2")).fit(PLAN)
    assert read_study(PLAN) is None
    keep_study(study)
    again = read_study(PLAN)
    assert again.made == study.made and torch.equal(again.subspaces[1].basis, study.subspaces[1].basis)
    assert torch.equal(again.embeddings.toxic, study.embeddings.toxic)
    if changed == "insults":
        monkeypatch.setattr(rude_words, "INSULTS", rude_words.INSULTS | {"lamp"})
    elif changed != "plan":
        (demo / changed).write_text("others")
    assert read_study(FitPlan(pairs=PairSpec(limit=21), keep=3) if changed == "plan" else PLAN) is None


@pytest.mark.parametrize("part", ["study.json", WORDS])
def test_a_broken_kept_study_is_as_good_as_none(demo, part):
    study = Workbench(open_tiny("gpt2")).fit(PLAN)
    keep_study(study)
    (find_folder(PLAN) / part).write_text("{")
    assert read_study(PLAN) is None
    keep_study(study)
    assert read_study(PLAN) is None


def test_a_kept_study_and_its_blurred_words_need_neither_the_model_library_nor_the_scorer():
    """What takes seconds to import is not between a person and the first page."""
    script = """
import sys
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.sources import PairSpec
from ui.session import kept_study
from ui.words import rude_words
study = kept_study.read_study(FitPlan(pairs=PairSpec(limit=20), keep=3))
rude = rude_words.find_rude_words(side for pair in study.pairs for side in (pair.prompt, pair.toxic, pair.civil))
assert len(rude) > 3, rude
assert not {"transformers", "sklearn"} & set(sys.modules), sorted(sys.modules)
"""
    keep_study(Workbench(open_tiny("gpt2")).fit(PLAN))
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
