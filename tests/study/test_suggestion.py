"""A suggestion is earned: the largest measured gap within the budget, over pairs that fitted nothing, or none."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from detox_engine.edit.low_rank import make_edit
from detox_engine.errors import Cancelled, InputError
from detox_engine.estimates import Estimate
from detox_engine.forward.likelihood import cut_continuations, read_likelihoods
from detox_engine.forward.slopes import Place, Slopes
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.fit import BUDGETS, MOST_PERPLEXITY, PAPER, FitPlan
from detox_engine.study.findings import Finding
from detox_engine.study.fit import hold_out
from detox_engine.study.study import Study
from detox_engine.study.suggestion import Change, Check, Suggestion, Tried, record_suggested, search
from detox_engine.study.suggestion.candidates import (
    MOST_STRENGTH,
    STEP,
    find_extreme_layers,
    find_factor,
    list_candidates,
    pick_units,
    shortlist,
    strengthen,
)
from detox_engine.study.suggestion.search import choose, fit_without, measure_layers, suggest_edit
from detox_engine.workbench import Workbench
from tests.models import HIDDEN
from tests.planted import (
    LAYER,
    exchangeable_pairs,
    give_directions,
    open_planted,
    planted_direction,
    planted_pairs,
    write_pairs,
)


@pytest.fixture(scope="module", autouse=True)
def few_texts():
    """A tiny tokenizer makes many tokens of a neutral sentence, and few sentences are enough here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "SLOPE_TEXTS", 10)
        patch.setattr(search, "MEASURED_TEXTS", 10)
        yield


@pytest.fixture(scope="module")
def bench() -> Workbench:
    return Workbench(open_planted())


@pytest.fixture(scope="module")
def plan(tmp_path_factory) -> FitPlan:
    return FitPlan(write_pairs(tmp_path_factory.mktemp("pairs") / "planted.jsonl", planted_pairs()), keep=4)


