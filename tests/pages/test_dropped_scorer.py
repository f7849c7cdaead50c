"""A scorer is one file: put into the folder, it is offered, measured, shown and recommended by."""

from pathlib import Path

import pytest

from detox_engine.plans.evaluation import EvaluationPlan, SweepPlan
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.plans.sources import PairSpec, TextSpec
from detox_engine.scoring.recommend import find_role, recommend
from detox_engine.scoring.scorers import record_plan, scorers
from detox_engine.scoring.sweep import run_sweep
from detox_engine.workbench import Workbench
from tests.dropped import dropped, read_help
from tests.models import open_tiny
from tests.pages.conftest import texts
from tests.pages.test_evaluate import evaluate, open_page, results
from ui.session.links import read_link, write_link

PACKAGE = "detox_engine.scoring.scorers"
TEN_LINES = """
from dataclasses import dataclass
import numpy as np
from detox_engine.estimates import Tally
from detox_engine.plans.option import option
from detox_engine.scoring.scorer import ScorerKind

@dataclass(frozen=True)
class Options:
    in_words: bool = option(False, "Count words, not characters.", "--in-words/--no-in-words", link="in_words")

@dataclass(frozen=True)
class Length:
    in_words: bool
    def measure(self, trial):
        lengths = [
            [len(side.text.split() if self.in_words else side.text) for side in samples[0]]
            for samples in trial.continuations
        ]
        return Tally(np.array(lengths, dtype=float).T, np.ones((len(trial.edits), len(trial.prompts))))

SCORER = ScorerKind(
    name="length", title="Length of text", sentence="how much it writes", question="Does it ramble?",
    unit="characters", needs=("prompts",), role="harm", called="Length", options=Options,
    make=lambda options, context: [Length(options.in_words)],
)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dropped")
    (folder / "length.py").write_text(TEN_LINES, encoding="utf-8")
    return folder


@pytest.mark.parametrize("command", ["evaluate", "sweep"])
def test_the_command_line_offers_it_and_its_option(folder: Path, command: str):
    told = read_help(PACKAGE, folder, command)
    assert "length: how much it writes" in told
    assert "--in-words / --no-in-words" in told and "Count words, not characters. [default:" in told


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


def test_its_option_is_a_widget_and_in_the_command_and_the_link_and_reaches_it(folder: Path, tiny_folder):
    with dropped(PACKAGE, folder, "scorers"):
        session = open_page(tiny_folder)
        session.button_group(key="evaluate_scorers").set_value(["length"]).run()
        evaluate(session)
        toggle = session.toggle(key="evaluate_length_in_words")
        assert toggle.label == "In words" and toggle.value is False
        toggle.set_value(True).run()
        assert write_link(session.session_state["view"])["evaluate_in_words"] == "1"
        evaluate(session, "evaluate_now")
        assert any("--scorers length --in-words" in block.value for block in session.code)
        characters, words = results(session)
        assert (words.items["length"] < characters.items["length"]).all()
        assert record_plan(words.plan)["options"] == {"length": {"in_words": True}}
        # What was set of it outlasts its not being chosen, here and in a link.
        session.button_group(key="evaluate_scorers").set_value(["perplexity"]).run()
        assert all(toggle.key != "evaluate_length_in_words" for toggle in session.toggle)
        view = session.session_state["view"]
        assert read_link(write_link(view))["evaluate"] == view["evaluate"]
        session.button_group(key="evaluate_scorers").set_value(["length"]).run()
        assert session.toggle(key="evaluate_length_in_words").value is True


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
