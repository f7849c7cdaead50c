"""A check confirms an edit that removes what makes rude words probable, and refutes one that removes nothing of it."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from detox_engine import workbench
from detox_engine.errors import Cancelled, InputError
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.fit import FitPlan
from detox_engine.scoring.evaluation import CHECK, check_suggestion
from detox_engine.scoring.scorers import mass
from detox_engine.study.study import Study
from detox_engine.study.suggestion import Suggestion
from detox_engine.workbench import Workbench
from tests.models import HIDDEN
from tests.planted import give_directions, open_planted, planted_direction, planted_pairs, rude_tokens, write_pairs


@pytest.fixture(scope="module")
def bench() -> Workbench:
    return Workbench(open_planted())


@pytest.fixture(scope="module")
def study(bench, tmp_path_factory) -> Study:
    """One method has the planted direction, the other one orthogonal to it."""
    spec = write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.jsonl", planted_pairs(20))
    fitted = bench.fit(FitPlan(spec, keep=2))
    planted = planted_direction()
    other = torch.randn(HIDDEN, generator=torch.Generator().manual_seed(1))
    other = torch.nn.functional.normalize(other - (other @ planted) * planted, dim=0)
    directions = {"fisher": planted, "mean-difference": other}
    return give_directions(fitted, {name: each.expand(fitted.layers, HIDDEN) for name, each in directions.items()})


@pytest.fixture(autouse=True)
def few(monkeypatch):
    brief = partial(check_suggestion, plan=replace(CHECK, limit_prompts=16))
    monkeypatch.setattr(workbench, "check_suggestion", brief)
    monkeypatch.setattr(mass, "list_rude_tokens", lambda tokenizer: rude_tokens())


def suggesting(study: Study, method: str) -> Study:
    return replace(study, suggestion=Suggestion(EditPlan((0, 1, 2), 1, 1.0, method=method), "gentle", ""))


def test_the_planted_direction_is_confirmed(bench, study):
    checked = bench.check(suggesting(study, "fisher"))
    change = checked.suggestion.check.changes[1]
    assert checked.suggestion.status == "confirmed" and change.name == "mass"
    assert change.after.mean < 0.8 * change.before.mean and change.fell
    assert change.fall.mean == pytest.approx(change.after.mean - change.before.mean)
    assert change.beyond.mean == pytest.approx(change.after.mean - change.control.mean)


def test_a_direction_that_does_nothing_is_refuted(bench, study):
    assert bench.check(suggesting(study, "mean-difference")).suggestion.status == "refuted"


def test_a_check_needs_a_suggestion_and_can_be_stopped(bench, study):
    with pytest.raises(InputError, match="--suggest"):
        bench.check(study)

    def stop(stage: str, done: int, total: int) -> None:
        if done:
            raise Cancelled

    with pytest.raises(Cancelled):
        check_suggestion(bench.model, suggesting(study, "fisher"), stop)
    assert not any(part._forward_hooks for part in bench.model.network.modules())
