"""Methods cost the same where they are compared; wrong labels leave the subspace; what was measured is kept."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from detox_engine.edit.control import draw_controls
from detox_engine.edit.low_rank import LowRankEdit
from detox_engine.errors import Cancelled, InputError
from detox_engine.forward.likelihood import Span, read_likelihoods
from detox_engine.lab import curves
from detox_engine.lab.bench import record_bench, run_bench
from detox_engine.lab.curves import (
    Setting,
    draw_of,
    list_label_noise,
    list_sample_sizes,
    load_curve,
    measure_curve,
    record_points,
)
from detox_engine.lab.effort import describe_time
from detox_engine.lab.equal_cost import match_costs
from detox_engine.plans.choice import Choice
from detox_engine.plans.evaluation import EvaluationPlan
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.lab.experiments import BenchPlan, CurvePlan, LabelNoisePlan, SampleSizePlan
from detox_engine.plans.lab.training import TrainingPlan
from detox_engine.plans.sources import TextSpec
from detox_engine.study.methods import fit_layer
from detox_engine.study.study import Study
from detox_engine.study.subspace import principal_angles
from detox_engine.workbench import Workbench
from tests.factor_model import draw_factor_sample
from tests.models import HIDDEN, SENTENCES
from tests.planted import give_directions, open_planted, planted_direction, planted_pairs, write_pairs


@pytest.fixture(scope="module")
def bench() -> Workbench:
    return Workbench(open_planted())


@pytest.fixture(scope="module")
def study(bench, tmp_path_factory) -> Study:
    """One method has the planted direction, the other one at random."""
    spec = write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.jsonl", planted_pairs(60))
    fitted = bench.fit(FitPlan(spec, keep=2))
    other = torch.nn.functional.normalize(torch.randn(HIDDEN, generator=torch.Generator().manual_seed(1)), dim=0)
    directions = {"fisher": planted_direction(), "mean-difference": other}
    return give_directions(fitted, {name: each.expand(fitted.layers, HIDDEN) for name, each in directions.items()})


@pytest.mark.parametrize(("cost", "wanted"), [("kl", 0.01), ("kl", 0.05), ("perplexity", 0.02)])
def test_edits_that_are_matched_cost_the_same_within_five_percent(bench, cost, wanted):
    model = bench.model
    edits = [LowRankEdit({1: planted_direction()[None]}), *draw_controls(LowRankEdit({1: torch.eye(HIDDEN)[:2]}), 2, 0)]
    spans = [Span(tuple(model.tokenizer(text)["input_ids"]), 6) for text in SENTENCES]
    before = read_likelihoods(model, spans, [None, *edits]).divergence.sum(1)
    assert before[1:].max() > 2 * before[1:].min(), "they did not cost the same before"
    for edit, priced in zip(edits, match_costs(model, spans, edits, cost, wanted), strict=True):
        read = read_likelihoods(model, spans, [None, replace(edit, strength=priced.strength)])
        tokens = read.tokens.sum()
        kl = read.divergence[1].sum() / tokens
        rise = np.exp((read.surprise[1] - read.surprise[0]).sum() / tokens) - 1
        assert (priced.kl, priced.perplexity) == pytest.approx((kl, 1 + rise), rel=1e-4)
        found = kl if cost == "kl" else rise
        assert priced.reached == (abs(found / wanted - 1) <= 0.05)
        assert priced.reached or found < wanted or cost == "perplexity"
    assert any(priced.reached for priced in match_costs(model, spans, edits, cost, wanted))


def test_an_edit_that_cannot_cost_as_much_says_so(bench):
    spans = [Span(tuple(bench.model.tokenizer(text)["input_ids"]), 6) for text in SENTENCES[:3]]
    (priced,) = match_costs(bench.model, spans, [LowRankEdit({2: torch.eye(HIDDEN)[:1]})], "kl", 50.0)
    assert not priced.reached and priced.kl < 50


def test_the_method_that_finds_the_direction_is_the_one_that_works_at_equal_cost(bench, study, measure):
    plan = BenchPlan(
        methods=("fisher", "mean-difference"), level=0.02, layers=(1,), evaluation=replace(measure, controls=2)
    )
    plan = replace(plan, cost="kl", methods=(Choice("fisher"), Choice("mean-difference")))
    found = run_bench(bench.model, study, plan)
    planted, other = found.rows
    assert all(row.priced.kl == pytest.approx(0.02, rel=0.05) for row in found.rows if row.priced.reached)
    assert (
        planted.priced.reached and planted.edit.method == "fisher" and planted.edit.strength == planted.priced.strength
    )
    assert planted.effects["mass"].after.mean < 0.6 * planted.effects["mass"].before.mean
    assert planted.effects["mass"].control.beyond.high < 0
    assert other.effects["mass"].after.mean > planted.effects["mass"].after.mean
    assert planted.effects["mass"].control.level == other.effects["mass"].control.level
    told = json.loads(json.dumps(record_bench(found)))
    assert list(told["methods"]) == ["fisher", "mean-difference"] and len(told["random"]) == 2


def test_flipped_labels_leave_the_subspace_and_lose_the_mean():
    sample = draw_factor_sample(3, pairs=400, seed=2)
    generator = torch.Generator().manual_seed(4)
    flips = torch.zeros(400, dtype=torch.bool)
    flips[torch.randperm(400, generator=generator)[:200]] = True
    toxic = torch.where(flips[:, None], sample.civil, sample.toxic)
    civil = torch.where(flips[:, None], sample.toxic, sample.civil)
    found = {}
    for method in ("detox", "mean-difference"):
        clean = fit_layer(sample.toxic, sample.civil, 3, Choice(method)).basis
        noisy = fit_layer(toxic, civil, 3, Choice(method)).basis
        found[method] = float(principal_angles(clean, noisy).max())
    # The differences' right singular vectors stay; what centring takes out turns a little.
    raw = [torch.linalg.svd(one - other).Vh[:3] for one, other in ((sample.toxic, sample.civil), (toxic, civil))]
    assert float(principal_angles(*raw).max()) < 0.1
    assert found["detox"] < 5 and found["mean-difference"] > 45, found


def test_draws_are_shared_by_methods_and_nested_in_nothing_else(study):
    ten, again, other = (
        draw_of(study, Setting(method, 10, 0.2, draw), 0).embeddings(study)
        for method, draw in (("detox", 1), ("mean-difference", 1), ("detox", 2))
    )
    assert torch.equal(ten[0], again[0]) and not torch.equal(ten[0], other[0])
    plain = draw_of(study, Setting("detox", 10, 0.0, 1), 0).embeddings(study)
    swapped = (ten[0] != plain[0]).any(-1).any(0)
    assert int(swapped.sum()) == 2 and torch.equal(ten[0][:, swapped], plain[1][:, swapped])


def test_settings_end_with_all_pairs_and_begin_without_noise(study):
    plan = SampleSizePlan(methods=("detox",), sizes=(5, 1000), draws=2)
    assert [(each.pairs, each.draw) for each in list_sample_sizes(study, plan)] == [(5, 0), (5, 1), (60, 0)]
    noise = LabelNoisePlan(methods=("detox",), flipped=(0.5,), draws=2)
    assert [(each.flipped, each.draw) for each in list_label_noise(study, noise)] == [(0.0, 0), (0.5, 0), (0.5, 1)]
    with pytest.raises(InputError, match="kept no embeddings.*--embeddings"):
        list_sample_sizes(replace(study, embeddings=None), plan)


def test_a_curve_that_was_stopped_goes_on_and_gives_the_same(bench, study, measure, tmp_path, monkeypatch):
    monkeypatch.setattr(curves, "AT_ONCE", 2)
    plan = SampleSizePlan(methods=("detox",), sizes=(5, 20), draws=2, layers=(1,), level=0.02, evaluation=measure)
    settings = list_sample_sizes(study, plan)
    whole = measure_curve(bench.model, study, plan, settings)
    assert len(whole) == 5 and all(point.kl == pytest.approx(0.02, rel=0.05) for point in whole if point.reached)
    file = tmp_path / "lab.jsonl"

    def stop(points):
        if len(points) == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        measure_curve(bench.model, study, plan, settings, file, show=stop)
    assert len(load_curve(file)) == 2
    fitted = []
    make = curves.make_from_draw
    monkeypatch.setattr(curves, "make_from_draw", lambda *given: fitted.append(given) or make(*given))
    again = measure_curve(bench.model, study, plan, settings, file)
    assert len(fitted) == 3 and [point.setting for point in again] == settings
    for one, other in zip(record_points(again), record_points(whole), strict=True):
        assert [one.pop(name) for name in ("method", "rank")] == [other.pop(name) for name in ("method", "rank")]
        assert one == pytest.approx(other, rel=1e-4)


def test_another_neutral_text_is_another_cost_and_measured_anew(bench, study, measure, tmp_path):
    (tmp_path / "neutral.txt").write_text("\n".join(SENTENCES[:6]))
    measure = replace(measure, scorers=("mass",), neutral=TextSpec(str(tmp_path / "neutral.txt")))
    plan = LabelNoisePlan(methods=("detox",), flipped=(), layers=(1,), evaluation=measure)
    settings, file = list_label_noise(study, plan), tmp_path / "lab.jsonl"
    measure_curve(bench.model, study, plan, settings, file)
    measure_curve(bench.model, study, plan, settings, file)
    assert len(load_curve(file)) == 1
    (tmp_path / "neutral.txt").write_text("\n".join(SENTENCES[4:]))
    measure_curve(bench.model, study, plan, settings, file)
    assert len(load_curve(file)) == 2


@pytest.mark.parametrize("content", ['{"key": 1}\n', "no json\n", '{"key": "a", "point": {"setting": {}}}\n'])
def test_a_broken_results_file_names_its_line(tmp_path, content):
    (tmp_path / "lab.jsonl").write_text(content)
    with pytest.raises(InputError, match="lab.jsonl, line 1: no result of a lab"):
        load_curve(tmp_path / "lab.jsonl")


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        (lambda: SampleSizePlan(sizes=(1,)), "2 pairs or more, not on 1"),
        (lambda: LabelNoisePlan(flipped=(2.0,)), "between 0 and 1"),
        (lambda: CurvePlan(draws=0), "1 to 100 times"),
        (lambda: BenchPlan(cost="money"), "kl or perplexity or both"),
        (lambda: CurvePlan(cost="both"), "kl or perplexity, not in “both”"),
        (lambda: TrainingPlan(learning_rates=(2.0,)), "between 0 and 1"),
        (lambda: TrainingPlan(smoothing=0.5), "from 0 to below 0.5"),
        (lambda: BenchPlan(level=0.0), "above 0"),
        (lambda: BenchPlan(evaluation=EvaluationPlan()), "leave out --control"),
        (lambda: CurvePlan(evaluation=EvaluationPlan(control="plain")), "leave out --control and --controls"),
    ],
)
def test_plans_that_cannot_be_are_refused(plan, says):
    with pytest.raises(InputError, match=says):
        plan()


def test_how_dpo_trains_is_nothing_to_what_needs_no_training(bench, study, measure, tmp_path):
    plan = LabelNoisePlan(methods=("detox",), flipped=(), layers=(1,), evaluation=measure)
    file = tmp_path / "lab.jsonl"
    for each in (plan, replace(plan, training=TrainingPlan(steps=7))):
        measure_curve(bench.model, study, each, list_label_noise(study, each), file)
    assert len(load_curve(file)) == 1


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(3, "10 seconds"), (61, "60 seconds"), (90, "2 minutes"), (5399, "90 minutes"), (9000, "2.5 hours")],
)
def test_a_time_to_wait_is_no_more_exact_than_it_is_known(seconds, told):
    assert describe_time(seconds) == told