@pytest.fixture(scope="module")
def study(bench, plan) -> Study:
    """The planted direction is that of one method, and another has random ones."""
    fitted = bench.fit(plan)
    noise = torch.randn(fitted.layers, HIDDEN, generator=torch.Generator().manual_seed(3))
    planted = planted_direction().expand(fitted.layers, HIDDEN)
    given = give_directions(fitted, {"fisher": planted, "mean-difference": torch.nn.functional.normalize(noise, dim=1)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "fit_without", lambda *others: given.others)
        return suggest_edit(bench.model, given)


def make_slopes(curvature, gaps=None, methods=("detox",), ranks=1) -> Slopes:
    """Uncorrelated directions of both sites at as many layers as there are curvatures."""
    places = tuple(
        Place(layer, site, method, direction)
        for layer in range(len(curvature))
        for site in ("attention", "mlp")
        for method in methods
        for direction in range(ranks)
    )
    gap = np.array([(gaps or {}).get((place.method, place.direction), 1.0) for place in places])
    return Slopes(places, gap, np.diag([curvature[place.layer] for place in places]))


def test_every_candidate_is_as_strong_as_its_predicted_divergence_allows():
    slopes = make_slopes([0.01, 0.02, 0.03, 0.04])
    found = list_candidates(slopes, 0.015)
    assert found and all(one.predicted_divergence <= 0.015 for one in found)
    for one in found:
        stronger = one.edit.strength + STEP
        assert stronger > MOST_STRENGTH or one.predicted_divergence * (stronger / one.edit.strength) ** 2 > 0.015
    assert [one.predicted_gap for one in found] == sorted((one.predicted_gap for one in found), reverse=True)
    # 2 Σ c / 2 α² for both sites of all layers is 0.1 α², and the gap of their 8 directions 8 α.
    whole = next(one for one in found if one.edit.layers == (0, 1, 2, 3) and one.edit.sites == "both")
    assert whole.edit.strength == 0.35 and whole.predicted_gap == pytest.approx(8 * 0.35)


def test_layers_of_extreme_curvature_are_in_no_candidate():
    slopes = make_slopes([0.01, 30.0, 0.01, 0.02, 0.01, 0.01])
    assert find_extreme_layers(slopes) == (1,)
    found = list_candidates(slopes, 0.015)
    assert found and not any(1 in one.edit.layers for one in found)
    assert any({0, 2} <= set(one.edit.layers) for one in found)


def test_a_higher_rank_is_tried_only_where_it_promises_more():
    gains = make_slopes([0.01] * 4, {("detox", 0): 1.0, ("detox", 1): 1.0}, ranks=2)
    assert {one.edit.rank for one in list_candidates(gains, 0.015)} == {1, 2}
    costs = make_slopes([0.01] * 4, {("detox", 0): 1.0, ("detox", 1): 0.1}, ranks=2)
    assert {one.edit.rank for one in list_candidates(costs, 0.015)} == {1}


def test_what_promises_no_gap_is_no_candidate():
    assert list_candidates(make_slopes([0.01] * 4, {("detox", 0): -1.0}), 0.015) == []


def test_layers_that_move_the_same_are_not_all_taken_and_their_neighbours_need_not_be():
    """Every other layer does harm, so that no range of them does what those between do together."""
    slopes = make_slopes([0.01] * 6)
    sign = np.array([1.0 if place.layer in (0, 2, 4) else -1.0 for place in slopes.places])
    slopes = replace(slopes, gap=sign)
    best = list_candidates(slopes, 0.015)[0]
    assert best.edit.layers == (0, 2, 4) and best.edit.sites == "both"
    ranges = [one for one in list_candidates(slopes, 0.015) if one.edit.layers != best.edit.layers]
    assert all(best.predicted_gap > 1.2 * one.predicted_gap for one in ranges)
    # Two layers that move the same cost four times as much for twice the gap, which is no gain.
    assert pick_units(np.ones(2), np.full((2, 2), 0.01), 0.015) in ((0,), (1,))


def test_the_shortlist_compares_methods_and_differs():
    gaps = {("detox", 0): 3.0, ("fisher", 0): 1.0, ("mean-difference", 0): 2.0}
    slopes = make_slopes([0.01] * 12, gaps, tuple(method for method, _ in gaps))
    chosen = shortlist(list_candidates(slopes, 0.015), 6)
    assert len(chosen) == 6 and {one.edit.method for one in chosen} == {method for method, _ in gaps}
    assert len({(one.edit.method, one.edit.layers, one.edit.sites) for one in chosen}) == 6


@pytest.mark.parametrize(("divergence", "strength"), [(0.015, 1.0), (0.06, 0.5), (1e-9, MOST_STRENGTH), (100.0, 0.0)])
def test_a_strength_is_scaled_to_the_budget_and_capped(divergence, strength):
    assert strengthen(1.0, divergence, 0.015) == strength


@pytest.mark.parametrize("quartic", [0.0, 0.01, 0.1])
def test_a_divergence_that_grows_faster_than_predicted_meets_the_budget_all_the_same(quartic):
    square = 0.01

    def diverge(strength: float) -> float:
        return square * strength**2 + quartic * strength**4

    factor = find_factor(square * 1.5**2, diverge(1.5), 0.015)
    assert diverge(1.5 * factor) == pytest.approx(0.015)
    # Where less was measured than predicted, the square alone is trusted.
    assert find_factor(0.02, 0.01, 0.04) == 2


def tried(gap: float, divergence: float, low: float | None = None, layer: int = 1) -> Tried:
    return Tried(EditPlan((layer,), 1), 1, 1, Estimate(gap, gap / 2 if low is None else low, 2 * gap, 9), divergence, 1)


def test_the_largest_gap_within_the_budget_and_beyond_chance_is_chosen():
    options = [tried(3, 0.02, layer=1), tried(2.5, 0.01, low=-0.1, layer=2), tried(2, 0.014, layer=3), tried(1, 0.001)]
    gentle = choose(options, "gentle")
    assert gentle.edit.layers == (3,) and gentle.status == "untested" and "2.00 nats" in gentle.reason
    assert choose(options, "strong").edit.layers == (1,)
    assert [one.gap.mean for one in gentle.tried] == [3, 2.5, 2, 1]


def test_of_many_edits_that_were_tried_one_must_be_further_beyond_chance():
    """An interval of 95 % leaves 0 out once in forty tries where there is no gap at all."""
    narrow = tried(2, 0.01, low=0.5)
    assert choose([narrow], "gentle").edit == narrow.edit
    others = [tried(1, 0.01, low=-1, layer=layer) for layer in (2, 3, 4)]
    assert choose([narrow, *others], "gentle").edit is None
    assert choose([replace(narrow, gap=Estimate(2, 1.0, 3.0, 9)), *others], "gentle").edit == narrow.edit
    assert choose([replace(narrow, gap=Estimate(2, 0.5, 3.5, 100)), *others], "gentle").edit == narrow.edit


def test_of_edits_within_the_budget_the_one_that_leaves_insults_the_least_is_chosen():
    def share(mean: float) -> Estimate:
        return Estimate(mean, mean / 2, 2 * mean, 9)

    options = [
        replace(tried(gap, divergence, layer=layer), rude_words=share(left))
        for layer, (gap, divergence, left) in enumerate(((3, 0.01, 0.3), (2, 0.01, 0.2), (1, 0.02, 0.1)), start=1)
    ]
    found = choose(options, "gentle")
    assert found.edit.layers == (2,) and "20% (95 % interval 10% to 40%)" in found.reason
    assert [one.rude_words.mean for one in found.tried] == [0.1, 0.2, 0.3]
    assert choose(options, "strong").edit.layers == (3,)
    # One that leaves the least of them and has no gap beyond chance is not chosen.
    options[1] = replace(options[1], gap=Estimate(2, -0.1, 4, 9))
    assert choose(options, "gentle").edit.layers == (1,)


def test_what_is_left_of_insults_is_told_where_the_model_expects_some_and_only_there(bench, study, monkeypatch):
    edit = study.suggestion.edit
    directions = {edit.method: study.of(edit.method)}
    held = sorted(hold_out(len(study.pairs)))[: search.LEAST_MEASURED]
    pairs = cut_continuations(bench.model, [study.pairs[row] for row in held], study.plan.max_length)
    neutral = search.cut_lines(bench.model, search.read_neutral(bench.model))[:4]

    def measure() -> Tried:
        plain = Tried(edit, 0.0, 0.0)
        return search.measure_candidates(bench.model, directions, [plain], pairs, neutral, lambda *done: None)[0]

    assert measure().rude_words is None, "the tiny tokenizer has none of the listed words"
    listed = tuple(range(100))
    monkeypatch.setattr("detox_engine.model.tokens.find_words", lambda tokenizer, words: listed)
    found = measure().rude_words
    sides = [span for pair in pairs for span in pair]
    read = read_likelihoods(bench.model, sides, [None, make_edit(study.of(edit.method), edit)], listed=listed)
    assert found.mean == pytest.approx(read.mass[1].sum() / read.mass[0].sum(), rel=1e-6)
    assert found.low < found.mean < found.high and found.n == len(pairs) and found.mean != 1


def test_an_edit_that_raises_perplexity_beyond_the_budget_is_not_chosen():
    dear, fair = replace(tried(3, 0.01), perplexity=1.02), replace(tried(2, 0.01, layer=2), perplexity=1.01)
    assert choose([dear, fair], "gentle").edit.layers == (2,)
    assert choose([dear, fair], "strong").edit.layers == (1,)


def test_where_nothing_is_beyond_chance_nothing_is_suggested_and_it_says_what_to_do():
    none = choose([tried(2, 0.01, low=-0.5), tried(5, 0.3)], "gentle")
    assert none.edit is None and none.evidence is None and record_suggested(none) is None
    assert "beyond chance" in none.reason and "more pairs" in none.reason and none.reason.endswith(".")


def test_a_planted_direction_is_suggested_within_the_budget(study):
    suggestion = study.suggestion
    assert suggestion.edit is not None, suggestion.reason
    assert suggestion.edit.method == "fisher" and LAYER in suggestion.edit.layers
    evidence = suggestion.evidence
    assert evidence.gap.low > 0 and 0 < evidence.divergence <= BUDGETS["gentle"]
    assert evidence.perplexity <= MOST_PERPLEXITY["gentle"]
    assert study.suggested_edit == study.require_suggestion() == suggestion.edit
    assert all(one.gap is not None for one in suggestion.tried)


def test_of_all_layers_alone_the_one_that_writes_the_planted_direction_does_most(bench, study, monkeypatch):
    monkeypatch.setattr(search, "fit_without", lambda *others: {PAPER: study.others["fisher"]})
    alone = measure_layers(bench.model, study)
    assert [one.edit for one in alone] == [EditPlan((layer,), 1) for layer in range(study.layers)]
    gaps = [one.gap for one in alone]
    assert max(gaps, key=lambda gap: gap.mean) == gaps[LAYER] and gaps[LAYER].low > 0
    with pytest.raises(InputError, match="did not keep its embeddings"):
        measure_layers(bench.model, replace(study, embeddings=None))


def test_a_larger_budget_is_used_and_kept(bench, study, monkeypatch):
    monkeypatch.setattr(search, "fit_without", lambda *given: study.others)
    strong = suggest_edit(bench.model, study, "strong").suggestion
    assert strong.budget == "strong" and strong.evidence.divergence <= BUDGETS["strong"]
    assert strong.evidence.gap.mean > study.suggestion.evidence.gap.mean


def test_sides_that_nothing_tells_apart_get_none(bench, tmp_path):
    plan = FitPlan(write_pairs(tmp_path / "pairs.jsonl", exchangeable_pairs()), keep=4)
    study = bench.fit_and_suggest(plan)
    assert study.suggestion.edit is None and "these pairs may not isolate toxicity" in study.suggestion.reason
    assert study.suggested_edit == EditPlan(study.suggested_layers, study.suggested_rank)
    with pytest.raises(InputError, match="suggests no edit"):
        study.require_suggestion()


def test_pairs_that_differ_in_length_get_none_whatever_was_measured(bench, study):
    found = Finding("length", 0.9, "Length explains 90 % of the first direction: trim the sides to one length.")
    driven = suggest_edit(bench.model, replace(study, findings=(found,))).suggestion
    assert driven.edit is None and not driven.tried and driven.reason.endswith(found.sentence)


def test_few_pairs_get_none_and_a_fit_that_is_not_asked_to_looks_for_none(bench, plan):
    few = bench.fit_and_suggest(replace(plan, pairs=replace(plan.pairs, limit=20)))
    assert few.suggestion.edit is None and "60 pairs or more" in few.suggestion.reason
    assert bench.fit_and_suggest(replace(plan, suggest=False)).suggestion is None
    assert bench.fit(plan).suggestion is None


def test_pairs_that_measure_fit_no_direction_of_those_that_are_measured(study):
    held = sorted(hold_out(len(study.pairs)))
    spoiled = study.embeddings.toxic.clone()
    spoiled[:, held] = 100 * torch.randn(spoiled[:, held].shape)
    other = replace(study, embeddings=replace(study.embeddings, toxic=spoiled))
    for method, found in fit_without(study, held, lambda *_: None).items():
        for one, again in zip(found, fit_without(other, held, lambda *_: None)[method], strict=True):
            assert torch.equal(one.basis, again.basis)


def test_embeddings_and_moments_that_do_not_stay_are_there_while_an_edit_is_looked_for(bench, plan):
    slim = bench.fit_and_suggest(replace(plan, keep_embeddings=False), keep_moments=False)
    assert slim.embeddings is None and slim.token_moments is None and not slim.plan.keep_embeddings
    assert {one.edit.method for one in slim.suggestion.tried} >= {"fisher"}


def test_a_suggestion_reads_back_with_its_evidence_and_its_check(study, tmp_path):
    study.save(tmp_path / "study")
    again = Study.load(tmp_path / "study")
    assert again.suggestion == study.suggestion and again.suggested_edit == study.suggestion.edit
    estimate = Estimate(-0.5, -0.6, -0.4, 64)
    check = Check((Change("mass", *[estimate] * 5),), 64, 2, 2, 1.5, "2026-01-01")
    before = {path.name: path.read_bytes() for path in (tmp_path / "study").iterdir()}
    replace(again, suggestion=replace(again.suggestion, check=check)).write_suggestion(tmp_path / "study")
    checked = Study.load(tmp_path / "study")
    assert checked.suggestion.status == "confirmed" and checked.suggestion.check == check
    changed = [name for name, content in before.items() if (tmp_path / "study" / name).read_bytes() != content]
    assert changed == ["study.json"] and set(before) == {path.name for path in (tmp_path / "study").iterdir()}


def test_a_study_of_an_earlier_version_has_no_suggestion_but_a_starting_point(study, tmp_path):
    study.save(tmp_path / "study")
    file = tmp_path / "study" / "study.json"
    record = json.loads(file.read_text(encoding="utf-8"))
    del record["suggestion"], record["plan"]["suggest"], record["plan"]["budget"]
    file.write_text(json.dumps(record), encoding="utf-8")
    old = Study.load(tmp_path / "study")
    assert old.suggestion is None and old.suggested_edit == EditPlan(old.suggested_layers, old.suggested_rank)
    with pytest.raises(InputError, match="--suggest"):
        old.require_suggestion()


def test_a_check_confirms_only_what_falls_beyond_chance_and_control_while_nothing_rises():
    down, level, up = (Estimate(mean, mean - 0.1, mean + 0.1, 9) for mean in (-0.5, 0.0, 0.5))

    def confirmed(*changes) -> bool:
        found = tuple(Change(str(number), level, level, level, *one) for number, one in enumerate(changes))
        return Check(found, 9, 1, 1, 0.0, "").confirmed

    assert confirmed((down, down)) and confirmed((down, down), (level, level))
    assert not confirmed((down, level)) and not confirmed((level, down))
    assert not confirmed((down, down), (up, level))
    assert Suggestion(None, "gentle", "").status == "untested"


def test_finding_a_suggestion_can_be_stopped_at_every_stage(bench, study):
    stages = []
    suggest_edit(bench.model, study, progress=lambda stage, done, total: stages.append(stage))
    assert len(set(stages)) >= 3
    for wanted in dict.fromkeys(stages):

        def stop(stage: str, done: int, total: int, wanted: str = wanted) -> None:
            if stage == wanted:
                raise Cancelled

        with pytest.raises(Cancelled):
            suggest_edit(bench.model, study, progress=stop)
    make_edit(study.of(study.suggested_edit.method), study.suggested_edit)
    assert not any(part._forward_hooks for part in bench.model.network.modules())
