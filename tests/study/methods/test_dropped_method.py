"""A method is one file: put into the folder, it is offered, and studies can be fitted by it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from detox_engine.errors import InputError
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.sources import PairSpec
from detox_engine.study.methods import fit_subspaces_of
from detox_engine.study.moments import Moments
from detox_engine.study.study import Study
from detox_engine.workbench import Workbench
from tests.dropped import dropped, read_help
from tests.models import open_tiny

PACKAGE = "detox_engine.study.methods"
TEN_LINES = """
import torch
from detox_engine.study.method import MethodKind
from detox_engine.study.subspace import ToxicSubspace, find_mean_direction

def fit(toxic, civil, keep):
    first = (toxic - civil)[0].norm()
    basis = torch.nn.functional.normalize((toxic - civil)[:1], dim=1)
    return ToxicSubspace(basis, first[None], find_mean_direction(civil).float(), torch.ones(1))

METHOD = MethodKind(name="first-pair", title="First pair", sentence="what the first pair says", fit=fit)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dropped")
    (folder / "first_pair.py").write_text(TEN_LINES, encoding="utf-8")
    return folder


def test_the_command_line_offers_it(folder: Path):
    assert "first-pair: what the first pair says" in read_help(PACKAGE, folder, "fit")


def test_a_study_is_fitted_by_it_and_says_so(folder: Path, tmp_path: Path):
    plan = FitPlan(PairSpec(limit=12), keep=4, method="first-pair")
    bench = Workbench(open_tiny("gpt2"))
    with dropped(PACKAGE, folder, "methods"):
        study = bench.fit(plan)
        study.save(tmp_path / "study")
        with pytest.raises(InputError, match="First pair needs all pairs at once"):
            fit_subspaces_of([Moments.empty(8)], 4, method="first-pair")
    difference = study.embeddings.toxic[1, 0] - study.embeddings.civil[1, 0]
    torch.testing.assert_close(study.subspaces[1].basis[0], difference / difference.norm())
    assert Study.load(tmp_path / "study").plan.method == "first-pair"


def test_an_unknown_method_is_refused_with_the_ones_that_there_are():
    with pytest.raises(InputError, match="no method “magic”: choose among detox, mean-difference"):
        Workbench(open_tiny("gpt2")).fit(replace(FitPlan(), method="magic"))
