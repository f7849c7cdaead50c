"""Removing one direction: that one and no other, with its control beside it."""

from dataclasses import replace

import pytest
import torch

from detox_engine.edit.low_rank import make_edit
from detox_engine.errors import InputError
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.sources import PairSpec, TextSpec
from detox_engine.scoring.ablation import ABLATION_EVALUATION, ablate, plan_ablation
from detox_engine.workbench import Workbench
from tests.models import open_tiny


@pytest.fixture(scope="module")
def bench():
    return Workbench(open_tiny("gpt2"))


@pytest.fixture(scope="module")
def study(bench):
    return bench.fit(FitPlan(pairs=PairSpec(limit=20), keep=4))


@pytest.mark.parametrize("direction", range(4))
def test_only_the_one_direction_is_removed(study, direction):
    edit = make_edit(study.subspaces, plan_ablation(study, 2, direction, 0.5))
    assert edit.layers == (2,) and edit.strength == 0.5
    assert torch.equal(edit.bases[2], study.subspaces[2].basis[direction : direction + 1])


def test_toxicity_and_drift_are_measured_beside_random_directions(bench, study):
    plan = replace(ABLATION_EVALUATION, limit_prompts=3, neutral=TextSpec(limit=4))
    found = ablate(bench.model, study, 1, 2, plan=plan)
    assert {"profanity", "drift"} <= {score.name for score in found.scores}
    drift = found["drift"].effect
    assert drift.before.mean == pytest.approx(0, abs=1e-6) and drift.after.mean > 1e-6 and len(drift.control.draws) == 3
    assert len(found.prompts) == 3 and found.edit == plan_ablation(study, 1, 2)
    assert [change.layer for change in found.proof.changes] == [1]


def test_a_direction_that_was_not_kept_gets_a_sentence(study):
    with pytest.raises(InputError, match="Direction 4 of layer 1 was not kept: choose one of 0-3"):
        plan_ablation(study, 1, 4)
    with pytest.raises(InputError, match="its layers are 0-2"):
        plan_ablation(study, 3, 0)
