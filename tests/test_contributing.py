"""The examples of docs/contributing.md do what it says of them."""

import re
import sqlite3
from pathlib import Path

import pytest
import torch
from streamlit.testing.v1 import AppTest

from detox_engine.data import files
from detox_engine.data.bundled import EVERYDAY
from detox_engine.data.pairs import read_pairs
from detox_engine.errors import ignore_progress
from detox_engine.lab import baselines
from detox_engine.plans.choice import Choice
from detox_engine.plans.evaluation import EvaluationPlan
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.plans.sources import PairSpec
from detox_engine.scoring import scorers
from detox_engine.scoring.trial import Trial
from detox_engine.study import methods
from pages import navigation
from tests import models
from ui.session import shared_models
from ui.session.picks import Picks

TEXT = (Path(__file__).parents[1] / "docs" / "contributing.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"^\*\*A ([a-z ]+)\*\*.*?^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))


@pytest.fixture
def drop(monkeypatch, tmp_path):
    """`drop(package, collect, code)` puts a file into a folder on the package's path, as if it stood in its own."""
    kept = []

    def into(package, collect, code: str) -> None:
        (tmp_path / f"added_{len(kept)}.py").write_text(code, encoding="utf-8")
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
        collect.cache_clear()
        kept.append(collect)

    yield into
    monkeypatch.undo()
    for collect in kept:
        collect.cache_clear()


def test_the_page_fits_a_screen_and_has_an_example_of_each():
    assert list(EXAMPLES) == ["scorer", "method", "baseline", "page", "file reader", "model family"]
    assert all(len(code.splitlines()) <= 12 for code in EXAMPLES.values())


def test_a_scorer_dropped_into_its_folder_measures(drop):
    drop(scorers, scorers.scorers, EXAMPLES["scorer"])
    plan = EvaluationPlan(scorers=("words",))
    trial = Trial(models.open_tiny("gpt2"), [None], ["The train", "What"], SamplingPlan(3, samples=2), {})
    [scorer] = scorers.make_scorers(plan)
    tally = scorer.measure(trial)
    written = [len(sides[0].text.split()) for samples in trial.continuations for sides in samples]
    assert tally.totals.sum() == sum(written) and tally.counts.tolist() == [[2, 2]]


def test_a_method_dropped_into_its_folder_fits(drop):
    drop(methods, methods.methods, EXAMPLES["method"])
    toxic, civil = torch.randn(2, 3, 6, 16)
    subspaces = methods.fit_subspaces(toxic, civil, 2, method=Choice("random"))
    for subspace in subspaces:
        torch.testing.assert_close(subspace.basis @ subspace.basis.T, torch.eye(2))
    assert len(subspaces) == 3


def test_a_baseline_dropped_into_its_folder_is_made(drop):
    assert "ten-tokens" not in baselines.baselines()
    drop(baselines, baselines.baselines, EXAMPLES["baseline"])
    made = baselines.make_baseline(Choice("ten-tokens"), None)
    assert made.change.tokens == tuple(range(10, 20)) and "ten-tokens" in baselines.list_contestants()


def test_a_page_waits_for_a_study_and_draws_it(monkeypatch, tmp_path):
    (tmp_path / "count").mkdir()
    (tmp_path / "count" / "page.py").write_text(EXAMPLES["page"], encoding="utf-8")
    (tmp_path / "navigation.py").write_text("from pages.navigation import main\nmain()\n")
    monkeypatch.setattr(navigation, "PAGES", {"Find": (("count", "Pairs", "tag", Picks),)})
    monkeypatch.setattr(navigation, "FIRST", "count")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    session = AppTest.from_file(str(tmp_path / "navigation.py"), default_timeout=60)
    model = models.save_tiny_model("gpt2", tmp_path / "tiny")
    for name, value in {"model": str(model), "device": "cpu", "limit": "31"}.items():
        session.query_params[name] = value
    session.run()
    assert session.title[0].value == "Pairs" and "There is no study" in session.subheader[0].value
    shared_models.shelf().fit(session.session_state["view"].study_key, ignore_progress)
    session.run()
    assert session.metric[0].value == "31" and not session.exception


def test_a_file_reader_reads_pairs(monkeypatch, tmp_path):
    database = sqlite3.connect(tmp_path / "pairs.sqlite")
    database.execute("CREATE TABLE pairs (toxic TEXT, civil TEXT)")
    written = [("You idiot", "You friend"), ("Shut up", "Do go on"), ("What crap", "What luck")]
    database.executemany("INSERT INTO pairs VALUES (?, ?)", written)
    database.commit()
    monkeypatch.setitem(files.READERS, ".sqlite", None)
    exec(EXAMPLES["file reader"], dict(vars(files)))
    pairs = read_pairs(PairSpec(str(tmp_path / "pairs.sqlite")), EVERYDAY).pairs
    assert [(pair.toxic, pair.civil) for pair in pairs] == written


def test_a_model_family_is_taken_apart_by_its_structure(monkeypatch):
    monkeypatch.setitem(models.CONFIGS, "starcoder2", None)
    exec(EXAMPLES["model family"], dict(vars(models)))
    model = models.open_tiny("starcoder2")
    assert model.anatomy.layers == models.LAYERS and model.anatomy.inner == models.INNER
