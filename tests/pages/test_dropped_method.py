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
        studies = {0: bench.fit(FitPlan(PairSpec(limit=12), keep=4, methods=("detox", NAME)))}
        studies[3] = bench.fit(FitPlan(PairSpec(limit=12), keep=4, methods=("detox", third)))
        for pair, study in studies.items():
            study.save(tmp_path / f"study {pair}")
            assert Study.load(tmp_path / f"study {pair}").plan == study.plan
            difference = study.embeddings.toxic[1, pair] - study.embeddings.civil[1, pair]
            torch.testing.assert_close(study.of(NAME)[1].basis[0], difference / difference.norm())
            assert study.methods == ("detox", NAME) and study.kept_of(NAME) == 1 and study.kept == 4
        with pytest.raises(InputError, match="One pair needs all pairs at once"):
            fit_subspaces_of([Moments.empty(8)], 4, method=third)
    read = Study.load(tmp_path / "study 3")
    assert read.methods == ("detox", NAME), "a study is read where its method is not"
    torch.testing.assert_close(read.of(NAME)[1].basis, studies[3].of(NAME)[1].basis)


def test_a_study_that_is_older_than_the_choice_of_a_method_is_read_as_detox(tmp_path: Path):
    study = Workbench(open_tiny("gpt2")).fit(FitPlan(PairSpec(limit=12)))
    study.save(tmp_path / "study")
    file = tmp_path / "study" / "study.json"
    record = json.loads(file.read_text(encoding="utf-8"))
    assert [entry["name"] for entry in record["plan"].pop("methods")] == ["detox", "fisher", "mean-difference"]
    assert record["plan"].pop("sinks") == "leave-out"
    file.write_text(json.dumps(record), encoding="utf-8")
    read = Study.load(tmp_path / "study")
    assert read.methods == ("detox",) and read.plan.sinks == "keep"
    record["plan"]["method"] = "mean-difference"
    file.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(InputError, match="fitted by mean-difference alone"):
        Study.load(tmp_path / "study")


def test_the_fit_form_asks_for_its_option_which_is_in_the_command_and_the_link(folder: Path, tiny_folder):
    with dropped(PACKAGE, folder, "methods"):
        session = open_app(model=tiny_folder, limit=20)
        session.multiselect(key="fit_methods").set_value(["detox", NAME]).run()
        field = session.number_input(key="fit_one-pair_pair")
        assert (field.label, field.value, field.min) == ("Number of the pair", 0, 0)
        field.set_value(3).run()
        assert any("--methods detox,one-pair --pair 3" in block.value for block in session.code)
        session.button(key="fit").click().run()
        run_until(session, lambda session: "The pairs in use" in texts(session) and not session.session_state["jobs"])
        view = session.session_state["view"]
        chosen = (Choice("detox"), Choice(NAME, methods()[NAME].options(pair=3)))
        assert not session.exception and view.study_key.fit.methods == chosen
        # Beside those that it was fitted by stand those that its embeddings give; Fisher's takes a covariance too.
        offered = ["DeTox", "Mean difference", "LEACE", "GLOSS", "DeTox, not centred", "One pair"]
        assert session.selectbox(key="edit_method").options == offered
        session.selectbox(key="edit_method").set_value(NAME).run()
        assert not session.exception and session.session_state["view"].edit.method == NAME
        view = session.session_state["view"]
        link = write_link(view)
        assert (link["methods"], link["pair_number"], link["method"]) == (f"detox,{NAME}", "3", NAME)
        assert read_link(link).study_key == view.study_key
        session.multiselect(key="fit_methods").set_value(["detox"]).run()
        session.multiselect(key="fit_methods").set_value(["detox", NAME]).run()
        assert session.number_input(key="fit_one-pair_pair").value == 3
        other = open_app(**link)
        assert other.multiselect(key="fit_methods").value == ["detox", NAME]
        assert other.number_input(key="fit_one-pair_pair").value == 3


def test_an_unknown_method_is_refused_with_the_ones_that_there_are():
    with pytest.raises(InputError, match="no method “magic”: choose among detox, fisher, mean-difference"):
        Workbench(open_tiny("gpt2")).fit(replace(FitPlan(), methods=("magic",)))
