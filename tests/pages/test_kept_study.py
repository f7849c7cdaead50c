"""The first visit's study is kept between starts, and only used where it is of this very model and these pairs."""

import torch

from detox_engine.specs import FitPlan, PairSpec
from detox_engine.workbench import Workbench
from tests.models import loaded_tiny
from ui.kept_study import find_folder, keep_study, read_study

PLAN = FitPlan(pairs=PairSpec(limit=20), keep=3)


def test_a_kept_study_comes_back_as_it_was_and_only_for_its_own_question():
    bench = Workbench(loaded_tiny("gpt2"))
    assert read_study(bench, PLAN) is None
    study = bench.fit(PLAN)
    keep_study(bench, study)
    again = read_study(bench, PLAN)
    assert again.made == study.made and torch.equal(again.subspaces[1].basis, study.subspaces[1].basis)
    assert torch.equal(again.embeddings.toxic, study.embeddings.toxic)
    assert read_study(bench, FitPlan(pairs=PairSpec(limit=21), keep=3)) is None
    assert read_study(Workbench(loaded_tiny("llama")), PLAN) is None


def test_a_broken_kept_study_is_as_good_as_none():
    bench = Workbench(loaded_tiny("gpt2"))
    keep_study(bench, bench.fit(PLAN))
    (find_folder(bench, PLAN) / "study.json").write_text("{")
    assert read_study(bench, PLAN) is None
    keep_study(bench, bench.fit(PLAN))
    assert read_study(bench, PLAN) is None
