import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from detox_engine.errors import Cancelled, InputError
from detox_engine.estimates import Control, Effect, Estimate
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.evaluation import EvaluationPlan, SweepPlan, read_setting, write_setting
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.plans.sources import PairSpec, TextSpec
from detox_engine.scoring.evaluation import evaluate
from detox_engine.scoring.recommend import find_frontier, find_knee, recommend
from detox_engine.scoring.results import SweepPoint, keep_points, load_points
from detox_engine.scoring.scorers import scorers
from detox_engine.scoring.sweep import make_grid, run_sweep
from detox_engine.study.study import Study
from detox_engine.workbench import Workbench
from tests.models import SENTENCES, open_tiny

SIDES = scorers()["profanity"], scorers()["perplexity"]
"""What is to fall, and what it may cost."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    pairs = [
        {"toxic": f"{text} You {word}, shut up.", "civil": f"{text} Thank you."}
        for text, word in zip(SENTENCES, ("idiot", "moron", "fool", "crap", "damn") * 2, strict=True)
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
    (folder / "prompts.txt").write_text("The train is\nShe explained\nThis printer\n", encoding="utf-8")
    (folder / "neutral.txt").write_text("\n".join(SENTENCES[:4]) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def bench() -> Workbench:
    return Workbench(open_tiny("gpt2"))


@pytest.fixture(scope="module")
def study(bench: Workbench, folder: Path) -> Study:
    return bench.fit(FitPlan(PairSpec(str(folder / "pairs.jsonl")), keep=4))


@pytest.fixture(scope="module")
def plan(folder: Path) -> SweepPlan:
    measure = EvaluationPlan(
        scorers=("profanity", "perplexity", "drift"),
        prompts=str(folder / "prompts.txt"),
        neutral=TextSpec(str(folder / "neutral.txt")),
        sampling=SamplingPlan(max_new_tokens=5),
        controls=1,
        resamples=100,
    )
    return SweepPlan(ranks=(1, 2), strengths=(0.5, 1.0), evaluation=measure)


def test_grid_is_every_combination_with_the_last_layer_fixed_or_swept():
    grid = make_grid(SweepPlan(ranks=(2, 1, 2), strengths=(1.0,)), 3)
    assert [(setting.rank, setting.layers) for setting in grid] == [
        (1, (0, 1, 2)), (1, (1, 2)), (1, (2,)), (2, (0, 1, 2)), (2, (1, 2)), (2, (2,))
    ]  # fmt: skip
    swept = make_grid(SweepPlan(ranks=(1,), starts=(0, 2), ends=(1, 2), strengths=(0.5, 1)), 3)
    assert [(setting.layers, setting.strength) for setting in swept] == [
        ((0, 1), 0.5), ((0, 1), 1), ((0, 1, 2), 0.5), ((0, 1, 2), 1), ((2,), 0.5), ((2,), 1)
    ]  # fmt: skip


def test_layers_that_are_no_neighbours_are_swept_as_they_are_and_not_beside_first_and_last_ones():
    grid = make_grid(SweepPlan(ranks=(1, 2), layers=(0, 2), strengths=(0.5, 1.0)), 3)
    assert [(setting.layers, setting.rank, setting.strength) for setting in grid] == [
        ((0, 2), 1, 0.5), ((0, 2), 1, 1.0), ((0, 2), 2, 0.5), ((0, 2), 2, 1.0)
    ]  # fmt: skip


def test_one_more_setting_stands_last_and_none_twice():
    grid = make_grid(SweepPlan(ranks=(1,), also="0,2:2:1.55"), 3)
    assert grid[:-1] == make_grid(SweepPlan(ranks=(1,)), 3)
    assert grid[-1] == EditPlan((0, 2), 2, 1.55)
    assert make_grid(SweepPlan(ranks=(1,), also="1-2:1:1"), 3) == grid[:-1]
    edit = EditPlan((0, 3, 4), 7, -1 / 3)
    assert read_setting(write_setting(edit)) == (edit.layers, edit.rank, edit.strength)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"also": "0-9:1:1"}, "is outside the model"),
        ({"starts": (3,)}, "Layer 3 is outside the model: its layers are 0-2"),
        ({"ends": (7,)}, "0-2"),
        ({"layers": (0, 3)}, "Layer 3 is outside the model"),
        ({"layers": (1,), "ends": (2,)}, "leave one of them out"),
        ({"starts": (2,), "ends": (0, 1)}, "swap them"),
    ],
)
def test_grids_outside_the_model_get_one_sentence(settings: dict, says: str):
    with pytest.raises(InputError, match=says):
        make_grid(SweepPlan(**settings), 3)


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"ranks": ()}, "at least one rank"), ({"ranks": (0, 1)}, "1 or more"), ({"starts": ()}, "at least one"),
     ({"strengths": (float("nan"),)}, "finite"), ({"also": "0-1:two:1"}, "no setting"),
     ({"also": "0:1:inf"}, "no setting"), ({"layers": ()}, "at least one")],
)  # fmt: skip
def test_plans_out_of_range_get_one_sentence(settings: dict, says: str):
    with pytest.raises(InputError, match=says):
        SweepPlan(**settings)


def test_rank_above_what_was_kept_is_refused_before_anything_is_measured(bench, study, plan, tmp_path: Path):
    with pytest.raises(InputError, match="1 to 4"):
        run_sweep(bench.model, study, replace(plan, ranks=(1, 9)), tmp_path / "results.jsonl")
    assert not any(tmp_path.iterdir())


def test_settings_in_one_pass_score_as_each_does_alone(bench: Workbench, study: Study, plan: SweepPlan):
    sweep = run_sweep(bench.model, study, plan)
    assert sweep.whole and sweep.computed == sweep.total == len(sweep.points) == 12
    for point in (sweep.points[0], sweep.points[7], sweep.points[-1]):
        alone = evaluate(bench.model, study, point.edit, plan.evaluation)
        for score in alone.scores:
            effect = point.effects[score.name]
            sides = [
                [each.before, each.after, each.difference, *(control.level for control in each.controls)]
                for each in (score.effect, effect)
            ]
            assert [control.kind for control in effect.controls] == ["plain", "matched"]
            for expected, found in zip(*sides, strict=True):
                assert (found.mean, found.low, found.high) == pytest.approx(
                    (expected.mean, expected.low, expected.high), rel=1e-4, abs=1e-5
                )
    assert len({point.effects["drift"].after.mean for point in sweep.points}) == 12


def test_settings_act_at_the_sites_of_the_plan(bench: Workbench, study: Study, plan: SweepPlan, tmp_path: Path):
    measure = replace(plan.evaluation, scorers=("drift",), control="plain")
    small = replace(plan, ranks=(1,), starts=(1,), strengths=(1.0,), evaluation=measure)
    found = {}
    for sites in ("mlp", "attention", "both"):
        (point,) = run_sweep(bench.model, study, replace(small, sites=sites), tmp_path / "kept.jsonl").points
        alone = evaluate(bench.model, study, point.edit, measure)["drift"].effect
        assert point.edit == EditPlan((1, 2), 1, sites=sites)
        assert point.effects["drift"].after.mean == pytest.approx(alone.after.mean, rel=1e-4)
        found[sites] = point
    assert len({point.effects["drift"].after.mean for point in found.values()}) == 3
    assert {point.sites for point in load_points(tmp_path / "kept.jsonl").values()} == found.keys()


def test_stopped_and_resumed_sweep_gives_the_same_table(
    bench: Workbench, study: Study, plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("detox_engine.scoring.sweep.SETTINGS_AT_ONCE", 4)
    whole = run_sweep(bench.model, study, plan, tmp_path / "whole.jsonl")
    counts, parts = [], []

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "Trying settings":
            counts.append((done, total))
        elif done and len(counts) > 2:  # inside the third batch
            raise Cancelled

    with pytest.raises(Cancelled):
        run_sweep(bench.model, study, plan, tmp_path / "stopped.jsonl", stop, parts.append)
    assert counts == [(0, 12), (4, 12), (8, 12)]
    assert [(len(part.points), part.total, part.computed, part.whole) for part in parts] == [
        (0, 12, 0, False), (4, 12, 4, False), (8, 12, 8, False)
    ]  # fmt: skip
    assert parts[-1].points == tuple(point for point in whole.points if point in parts[-1].points)
    resumed = run_sweep(bench.model, study, plan, tmp_path / "stopped.jsonl")
    assert resumed.computed == 4 and resumed.points == whole.points
    again = run_sweep(bench.model, study, plan, tmp_path / "stopped.jsonl")
    assert again.computed == 0 and again.points == whole.points
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stopped.jsonl", "whole.jsonl"]


def test_wider_grid_computes_only_what_is_missing(bench: Workbench, study: Study, plan, tmp_path: Path):
    results = tmp_path / "results.jsonl"
    first = run_sweep(bench.model, study, replace(plan, ranks=(1,)), results)
    wider = run_sweep(bench.model, study, plan, results)
    assert (first.computed, wider.computed) == (6, 6) and wider.whole
    assert wider.points[:6] == first.points


@pytest.mark.parametrize("change", ["prompts", "seed", "scorers", "study", "neutral"])
def test_what_changes_the_numbers_is_measured_anew(bench, study, folder, tmp_path: Path, plan, change: str):
    results = tmp_path / "results.jsonl"
    small = replace(plan, ranks=(1,), starts=(2,), strengths=(1.0,))
    prompts, neutral = tmp_path / "prompts.txt", tmp_path / "neutral.txt"
    prompts.write_text((folder / "prompts.txt").read_text())
    neutral.write_text((folder / "neutral.txt").read_text())
    measure = replace(plan.evaluation, prompts=str(prompts), neutral=TextSpec(str(neutral)))
    assert run_sweep(bench.model, study, replace(small, evaluation=measure), results).computed == 1
    if change == "prompts":  # the same file, other words in it
        prompts.write_text("Other words\n")
    elif change == "neutral":
        neutral.write_text("Other words are here.\n")
    elif change == "seed":
        measure = replace(measure, seed=1)
    elif change == "scorers":
        measure = replace(measure, scorers=("perplexity",))
    else:
        flipped = [replace(each, basis=each.basis.flip(0)) for each in study.subspaces]
        study = replace(study, subspaces=tuple(flipped))
    assert run_sweep(bench.model, study, replace(small, evaluation=measure), results).computed == 1
    assert len(load_points(results)) == 2


def test_results_file_survives_a_failed_write(tmp_path: Path, monkeypatch):
    file = tmp_path / "results.jsonl"
    keep_points(file, {"first": point(1, 10, 0.5)})
    kept = file.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("detox_engine.scoring.results.Path.replace", fail)
    with pytest.raises(InputError, match="No space left"):
        keep_points(file, {"second": point(2, 11, 0.4)})
    assert file.read_bytes() == kept and [path.name for path in tmp_path.iterdir()] == ["results.jsonl"]


def test_points_come_back_from_the_file_as_they_were(tmp_path: Path):
    points = {"a": point(1, 10, 0.5), "b": point(2, float("nan"), 0.4), "c": point(2, 10, 0.4, matched=[0.3])}
    keep_points(tmp_path / "new" / "results.jsonl", points)
    assert repr(load_points(tmp_path / "new" / "results.jsonl")) == repr(points)
    assert load_points(tmp_path / "none.jsonl") == {}


def test_points_that_were_kept_before_there_were_kinds_of_control_are_read(tmp_path: Path):
    side = {"mean": 1.0, "low": 0.5, "high": 1.5, "n": 3}
    sides = dict.fromkeys(("before", "after", "control", "difference", "control_difference"), side)
    kept = {"key": "a", "layers": [1], "rank": 1, "strength": 1.0, "scorers": {"drift": {**sides, "draws": [2.0]}}}
    (tmp_path / "old.jsonl").write_text(json.dumps(kept) + "\n")
    (read,) = load_points(tmp_path / "old.jsonl").values()
    assert read.effects["drift"].controls == (Control("plain", Estimate(**side), Estimate(**side), (2.0,)),)


@pytest.mark.parametrize("content", ['{"key": 1}\n', "no json\n", "[1]\n"])
def test_broken_results_file_names_its_line(tmp_path: Path, content: str):
    file = tmp_path / "results.jsonl"
    keep_points(file, {"a": point(1, 10, 0.5)})
    file.write_text(file.read_text() + content)
    with pytest.raises(InputError, match=r"results.jsonl, line 2"):
        load_points(file)


def point(
    rank: int,
    perplexity: float,
    toxicity: float,
    control: float = 0.49,
    high: float | None = None,
    matched: Sequence[float] = (),
) -> SweepPoint:
    """A setting whose unedited model has perplexity 10 and toxicity 0.5; `matched` is its matched control, if any."""

    def effect(before: float, after: float, *levels: float) -> Effect:
        sides = (Estimate(float(value), value - 0.1, value + 0.1, 9) for value in (before, after))
        fall = Estimate(float(after - before), after - before - 0.1, after - before + 0.01 if high is None else high, 9)
        kinds = zip(("plain", "matched"), levels, strict=False)
        controls = (Control(kind, Estimate(level, level, level, 9), fall, (level,)) for kind, level in kinds)
        return Effect(*sides, fall, tuple(controls))

    effects = {"perplexity": effect(10, perplexity, 10.0), "profanity": effect(0.5, toxicity, control, *matched)}
    return SweepPoint((1, 2), rank, 1.0, effects, unmatched=len(matched))


def test_frontier_keeps_what_nothing_beats():
    points = [(1, 5), (2, 3), (3, 3), (2, 4), (4, 1), (5, 1), (float("nan"), 0), (1, 5)]
    assert find_frontier(points) == (0, 1, 4)
    assert find_frontier([(1, 5), (2, 6), (3, 2)], better=(-1, 1)) == (0, 1)
    assert find_frontier([]) == ()
    for index in set(range(6)) - set(find_frontier(points)):
        assert any(a <= points[index][0] and b <= points[index][1] for a, b in (points[i] for i in (0, 1, 4)))


def test_knee_is_where_the_frontier_bends():
    assert find_knee([(10, 0.5), (10.1, 0.1), (11, 0.05), (13, 0.0)]) == 1
    assert find_knee([(0, 1), (1, 0)]) == 1
    assert find_knee([(3, 3)]) == 0
    # The scale of an axis does not matter.
    assert find_knee([(1000, 5e-3), (1010, 1e-3), (1100, 5e-4), (1300, 0.0)]) == 1


def test_recommendation_is_the_knee_within_the_limit_with_its_reason():
    points = [point(1, 10.1, 0.40), point(2, 10.3, 0.15), point(4, 10.9, 0.10), point(8, 12.0, 0.01)]
    choice = recommend(points, *SIDES, limit=1.1)
    assert choice.index == 1
    moved = "toxicity from 0.500 to 0.150"
    for words in ("Rank 2 at layers 1-2", moved, "10.00 to 10.30", "+3.0%", "10%", "bends most"):
        assert words in choice.reason
    assert recommend(points, *SIDES, limit=1.015).index == 0
    assert recommend(points, *SIDES, limit=1.3).index in (1, 3)


def test_a_cost_far_below_what_is_allowed_is_worth_paying():
    points = [point(1, 10.02, 0.34), point(1, 10.16, 0.13)]
    assert recommend(points, *SIDES, limit=1.1).index == 1
    # Where hardly more than that is allowed, the first half of the effect is nearly free and the rest is not.
    assert recommend(points, *SIDES, limit=1.017).index == 0


def test_nothing_is_recommended_beyond_the_limit_without_an_effect_or_no_better_than_chance():
    for hopeless in (
        point(1, 12, 0.1),
        point(1, 10.1, 0.4, high=0.02),
        point(1, 10.1, 0.4, control=0.35),
        point(1, 10.1, 0.4, matched=[0.35]),
    ):
        choice = recommend([hopeless], *SIDES, limit=1.1)
        assert choice.index is None and "raise the limit" in choice.reason and choice.reason.count(". ") == 0
    assert recommend([], *SIDES, limit=1.1).index is None


def test_point_becomes_the_edit_plan():
    assert point(3, 10, 0.1).edit == EditPlan((1, 2), 3, 1.0)
