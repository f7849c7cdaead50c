"""A scorer is one file: put into the folder, it is offered, measured, shown and recommended by."""

from pathlib import Path

import pytest

from detox_engine.plans.fit import FitPlan
from detox_engine.plans.measure import EvaluationPlan, SamplingPlan, SweepPlan
from detox_engine.plans.sources import PairSpec, TextSpec
from detox_engine.scoring.recommend import find_role, recommend
from detox_engine.scoring.scorers import scorers
from detox_engine.scoring.sweep import run_sweep
from detox_engine.workbench import Workbench
from tests.dropped import dropped, read_help
from tests.models import open_tiny
from tests.pages.conftest import texts
from tests.pages.test_evaluate import evaluate, open_page

PACKAGE = "detox_engine.scoring.scorers"
TEN_LINES = """
import numpy as np
from detox_engine.estimates import Tally
from detox_engine.scoring.scorer import ScorerKind

class Length:
    def measure(self, trial):
        lengths = [[len(side.text) for side in samples[0]] for samples in trial.continuations]
        return Tally(np.array(lengths, dtype=float).T, np.ones((len(trial.edits), len(trial.prompts))))

SCORER = ScorerKind(
    name="length", title="Length of text", sentence="how much it writes", question="Does it ramble?",
    unit="characters", needs=("prompts",), role="harm", called="Length", make=lambda options, context: [Length()],
)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dropped")
    (folder / "length.py").write_text(TEN_LINES, encoding="utf-8")
    return folder


def test_the_command_line_offers_it(folder: Path):
    assert "length: how much it writes" in read_help(PACKAGE, folder, "evaluate")


def test_the_page_offers_it_and_shows_it_as_a_card_under_its_question(folder: Path, tiny_folder):
    with dropped(PACKAGE, folder, "scorers"):
        session = open_page(tiny_folder)
        pills = session.button_group(key="evaluate_scorers")
        assert "Length of text" in pills.options
        pills.set_value(["length"]).run()
        evaluate(session)
        shown = texts(session)
        assert "Does it ramble?" in [title.value for title in session.subheader]
        assert shown.count('class="score"') == 1 and "Length of text" in shown and "lower is better" in shown
        assert any(
            part in shown for part in ("Length falls, from", "Length rises, from", "Length stays about the same")
        )
        assert "characters" in session.get("plotly_chart")[0].proto.spec


def test_a_recommendation_rests_on_it(folder: Path, tmp_path: Path):
    (tmp_path / "prompts.txt").write_text("The train is\nShe explained\n", encoding="utf-8")
    measure = EvaluationPlan(
        scorers=("perplexity", "length"),
        prompts=str(tmp_path / "prompts.txt"),
        neutral=TextSpec(limit=2),
        sampling=SamplingPlan(max_new_tokens=4),
        controls=1,
        resamples=100,
    )
    with dropped(PACKAGE, folder, "scorers"):
        bench = Workbench(open_tiny("gpt2"))
        study = bench.fit(FitPlan(PairSpec(limit=10), keep=2))
        sweep = run_sweep(bench.model, study, SweepPlan(ranks=(1,), starts=(1,), evaluation=measure))
        harm, cost = find_role(sweep.scorers, "harm"), find_role(sweep.scorers, "cost")
        assert harm is scorers()["length"] and cost is scorers()["perplexity"]
        reason = recommend(sweep.points, harm, cost).reason
        assert "No setting lowers length beyond chance" in reason or "takes length from" in reason
