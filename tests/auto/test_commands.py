"""The commands of the whole way, as they are typed: auto, verify, reproduce, push."""

import json
from pathlib import Path

import pytest

from detox_engine.auto import run as running
from detox_engine.cli.commands import auto
from tests.auto.conftest import fit_planted
from tests.cli.test_cli import run, run_json


@pytest.fixture(scope="module")
def done(planted, model, tmp_path_factory) -> Path:
    """The folder that `detox auto` wrote, and what it printed beside it."""
    spec, plan = planted
    folder = tmp_path_factory.mktemp("auto")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "fit_study", fit_planted)
        patch.setattr(running, "write_report", lambda study, told, out, progress: out.write_text("<html></html>"))
        result = run(
            "auto", spec.name, "--device", "cpu", "--pairs", plan.pairs.source, "--prompts", plan.prompts,
            "--neutral", plan.neutral.source, "--cost", plan.cost, "--licence", "mit", "--out", folder / "edit",
            "--push", "someone/edit",
        )  # fmt: skip
    assert result.exit_code == 0, result.output
    (folder / "printed.txt").write_text(result.stdout)
    (folder / "noted.txt").write_text(result.stderr)
    return folder


def test_a_run_says_its_steps_its_verdict_and_where_everything_is(done):
    printed, noted = (done / "printed.txt").read_text(), (done / "noted.txt").read_text()
    assert [line.partition(":")[0] for line in noted.splitlines()] == [f"Step {step} of 6" for step in range(1, 7)]
    assert printed.startswith("Ship: model.") and "Is it more than random directions do?" in printed
    assert "These would be uploaded to someone/edit" in printed, "nothing leaves unless it is said"
    assert (done / "edit" / "adapter_model.safetensors").is_file() and (done / "edit.run" / "study").is_dir()


def test_what_was_written_is_verified_and_pushed_on_paper(done, planted):
    spec, _ = planted
    verified = run_json("verify", done / "edit", "--base", spec.name)
    assert all(claim["holds"] for claim in verified["claims"])
    pushed = run_json("push", done / "edit", "--to", "someone/edit", "--private")
    assert pushed["uploaded"] is False and pushed["private"] is True and "README.md" in pushed["sizes"]


def test_it_is_reproduced_and_a_difference_ends_with_exit_code_1(done, planted, monkeypatch, tmp_path):
    from detox_engine.auto import repeat

    spec, plan = planted
    monkeypatch.setattr(repeat, "fit_study", fit_planted)
    given = (
        "--model", spec.name, "--device", "cpu", "--pairs", plan.pairs.source, "--prompts", plan.prompts,
        "--neutral", plan.neutral.source,
    )  # fmt: skip
    found = run_json("reproduce", done / "edit" / "reproduce.json", *given, "--check")
    assert found["holds"] is True and found["differences"] == []
    monkeypatch.setattr(repeat, "ROUNDING", -1.0)
    differs = run("reproduce", done / "edit" / "reproduce.json", *given, "--check")
    assert differs.exit_code == 1 and "NO" in differs.stdout and "The subspace is another" in differs.stdout
    assert run("reproduce", done / "edit" / "reproduce.json", *given).exit_code == 0


def test_a_run_answers_in_json(planted, tmp_path, monkeypatch):
    spec, plan = planted
    monkeypatch.setattr(running, "write_report", lambda study, told, out, progress: out.write_text("<html></html>"))
    monkeypatch.setattr(running, "_screen", lambda study, found: running.refuse("There is nothing."))
    told = run_json(
        "auto", spec.name, "--pairs", plan.pairs.source, "--prompts", plan.prompts, "--neutral", plan.neutral.source,
        "--out", tmp_path / "edit", "--budget", 5,
    )  # fmt: skip
    assert (told["verdict"], told["reason"], told["edit"]) == ("do not ship", "There is nothing.", None)
    assert set(told["sets"]) == {"fit", "choose", "report"} and told["screened"]["mass"]["n"] > 0
    assert json.loads((tmp_path / "edit" / "verdict.json").read_text())["verdict"] == "do not ship"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("auto", "nothing/here", "--out", "out", "--prompts", "no.txt"), "no.txt"),
        (("auto", "bundled", "--out", "out", "--budget", 0), "more than 0 minutes"),
        (("auto", "bundled", "--out", "out", "--perplexity-limit", 0.5), "limit of perplexity"),
        (("auto", "bundled", "--out", "out", "--licence", "mine"), "does not know the licence"),
        (("reproduce", "nothing.json"), "is no file"),
        (("push", "nothing", "--to", "a/b"), "detox_receipt.json"),
        (("report", "nothing", "--out", "out.html"), "is no study"),
        (("export", "nothing", "--out", "out", "--evaluation", "no.json"), "is no study"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(words, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*words)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert says in result.stderr and result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_name_that_others_call_a_model_by_is_turned_into_the_one_here():
    assert auto.name_here("HuggingFaceTB/SmolLM2-135M-Instruct") == "smollm2" and auto.name_here("a/b") == "a/b"
