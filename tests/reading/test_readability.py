"""Directions that read as words leave no finding; random ones in their place are found out, and decide the verdict."""

from dataclasses import replace

import pytest
import torch

from detox_engine.edit.control import draw_controls
from detox_engine.edit.low_rank import make_edit
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.sources import PairSpec
from detox_engine.reading.readability import KIND, judge_readability
from detox_engine.workbench import Workbench


@pytest.fixture(scope="module")
def bench():
    return Workbench.load()


@pytest.fixture(scope="module")
def study(bench):
    return bench.fit(FitPlan(PairSpec(limit=60)))


@pytest.fixture(scope="module")
def astray(study):
    """The same study with one random direction in every layer."""
    edit = make_edit(study.subspaces, EditPlan(tuple(range(study.layers)), 1))
    [random] = draw_controls(edit, 1, seed=3)
    subspaces = tuple(
        replace(subspace, basis=torch.cat([random.bases[layer], subspace.basis[1:]]))
        for layer, subspace in enumerate(study.subspaces)
    )
    return replace(study, subspaces=subspaces)


def test_directions_that_read_leave_no_finding(bench, study):
    assert judge_readability(bench.model, study).findings == study.findings and study.isolates_toxicity


def test_random_directions_are_found_out_and_decide_the_verdict(bench, astray):
    judged = judge_readability(bench.model, astray)
    [finding] = [finding for finding in judged.findings if finding.kind == KIND]
    assert f"{finding.value:.0f} of " in finding.sentence and "layers 4, 6 and 7" in finding.sentence
    assert not judged.isolates_toxicity and "directions that do not read" in judged.verdict
    assert judge_readability(bench.model, judged).findings == judged.findings, "said once"


def test_of_few_pairs_nothing_is_said(bench, astray):
    few = replace(astray, pair_count=19)
    assert judge_readability(bench.model, few).findings == few.findings


def test_a_fit_that_suggests_judges_before_it_does(bench, monkeypatch):
    from detox_engine import workbench

    judged = []
    monkeypatch.setattr(workbench, "judge_readability", lambda model, study, *_: judged.append(study) or study)
    plan = FitPlan(PairSpec(limit=20))
    suggested = bench.fit_and_suggest(plan)
    assert [study.suggestion for study in judged] == [None] and suggested.suggestion is not None
    bench.fit_and_suggest(replace(plan, suggest=False))
    assert len(judged) == 1
