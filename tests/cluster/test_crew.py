"""What workers come to is what one process comes to, whatever their number and whoever of them dies."""

import json
import os
import signal
import socket
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from detox_engine import workbench
from detox_engine.auto import run as running
from detox_engine.cli import main
from detox_engine.cluster import connection
from detox_engine.cluster import crew as crews
from detox_engine.cluster.connection import require_cluster
from detox_engine.cluster.crew import Crew, tell_death
from detox_engine.cluster.trial import SharedTrial
from detox_engine.errors import Cancelled, InputError
from detox_engine.plans.auto import AutoPlan
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.evaluation import EvaluationPlan, SweepPlan
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.plans.shared.cluster import LOCAL, ClusterPlan
from detox_engine.plans.sources import ModelSpec, PairSpec, TextSpec
from detox_engine.scoring.evaluation import evaluate
from detox_engine.scoring.sweep import run_sweep
from detox_engine.study import fit
from detox_engine.study.fit import fit_study
from detox_engine.study.study import Study
from tests.models import SENTENCES
from tests.study.test_fit import write_pairs

COUNT, SAMPLE, CHUNK = 150, 40, 16


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Few pairs are many: the sample, the shards and the rounds are small."""
    monkeypatch.setattr(fit, "SAMPLE", SAMPLE)
    monkeypatch.setattr(fit, "CHUNK", CHUNK)
    monkeypatch.setattr(fit, "SHARD", 8)
    monkeypatch.setattr(crews, "ROUND", 2)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.jsonl", 0, COUNT)


@pytest.fixture
def plan(file):
    return FitPlan(PairSpec(str(file)), keep=6)


@pytest.fixture
def alone(model, plan):
    return fit_study(model, plan)


def assert_same(study, alone):
    assert study.pairs == alone.pairs and study.pairs_hash == alone.pairs_hash and study.warnings == alone.warnings
    assert (study.pair_count, study.tokens, study.left_out) == (alone.pair_count, alone.tokens, alone.left_out)
    for name in alone.methods:
        for one, other in zip(study.of(name), alone.of(name), strict=True):
            values = other.singular_values
            torch.testing.assert_close(one.singular_values[: other.kept], values[: other.kept], rtol=1e-6, atol=0)
            # What centring takes away is 0 and rounding.
            assert (one.singular_values - values).abs().max() < 1e-6 * values[0]
            assert ((one.basis[:4] * other.basis[:4]).sum(1).abs() > 1 - 1e-5).all()
    for side in ("toxic", "civil", "lengths"):
        torch.testing.assert_close(getattr(study.embeddings, side), getattr(alone.embeddings, side))
    for layer, own in enumerate(alone.moments or ()):
        assert int(study.moments[layer].count) == int(own.count)
        torch.testing.assert_close(study.moments[layer].loudest, own.loudest)
    assert torch.equal(study.token_moments.count, alone.token_moments.count)
    # Products of a batch are float32, and shards make other batches.
    products = alone.token_moments.products
    assert (study.token_moments.products - products).norm() < 1e-6 * products.norm()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_study_is_that_of_one_process_whatever_the_number_of_workers(crew, model, plan, alone, workers, monkeypatch):
    monkeypatch.setattr(crew, "members", crew.members[:workers])
    seen = []
    study = fit_study(model, plan, lambda *event: seen.append(event), crew=crew)
    assert alone.moments is not None and len(alone.pairs) == SAMPLE
    assert_same(study, alone)
    texts = [(done, total) for stage, done, total in seen if stage == "Embedding texts"]
    assert [done for done, _ in texts] == sorted(done for done, _ in texts)
    assert len(set(texts)) > 4 and texts[-1] == (2 * COUNT, 2 * COUNT)


def test_a_study_of_few_pairs_is_that_of_one_process(crew, model, plan):
    few = replace(plan, pairs=replace(plan.pairs, limit=SAMPLE))
    alone = fit_study(model, few)
    assert alone.moments is None
    assert_same(fit_study(model, few, crew=crew), alone)


@pytest.mark.parametrize("when", ["embedding", "adding up"])
def test_a_worker_that_is_killed_is_replaced_and_each_pair_counts_once(
    crew, model, plan, alone, when, monkeypatch, capfd
):
    before, given = crew.processes, Counter()

    def kill():
        os.kill(crew.members[1].process, signal.SIGKILL)

    killed = []
    if when == "adding up":
        add_up = Crew._add_up

        def add_up_and_kill(self, layer, *given):
            if layer == 1 and not killed:
                killed.append(kill())
            return add_up(self, layer, *given)

        monkeypatch.setattr(Crew, "_add_up", add_up_and_kill)
    monkeypatch.setattr(crews, "_add", lambda actor, shard: given.update([shard.number]) or actor.add.remote(shard))

    def watch(stage, done, total):
        if when == "embedding" and stage == "Embedding texts" and done >= 3 * 2 * CHUNK and not killed:
            killed.append(kill())

    study = fit_study(model, plan, watch, crew=crew)
    assert capfd.readouterr() == ("", "")
    assert killed and crew.processes[0] == before[0] and crew.processes[1] != before[1]
    # Something was done twice, and not everything: what was added up before stays.
    assert max(given.values()) > 1 == min(given.values())
    assert_same(study, alone)


def test_work_is_stopped_by_whoever_watches_and_the_workers_go_on_with_other_work(crew, model, plan, alone):
    def stop(stage, done, total):
        if stage == "Embedding texts" and done > COUNT:
            raise Cancelled

    with pytest.raises(Cancelled):
        fit_study(model, plan, stop, crew=crew)
    assert_same(fit_study(model, plan, crew=crew), alone)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    (folder / "prompts.txt").write_text("\n".join(SENTENCES[:7]) + "\n", encoding="utf-8")
    (folder / "neutral.txt").write_text("\n".join(SENTENCES) + "\n", encoding="utf-8")
    return EvaluationPlan(
        ("profanity", "mass", "perplexity", "drift", "fluency"),
        str(folder / "prompts.txt"),
        sampling=SamplingPlan(max_new_tokens=6, samples=2),
        neutral=TextSpec(str(folder / "neutral.txt")),
        controls=1,
        resamples=100,
    )


def test_an_evaluation_is_that_of_one_process(crew, model, alone, measured):
    edit = EditPlan((1, 2), 2)
    one = evaluate(model, alone, edit, measured)
    told = []
    shared = evaluate(model, alone, edit, measured, lambda *event: told.append(event), begin_trial=crew.begin_trial)
    assert ("continuations", 7, 7) in told
    for before, after in zip(one.prompts, shared.prompts, strict=True):
        assert [each.texts for each in before.comparisons] == [each.texts for each in after.comparisons]
    assert any(each.first_divergence is not None for prompt in one.prompts for each in prompt.comparisons)
    for name, tally in one.tallies.items():
        assert shared.tallies[name].totals == pytest.approx(tally.totals, rel=1e-5, abs=1e-7)


def test_a_sweep_is_that_of_one_process_and_goes_on_where_one_was_stopped(crew, model, alone, measured, tmp_path):
    few = replace(measured, scorers=("profanity", "perplexity"), control="plain", limit_prompts=3)
    sweep = SweepPlan((1, 2), (0, 1, 2), strengths=(0.5, 1.0, 1.5), evaluation=few)
    one, shared = run_sweep(model, alone, sweep), run_sweep(model, alone, sweep, tmp_path / "kept.jsonl", crew=crew)
    assert [point.edit for point in shared.points] == [point.edit for point in one.points] and len(one.points) == 18
    for before, after in zip(one.points, shared.points, strict=True):
        for name, effect in before.effects.items():
            assert after.effects[name].after.mean == pytest.approx(effect.after.mean, rel=1e-5, nan_ok=True)
    assert run_sweep(model, alone, sweep, tmp_path / "kept.jsonl").computed == 0


def test_a_part_that_a_worker_cannot_do_is_told_in_its_own_sentence(crew, model, plan, tmp_path):
    file = write_pairs(tmp_path / "pairs.jsonl", 0, 60)
    with pytest.raises(InputError, match="No token of the continuation is within the longest length of 2"):
        fit_study(model, replace(plan, pairs=PairSpec(str(file)), max_length=2, pooling="continuation"), crew=crew)


def test_a_worker_without_enough_memory_is_told_and_so_is_one_that_the_system_ended(crew, ray, model):
    work = fit.Work(24, "mean", None, 10**12)
    with pytest.raises(InputError, match="has not enough memory: ask for fewer --workers"):
        list(crew.sum_shards(work, iter(()), None, lambda *event: None))
    with pytest.raises(InputError, match="ran out of memory"):
        raise tell_death(ray.exceptions.OutOfMemoryError("Task was killed due to the node running low on memory"))


@pytest.mark.parametrize("what", ["version", "weights"])
def test_a_worker_with_another_version_or_other_weights_is_refused(crew, model, what, monkeypatch):
    other = crew._model
    if what == "version":
        monkeypatch.setattr(crews, "name_project", lambda: "code 0123, torch 1.0")
    else:
        monkeypatch.setattr(crew, "_model", replace(other, weights_hash="sha256:0123"))
    says = {"version": "runs another version", "weights": "has other weights under"}[what]
    with pytest.raises(InputError, match=says):
        crew._settle(crew.members[0], lambda: None)


def test_a_cluster_that_cannot_be_had_is_told_before_anything_is_loaded(monkeypatch):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        plan = ClusterPlan(f"127.0.0.1:{nobody.getsockname()[1]}")
        with pytest.raises(InputError, match=r"No Ray answers at 127.0.0.1:\d+ .*ray start --head"):
            require_cluster(plan)
    monkeypatch.setattr(connection, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'detox-explorer\[cluster\]'"):
        require_cluster(ClusterPlan(LOCAL))
    require_cluster(ClusterPlan())
    for given, says in (
        (("10.0.0.1",), "is no cluster"),
        ((None, 2), "say where it is"),
        (("local", 0), "1 worker or more"),
    ):
        with pytest.raises(InputError, match=says):
            ClusterPlan(*given)


def test_ray_listens_to_this_machine_alone_and_wants_a_token(ray):
    address = ray.get_runtime_context().gcs_address
    assert address.startswith("127.0.0.1:") and os.environ["RAY_AUTH_MODE"] == "token"
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64


def test_a_command_that_shares_its_work_gives_what_it_gives_alone(crew, folder, file, measured, tmp_path, monkeypatch):
    settings, asked = {"COLUMNS": "120"}, []

    @contextmanager
    def give(plan, model, progress):
        asked.append(plan)
        yield crew if plan.cluster else None

    monkeypatch.setattr(crews, "open_crew", give)
    monkeypatch.setattr(workbench, "open_crew", give)

    def run(*words: object):
        told = CliRunner(env=settings).invoke(main.app, [str(word) for word in (*words, "--json")])
        assert told.exit_code == 0 and "raylet" not in told.output, told.output
        return json.loads(told.stdout)

    shared = ("--cluster", "local", "--workers", 2)
    fitted = ("fit", "--model", folder, "--pairs", file, "--keep", 4, "--no-suggest", "--out")
    one, other = run(*fitted, tmp_path / "one"), run(*fitted, tmp_path / "two", *shared)
    timeless = {"study": None, "seconds": None}
    assert one | timeless == other | timeless
    assert_same(Study.load(tmp_path / "two"), Study.load(tmp_path / "one"))
    command = ("evaluate", tmp_path / "two", "--prompts", measured.prompts, "--max-new-tokens", 4, "--controls", 1)
    command += ("--scorers", "profanity", "--resamples", 100, "--layers", 1, "--rank", 1)
    alone = run(*command)["profanity"]
    assert run(*command, *shared)["profanity"] == alone
    assert asked == [ClusterPlan(), ClusterPlan("local", 2)] * 2


def test_a_command_refuses_a_cluster_in_one_sentence(tmp_path):
    command = ["fit", "--model", "no/such-model", "--out", str(tmp_path / "study"), "--cluster", "127.0.0.1:1"]
    told = CliRunner().invoke(main.app, command)
    assert (told.exit_code, told.stdout) == (2, "") and told.stderr.startswith("No Ray answers at 127.0.0.1:1")


def test_a_run_to_a_verdict_gives_its_fit_and_its_trials_to_the_workers(crew, model, tmp_path, monkeypatch):
    given = []

    @contextmanager
    def give(plan, opened, progress):
        given.extend((plan, opened))
        yield crew

    def stop(*_, crew):
        given.append(crew)
        raise Cancelled

    monkeypatch.setattr(running, "open_crew", give)
    monkeypatch.setattr(running, "fit_study", stop)
    plan = ClusterPlan("local", 2)
    with pytest.raises(Cancelled):
        running.run_auto(ModelSpec(), AutoPlan(), tmp_path / "edit", lambda *_: model, cluster=plan)
    assert given == [plan, model, crew]
    run = running._Run(tmp_path, tmp_path, AutoPlan(), FitPlan(), None, model, lambda *_: None, crew)
    assert isinstance(run.begin_trial(model, (None,), (), SamplingPlan(), {}), SharedTrial)
