"""A method is one file: put into the folder, it is offered with its options, and studies can be fitted by it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from detox_engine.errors import InputError
from detox_engine.plans.choice import Choice
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.sources import PairSpec
from detox_engine.study.methods import fit_subspaces_of, methods
from detox_engine.study.moments import Moments
from detox_engine.study.stability import measure_stability
from detox_engine.study.study import Study
from detox_engine.workbench import Workbench
from tests.dropped import dropped, read_help
from tests.models import open_tiny
from tests.pages.conftest import open_app, run_until, texts
from ui.session.links import read_link, write_link

PACKAGE = "detox_engine.study.methods"
TEN_LINES = """
from dataclasses import dataclass
import torch
from detox_engine.plans.option import option
from detox_engine.study.method import MethodKind
from detox_engine.study.subspace import ToxicSubspace, find_mean_direction

@dataclass(frozen=True)
class Options:
    pair: int = option(0, "Which pair, from 0.", "--pair", link="pair_number", low=0, title="Number of the pair")

def fit(toxic, civil, keep, pair):
    basis = torch.nn.functional.normalize((toxic - civil)[pair : pair + 1], dim=1)
    return ToxicSubspace(basis, basis.norm(dim=1), find_mean_direction(civil).float(), torch.ones(1))

METHOD = MethodKind(name="one-pair", title="One pair", sentence="what one pair says", options=Options, fit=fit)
"""
NAME = "one-pair"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dropped")
    (folder / "one_pair.py").write_text(TEN_LINES, encoding="utf-8")
    return folder


def test_the_command_line_offers_it_and_its_option(folder: Path):
    told = read_help(PACKAGE, folder, "fit")
    assert "one-pair: what one pair says" in told
    assert "--pair <int> Which pair, from 0. [default: 0]" in told


def test_a_study_is_fitted_by_it_and_says_so(folder: Path, tmp_path: Path):
    bench = Workbench(open_tiny("gpt2"))
    with dropped(PACKAGE, folder, "methods"):
        third = Choice(NAME, methods()[NAME].options(pair=3))
        studies = {0: bench.fit(FitPlan(PairSpec(limit=12), keep=4, method=NAME))}
        studies[3] = bench.fit(FitPlan(PairSpec(limit=12), keep=4, method=third))
        for pair, study in studies.items():
            study.save(tmp_path / f"study {pair}")
            assert Study.load(tmp_path / f"study {pair}").plan == study.plan
            difference = study.embeddings.toxic[1, pair] - study.embeddings.civil[1, pair]
            torch.testing.assert_close(study.subspaces[1].basis[0], difference / difference.norm())
        assert measure_stability(study.embeddings, study.subspaces, 1, 1, method=third).angles.shape == (3, 1)
        with pytest.raises(InputError, match="One pair needs all pairs at once"):
            fit_subspaces_of([Moments.empty(8)], 4, method=third)
    assert Study.load(tmp_path / "study 3").plan.method.name == NAME, "a study is read where its method is not"


def test_a_study_that_is_older_than_the_choice_of_a_method_is_read_as_detox(tmp_path: Path):
    study = Workbench(open_tiny("gpt2")).fit(FitPlan(PairSpec(limit=12)))
    study.save(tmp_path / "study")
    file = tmp_path / "study" / "study.json"
    record = json.loads(file.read_text(encoding="utf-8"))
    assert record["plan"].pop("method") == "detox" and "method_options" not in record["plan"]
    file.write_text(json.dumps(record), encoding="utf-8")
    assert Study.load(tmp_path / "study").plan == study.plan


def test_the_fit_form_asks_for_its_option_which_is_in_the_command_and_the_link(folder: Path, tiny_folder):
    with dropped(PACKAGE, folder, "methods"):
        session = open_app(model=tiny_folder, limit=20)
        session.selectbox(key="fit_method").set_value(NAME).run()
        field = session.number_input(key="fit_one-pair_pair")
        assert (field.label, field.value, field.min) == ("Number of the pair", 0, 0)
        field.set_value(3).run()
        assert any("--method one-pair --pair 3" in block.value for block in session.code)
        session.button(key="fit").click().run()
        run_until(session, lambda session: "The pairs in use" in texts(session) and not session.session_state["jobs"])
        view = session.session_state["view"]
        assert not session.exception and view.study_key.fit.method == Choice(NAME, methods()[NAME].options(pair=3))
        link = write_link(view)
        assert (link["method"], link["pair_number"]) == (NAME, "3")
        assert read_link(link).study_key == view.study_key
        session.selectbox(key="fit_method").set_value("detox").run()
        session.selectbox(key="fit_method").set_value(NAME).run()
        assert session.number_input(key="fit_one-pair_pair").value == 3
        other = open_app(**link)
        assert other.selectbox(key="fit_method").value == NAME
        assert other.number_input(key="fit_one-pair_pair").value == 3


def test_an_unknown_method_is_refused_with_the_ones_that_there_are():
    with pytest.raises(InputError, match="no method “magic”: choose among detox, mean-difference"):
        Workbench(open_tiny("gpt2")).fit(replace(FitPlan(), method="magic"))
