"""Whoever names a journal shares its trials: none is lost but that of a killed process, and none is done twice."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import optuna
import pytest
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from typer.testing import CliRunner

from detox_engine.cli import main
from detox_engine.errors import Cancelled, InputError
from detox_engine.plans.edit import record_edit
from detox_engine.plans.fit import BUDGETS, MOST_PERPLEXITY, FitPlan
from detox_engine.plans.shared.tune import TunePlan
from detox_engine.study.study import Study
from detox_engine.study.suggestion import search, tuning
from detox_engine.study.suggestion.search import suggest_edit
from detox_engine.study.suggestion.tuning import exceed, tune
from detox_engine.workbench import Workbench
from tests.cli.lives import FORKED
from tests.models import HIDDEN
from tests.planted import give_directions, open_planted, planted_direction, planted_pairs, write_pairs


def measure_few(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(search, "SLOPE_TEXTS", 6)
    patch.setattr(search, "MEASURED_TEXTS", 6)
    patch.setattr(tuning, "MEASURED_TEXTS", 6)
    patch.setattr(search, "SLOPE_PAIRS", 8)
    patch.setattr(tuning, "SLOPE_PAIRS", 8)
    patch.setattr(search, "MEASURED_PAIRS", 12)
    patch.setattr(tuning, "MEASURED_PAIRS", 12)
    for module in (search, tuning):
        patch.setattr(module, "fit_without", lambda study, held, progress: study.others)


@pytest.fixture(scope="module", autouse=True)
def few_texts():
    with pytest.MonkeyPatch.context() as patch:
        measure_few(patch)
        yield


@pytest.fixture(scope="module")
def model():
    return open_planted()


@pytest.fixture(scope="module")
def study(model, tmp_path_factory):
    plan = FitPlan(write_pairs(tmp_path_factory.mktemp("pairs") / "planted.jsonl", planted_pairs()), keep=4)
    fitted = Workbench(model).fit(plan)
    # One method's directions are the planted one: so few texts would not find it.
    planted = planted_direction().expand(fitted.layers, HIDDEN)
    own = torch.cat([layer.basis[:1] for layer in fitted.of("mean-difference")])
    return suggest_edit(model, give_directions(fitted, {"fisher": planted, "mean-difference": own}))


@pytest.fixture
def journal(tmp_path):
    return str(tmp_path / "trials.log")


def read_trials(journal: str) -> list[optuna.trial.FrozenTrial]:
    storage = JournalStorage(JournalFileBackend(journal))
    return optuna.load_study(study_name=tuning.NAME, storage=storage).get_trials()


def test_two_who_share_a_journal_make_the_trials_together_and_the_first_is_what_is_suggested(model, study, journal):
    plan = TunePlan(journal, 9)
    with ThreadPoolExecutor(2) as both:
        found = list(both.map(lambda seed: tune(model, study, replace(plan, seed=seed)), (0, 1)))
    done = [trial for trial in read_trials(journal) if trial.state.name == "COMPLETE"]
    assert len(done) == 9 == sum(one.own for one in found) and all(one.own for one in found)
    assert done[0].user_attrs["found"]["edit"] == record_edit(study.suggestion.edit)
    again = tune(model, study, plan)
    assert (again.trials, again.own) == (9, 0)


def test_the_best_trial_obeys_the_budget_and_is_checked_on_what_chose_nothing(model, study, journal):
    found = tune(model, study, TunePlan(journal, 12))
    best, tried = found.suggestion.evidence, found.suggestion.tried
    assert best.divergence <= BUDGETS["gentle"] and best.perplexity <= MOST_PERPLEXITY["gentle"] and best.gap.low > 0
    # Some promise more, and cost too much.
    assert any(max(exceed(one, "gentle")) > 0 for one in tried)
    suggested = next(one for one in tried if one.edit == study.suggestion.edit)
    assert best.gap.mean >= suggested.gap.mean
    assert found.check.edit == best.edit and found.check.gap.n == 20
    assert found.check.gap != best.gap and found.check.divergence != best.divergence


def test_a_killed_process_loses_its_own_trial_and_one_that_runs_is_left_alone(model, study, journal):
    tune(model, study, TunePlan(journal, 2))
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    storage = JournalStorage(JournalFileBackend(journal))
    trials = optuna.load_study(study_name=tuning.NAME, storage=storage)
    killed, running = trials.ask(), trials.ask()
    killed.set_user_attr("owner", tuning._identify() | {"process": gone.pid, "since": 0.0})
    running.set_user_attr("owner", tuning._identify())
    far = trials.ask()
    far.set_user_attr("owner", {"host": "elsewhere", "process": 1, "since": 0.0})
    found = tune(model, study, TunePlan(journal, 5))
    states = [trial.state.name for trial in read_trials(journal)]
    assert states[:5] == ["COMPLETE", "COMPLETE", "FAIL", "RUNNING", "RUNNING"]
    assert (found.trials, found.failed, found.own) == (3, 1, 1) and states.count("COMPLETE") == 3


def take_part(study: str, journal: str, seed: int) -> None:
    """What a process of its own does until it is killed."""
    measure_few(pytest.MonkeyPatch())
    tune(open_planted(), Study.load(study), TunePlan(journal, 1000, seed=seed))


def test_of_two_processes_that_search_one_is_killed_and_loses_its_own_trial_alone(model, study, journal, tmp_path):
    study.save(tmp_path / "study")
    both = [FORKED.Process(target=take_part, args=(str(tmp_path / "study"), journal, seed)) for seed in (0, 1)]
    for process in both:
        process.start()
    first, second = (process.pid for process in both)
    states, end = {}, time.monotonic() + 120
    while not all({"COMPLETE", "RUNNING"} <= set(states.get(number, ())) for number in (first, second)):
        assert time.monotonic() < end and all(process.is_alive() for process in both), states
        time.sleep(0.02)
        states = list_states(journal)
    both[0].kill()
    both[0].join()
    # A third goes on with the trials while the second is at one of its own.
    tune(model, study, TunePlan(journal, sum(own.count("COMPLETE") for own in states.values()) + 3))
    both[1].kill()
    both[1].join()
    found = list_states(journal)
    assert found[first].count("COMPLETE") >= states[first].count("COMPLETE") and "RUNNING" not in found[first]
    assert found[first].count("FAIL") <= 1
    assert set(found[second]) <= {"COMPLETE", "RUNNING"} and found[second].count("RUNNING") <= 1


def test_a_lock_that_another_took_away_first_is_asked_for_again(model, study, journal, monkeypatch):
    create, failed = optuna.create_study, []

    def fail_once(**given):
        if not failed:
            failed.append(given)
            raise RuntimeError("Error: did not possess lock")
        return create(**given)

    monkeypatch.setattr(optuna, "create_study", fail_once)
    monkeypatch.setattr(tuning, "sleep", lambda seconds: None)
    assert tune(model, study, TunePlan(journal, 1)).own == 1 and failed


def list_states(journal: str) -> dict[int, list[str]]:
    """The states of the trials that each process has made; none while the journal is not there, or is being begun."""
    states: dict[int, list[str]] = {}
    with suppress(KeyError):
        for trial in read_trials(journal) if os.path.exists(journal) else ():  # noqa: PTH110
            if "owner" in trial.user_attrs:
                states.setdefault(trial.user_attrs["owner"]["process"], []).append(trial.state.name)
    return states


def test_a_search_that_is_stopped_keeps_its_trials_and_nothing_is_measured_twice(model, study, journal, monkeypatch):
    measured = []
    measure = tuning._Bench.measure
    monkeypatch.setattr(
        tuning._Bench, "measure", lambda self, edit, beat: measured.append(edit) or measure(self, edit, beat)
    )

    def stop(stage, done, total):
        if done == 2 and len(measured) == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        tune(model, study, TunePlan(journal, 4), stop)
    assert [trial.state.name for trial in read_trials(journal)] == ["COMPLETE", "COMPLETE", "FAIL"]
    assert tune(model, study, TunePlan(journal, 4)).own == 2
    kept = [json.dumps(record_edit(edit)) for edit in (*measured[:2], *measured[3:])]
    assert len(set(kept)) == len(kept)


@pytest.mark.parametrize("text", ["no journal\n", '{"op_code": "what"}\n', None])
def test_a_file_that_is_no_journal_is_refused(model, study, journal, text, tmp_path):
    place = tmp_path / "trials.log"
    place.mkdir() if text is None else place.write_text(text)
    with pytest.raises(InputError, match="cannot be used as a journal"):
        tune(model, study, TunePlan(journal, 1))


def test_a_journal_of_another_study_or_budget_is_refused_and_so_is_a_search_without_optuna(
    model, study, journal, monkeypatch
):
    tune(model, study, TunePlan(journal, 1))
    with pytest.raises(InputError, match="another study, model, budget or version"):
        tune(model, replace(study, pairs_hash="sha256:0"), TunePlan(journal, 1))
    with pytest.raises(InputError, match="another study, model, budget or version"):
        tune(model, study, TunePlan(journal, 1, budget="strong"))
    monkeypatch.setattr(tuning, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'detox-explorer\[tune\]'"):
        tune(model, study, TunePlan(journal, 1))


def test_the_command_tells_the_best_with_its_interval(model, study, journal, tmp_path, monkeypatch):
    study.save(tmp_path / "study")
    monkeypatch.setattr(Workbench, "load", classmethod(lambda cls, spec, progress: cls(model)))
    command = ["tune", str(tmp_path / "study"), "--journal", journal, "--trials", "2"]
    told = CliRunner(env={"COLUMNS": "200"}).invoke(main.app, command)
    assert told.exit_code == 0, told.output
    assert "2 trials, 2 of them made now" in told.stdout and "detox evaluate" in told.stdout
    record = json.loads(CliRunner().invoke(main.app, [*command, "--json"]).stdout)
    assert list(record) == ["best", "check", "budget", "reason", "trials", "failed", "own"]
    assert record["best"]["gap"]["low"] > 0 and record["own"] == 0 and os.path.getsize(journal) > 0  # noqa: PTH202
