"""`detox evaluate` and `detox sweep`, from the command line."""

import csv
import io
import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
from typer.main import get_command

from detox_engine.cli import main
from detox_engine.disk import write_json
from detox_engine.estimates import Estimate
from detox_engine.plans.choice import Choice
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.evaluation import SWEEP_EVALUATION, EvaluationPlan, SweepPlan
from detox_engine.plans.option import option_of, sentence
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.plans.sources import ModelSpec, TextSpec
from detox_engine.scoring.evaluation import evaluate
from detox_engine.scoring.records import record_scores
from detox_engine.scoring.scorers import choose, scorers
from detox_engine.scoring.scorers.capability import TASKS, CapabilityOptions
from detox_engine.scoring.scorers.classifier import ClassifierOptions
from detox_engine.study.study import Study
from detox_engine.study.suggest import PAPER_EVALUATION, PUBLISHED, find_published
from detox_engine.workbench import Workbench
from tests.cli.test_cli import PAIRS, picture, run, run_json, write_pairs
from tests.models import SENTENCES, save_tiny_model
from tests.rounding import assert_alike

FAST = ("--max-new-tokens", 6, "--resamples", 100)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with a tiny model, pairs, prompts, neutral text and a study."""
    folder = tmp_path_factory.mktemp("assess")
    save_tiny_model("gpt2", folder / "model")
    write_pairs(folder / "pairs.jsonl", PAIRS)
    (folder / "prompts.txt").write_text("The train is late and\nThe garden needs\nShe explained\n", encoding="utf-8")
    (folder / "neutral.txt").write_text("\n".join(SENTENCES[:5]) + "\n", encoding="utf-8")
    fitted = run(
        "fit", "--model", folder / "model", "--pairs", folder / "pairs.jsonl", "--out", folder / "study", "--keep", 4
    )
    assert fitted.exit_code == 0, fitted.output
    return folder


@pytest.fixture
def given(home: Path) -> tuple:
    return ("--prompts", home / "prompts.txt", "--neutral", home / "neutral.txt", *FAST)


@pytest.fixture
def refuse(home: Path, tmp_path: Path, monkeypatch):
    """Runs a command that must end with one sentence and exit code 2, and change nothing on disk."""

    def check(*args: object, says: str) -> None:
        before = picture(home), picture(tmp_path)
        result = run(*args)
        assert (result.exit_code, result.stdout) == (2, ""), result.output
        assert result.stderr.count("\n") == 1 and says in result.stderr, result.stderr
        assert (picture(home), picture(tmp_path)) == before

    monkeypatch.chdir(tmp_path)
    return check


def test_evaluation_answers_in_json_for_each_scorer(home: Path, given: tuple):
    found = run_json("evaluate", home / "study", "--layers", "1-2", "--rank", 2, "--control", "plain", *given)
    assert {"profanity", "perplexity", "drift", "fluency", "distinct_1", "harmless_drift"} < set(found)
    for name, effect in found.items():
        sides = ["before", "after", "control", "difference", "control_difference", "draws", "beyond"]
        assert list(effect) == sides, name
        for side in ("before", "after", "control", "beyond"):
            assert list(effect[side]) == ["mean", "low", "high", "n"]
            assert effect[side]["mean"] is not None or name == "distinct_3"
    both = run_json("evaluate", home / "study", "--layers", "1-2", "--rank", 2, "--scorers", "drift", *given)["drift"]
    matched = {"matched_control", "matched_control_difference", "matched_draws", "matched_beyond"}
    assert both.keys() - found["drift"].keys() == matched
    assert both["draws"] == pytest.approx(found["drift"]["draws"], rel=1e-4) and len(both["matched_draws"]) == 3


def test_command_and_engine_agree_to_the_digit(home: Path, given: tuple):
    found = run_json("evaluate", home / "study", "--layers", "1", "--rank", 1, *given)
    study = Study.load(home / "study")
    bench = Workbench.load(ModelSpec(study.model.name))
    plan = EvaluationPlan(
        prompts=str(home / "prompts.txt"),
        neutral=TextSpec(str(home / "neutral.txt")),
        sampling=SamplingPlan(max_new_tokens=6),
        resamples=100,
    )
    scores = record_scores(evaluate(bench.model, study, EditPlan((1,), 1), plan))
    assert_alike(found, json.loads(write_json(scores)))


def test_report_holds_every_prompt_and_the_proof(home: Path, given: tuple, tmp_path: Path):
    file = tmp_path / "report.json"
    result = run("evaluate", home / "study", "--layers", "1-2", "--rank", 1, "--report", file, *given)
    assert result.exit_code == 0 and "undone bit for bit" in result.stdout and "random control" in result.stdout
    assert "Matched in KL: random subspaces, with strength" in " ".join(result.stdout.split())
    record = json.loads(file.read_text(encoding="utf-8"))
    assert [entry["prompt"] for entry in record["prompts"]] == (home / "prompts.txt").read_text().splitlines()
    assert {"fate", "toxicity_before", "continuations"} < set(record["prompts"][0])
    assert record["proof"]["before"] == record["proof"]["undone"] != record["proof"]["edited"]
    assert record["edit"]["layers"] == "1-2" and record["scorers"]["drift"]["sentence"].endswith(".")
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_sweep_keeps_its_settings_and_goes_on_from_there(home: Path, given: tuple, tmp_path: Path):
    command = ("sweep", home / "study", "--out", tmp_path / "kept.jsonl", "--strengths", "0.5,1", *given)
    first = run_json(*command, "--ranks", "1", "--starts", "1-2")
    assert [(entry["layers"], entry["rank"], entry["strength"]) for entry in first] == [
        ("1-2", 1, 0.5), ("1-2", 1, 1.0), ("2", 1, 0.5), ("2", 1, 1.0)
    ]  # fmt: skip
    assert {"profanity", "perplexity"} < set(first[0]) and first[0]["perplexity"]["control"]["n"] == 5
    wider = run("sweep", *command[1:], "--ranks", "1,2", "--starts", "1-2")
    assert wider.exit_code == 0 and "8 settings, 4 of them measured now" in wider.stdout
    again = run_json(*command, "--ranks", "1,2", "--starts", "1-2")
    assert again[:4] == first and len(again) == 8


def test_sweep_tries_the_ranks_that_the_study_holds(home: Path, given: tuple):
    found = run_json("sweep", home / "study", "--starts", "2", *given)
    assert [entry["rank"] for entry in found] == [1, 2, 4]
    assert (home / "study" / "sweep.jsonl").is_file() and Study.load(home / "study").kept == 4


def test_sweep_as_csv_says_the_same_as_json(home: Path, given: tuple, tmp_path: Path):
    command = ("sweep", home / "study", "--out", tmp_path / "kept.jsonl", "--ranks", "1", *given)
    documents = run_json(*command)
    result = run(*command, "--csv")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert result.exit_code == 0 and len(rows) == len(documents) == 3
    for row, document in zip(rows, documents, strict=True):
        assert row["layers"] == document["layers"]
        for part in ("mean", "low", "high"):
            assert float(row[f"perplexity_after_{part}"]) == document["perplexity"]["after"][part]
            assert float(row[f"profanity_control_{part}"]) == document["profanity"]["control"][part]


def test_interrupted_sweep_keeps_what_it_measured(home: Path, given: tuple, tmp_path: Path, monkeypatch):
    from detox_engine.scoring import sweep

    measure, calls = sweep.measure_settings, []

    def interrupt(*args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return measure(*args)

    command = ("sweep", home / "study", "--out", tmp_path / "kept.jsonl", "--ranks", "1,2", *given)
    monkeypatch.setattr(sweep, "measure_settings", interrupt)
    monkeypatch.setattr(sweep, "SETTINGS_AT_ONCE", 4)
    stopped = run(*command)
    assert stopped.exit_code == 130 and len((tmp_path / "kept.jsonl").read_text().splitlines()) == 4
    monkeypatch.setattr(sweep, "measure_settings", measure)
    assert "6 settings, 2 of them measured now" in run(*command).stdout


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("evaluate", "--scorers", "politeness"), "choose among"),
        (("evaluate", "--scorers", ","), "needs a scorer"),
        (("evaluate", "--layers", "9"), "0-2"),
        (("evaluate", "--rank", 9), "1 to 4"),
        (("evaluate", "--strength", 0), "changes nothing"),
        (("evaluate", "--controls", 0), "beside its control"),
        (("evaluate", "--prompts", "nowhere.txt"), "nowhere.txt"),
        (("evaluate", "--neutral", "nowhere.txt"), "nowhere.txt"),
        (("evaluate", "--window", 1), "2 tokens"),
        (("evaluate", "--scorers", "classifier", "--classifier", "./nowhere"), "nowhere"),
        (("evaluate", "--preset", "paper"), "only of gpt2-medium"),
        (("sweep", "--ranks", "1,x"), "list of ranks"),
        (("sweep", "--ranks", "9"), "1 to 4"),
        (("sweep", "--ranks", ","), "at least one rank"),
        (("sweep", "--starts", "5"), "0-2"),
        (("sweep", "--starts", "2", "--ends", "1"), "swap them"),
        (("sweep", "--strengths", "nan"), "finite"),
        (("sweep", "--also", "0-1:2"), "no setting"),
        (("sweep", "--also", "0-9:1:1"), "0-2"),
        (("sweep", "--json", "--csv"), "one of"),
    ],
)
def test_unusable_options_get_one_sentence(refuse, home: Path, args: tuple, says: str):
    command, *options = args
    defaults = () if "--prompts" in options else ("--prompts", home / "prompts.txt")
    defaults += () if "--neutral" in options else ("--neutral", home / "neutral.txt")
    refuse(command, home / "study", *defaults, *options, says=says)


def test_files_in_the_way_are_never_replaced(refuse, home: Path):
    refuse("evaluate", home / "study", "--report", home / "prompts.txt", says="exists already")
    refuse("sweep", home / "study", "--prompts", home / "prompts.txt", "--neutral", home / "neutral.txt", "--out",
           home / "prompts.txt", says="no result of a sweep")  # fmt: skip
    refuse("evaluate", "nowhere", "--preset", "paper", says="There is no study nowhere yet")
    refuse("evaluate", "nowhere", "--preset", "paper", "--model", "gpt2-small", "--pairs", "x", says="gpt2-medium")


def plan_of(monkeypatch, *args: object) -> tuple[EditPlan, EvaluationPlan]:
    """The edit and the plan that a command of `detox evaluate` comes to, without running it."""
    caught = []

    def catch(bench, study, edit, plan, progress, begin_trial):
        caught.append((edit, plan))
        raise KeyboardInterrupt

    monkeypatch.setattr("detox_engine.scoring.evaluation.evaluate", catch)
    result = run("evaluate", *args)
    assert result.exit_code == 130, result.output
    return caught[0]


PAPER = {
    "gpt2-medium": (range(10, 24), 2),
    "gpt-j-6b": (range(10, 27), 10),
    "Mistral-7B-v0.1": (range(15, 32), 10),
    "mistral-7b-sft-beta": (range(15, 32), 10),
    "opt-6.7b": (range(10, 32), 10),
}


@pytest.mark.parametrize("name", PAPER)
def test_paper_preset_resolves_to_the_published_protocol(name: str):
    layers, rank = PAPER[name]
    published = find_published(f"owner/{name}")
    assert (published.layers, published.rank) == (tuple(layers), rank)
    plan = PAPER_EVALUATION
    assert plan.scorers == tuple(map(Choice, ("classifier", "perplexity", "capability")))
    assert (plan.sampling.max_new_tokens, plan.sampling.greedy, plan.sampling.samples) == (10, True, 1)
    assert plan.prompts == "allenai/real-toxicity-prompts"
    classifier, _, capability = choose(plan).values()
    assert classifier.classifier == "unitary/toxic-bert" and capability.tasks == TASKS and len(TASKS) == 7
    assert (plan.neutral.source, plan.neutral.subset, plan.neutral.stride) == (
        "Salesforce/wikitext", "wikitext-2-raw-v1", 512
    )  # fmt: skip
    assert plan.limit_prompts is None and plan.neutral.limit is None and len(PUBLISHED) == 5


def test_what_is_said_stands_before_the_preset(home: Path, tmp_path: Path, monkeypatch):
    model = home / "gpt2-medium"  # the tiny model under a name that the paper has
    if not model.exists():
        model.symlink_to(home / "model")
    monkeypatch.setitem(PUBLISHED, "gpt2-medium", replace(PUBLISHED["gpt2-medium"], layers=(1, 2)))
    common = (tmp_path / "study", "--preset", "paper", "--model", model)
    edit, plan = plan_of(monkeypatch, *common, "--pairs", home / "pairs.jsonl")
    assert (edit.layers, edit.rank) == ((1, 2), 2) and plan == PAPER_EVALUATION
    study = Study.load(tmp_path / "study")
    assert len(study.pairs) == len(PAIRS)
    # The published procedure knows no sinks and no other method, and its edit is not looked for.
    assert study.plan.sinks == "keep" and study.sinks is None
    assert study.methods == ("detox",) and study.suggestion is None
    edit, plan = plan_of(
        monkeypatch, *common, "--rank", 1, "--scorers", "profanity,perplexity", "--neutral", home / "neutral.txt",
        "--max-new-tokens", 20,
    )  # fmt: skip
    assert (edit.layers, edit.rank) == ((1, 2), 1) and plan.scorers == (Choice("profanity"), Choice("perplexity"))
    assert plan.neutral == TextSpec(str(home / "neutral.txt"))
    assert plan.sampling == SamplingPlan(max_new_tokens=20, greedy=True) and plan.prompts == PAPER_EVALUATION.prompts


OPTIONS = {
    "--neutral": (TextSpec, "source"),
    "--neutral-subset": (TextSpec, "subset"),
    "--neutral-split": (TextSpec, "split"),
    "--neutral-column": (TextSpec, "column"),
    "--neutral-layout": (TextSpec, "layout"),
    "--window": (TextSpec, "window"),
    "--stride": (TextSpec, "stride"),
    "--limit-neutral": (TextSpec, "limit"),
    "--max-new-tokens": (SamplingPlan, "max_new_tokens"),
    "--samples": (SamplingPlan, "samples"),
    "--greedy": (SamplingPlan, "greedy"),
    "--chat": (SamplingPlan, "chat"),
    "--temperature": (SamplingPlan, "temperature"),
    "--top-p": (SamplingPlan, "top_p"),
    "--seed": (SamplingPlan, "seed"),
    "--scorers": (EvaluationPlan, "scorers"),
    "--prompts": (EvaluationPlan, "prompts"),
    "--limit-prompts": (EvaluationPlan, "limit_prompts"),
    "--classifier": (ClassifierOptions, "classifier"),
    "--classifier-label": (ClassifierOptions, "classifier_label"),
    "--tasks": (CapabilityOptions, "tasks"),
    "--limit-tasks": (CapabilityOptions, "limit_tasks"),
    "--task-files": (CapabilityOptions, "task_files"),
    "--control": (EvaluationPlan, "control"),
    "--controls": (EvaluationPlan, "controls"),
    "--control-seed": (EvaluationPlan, "seed"),
    "--resamples": (EvaluationPlan, "resamples"),
}


def test_every_option_has_the_sentence_and_default_of_its_plan():
    options = {kind: kind() for kind in (ClassifierOptions, CapabilityOptions)}
    for command, plan in (("evaluate", EvaluationPlan()), ("sweep", SWEEP_EVALUATION)):
        params = {flag: param for param in get_command(main.app).commands[command].params for flag in param.opts}
        parts = {TextSpec: plan.neutral, SamplingPlan: plan.sampling, EvaluationPlan: plan, **options}
        for flag, (kind, name) in OPTIONS.items():
            default = getattr(parts[kind], name)
            default = option_of(kind, name).form.write(default) if name == "scorers" else default
            assert params[flag].help.startswith(sentence(kind, name))
            shown = ",".join(default) if isinstance(default, tuple) else str(default)
            assert str(params[flag].default) == shown, flag
        assert all(name in params["--scorers"].help for name in scorers())
    for kind in (TextSpec, SamplingPlan, EvaluationPlan, *options):
        names = {entry.name for entry in fields(kind)} - {"sampling", "neutral"}
        assert names == {name for plan, name in OPTIONS.values() if plan is kind}
    assert params["--ranks"].help == sentence(SweepPlan, "ranks")


def test_numbers_show_three_digits_that_matter():
    from detox_engine.cli.output import show_estimate

    assert show_estimate(Estimate(12.345, 1.23456, float("nan"), 3)) == "12.3 (1.235 to –)"
