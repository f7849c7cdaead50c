"""A verdict follows the numbers: what overlaps is no difference, and where a claim fails it says so."""

import pytest

from detox_engine.lab.verdicts import (
    HELD,
    NOT_SEEN,
    OPEN,
    PARTLY,
    find_lasting,
    judge_bench,
    judge_centring,
    judge_claims,
    judge_label_noise,
    judge_link,
    judge_sample_size,
)


def point(method, mean, spread=0.0, before=0.10, **setting):
    usual = {"pairs": 100, "flipped": 0.0, "draw": 0, "rank": None, "matched": True, "perplexity": 1.01}
    return {
        **usual,
        "method": method,
        "mass_mean": mean,
        "mass_low": mean - spread,
        "mass_high": mean + spread,
        "mass_before": before,
        **setting,
    }


def sizes(detox, dpo, spread=0.001):
    """Rude words left by the number of pairs."""
    return {
        "points": [
            point(method, mean, spread, pairs=pairs)
            for method, means in (("detox", detox), ("dpo", dpo))
            for pairs, mean in means.items()
        ]
    }


def test_fewer_pairs_for_the_same_is_held_and_a_crossing_is_named():
    verdict, told = judge_sample_size(sizes({5: 0.03, 50: 0.02, 500: 0.02}, {5: 0.09, 50: 0.06, 500: 0.05}))
    assert verdict == HELD and "5 pairs leave 30 %" in told and "at none of these numbers" in told
    verdict, told = judge_sample_size(sizes({5: 0.03, 50: 0.03, 500: 0.03}, {5: 0.09, 50: 0.03, 500: 0.01}))
    assert verdict == PARTLY and "DPO overtakes DeTox at 500 pairs" in told
    assert judge_sample_size(sizes({5: 0.05, 50: 0.05}, {5: 0.02, 50: 0.01}))[0] == NOT_SEEN
    assert judge_sample_size(sizes({5: 0.05}, {5: 0.06}, spread=0.02))[0] == NOT_SEEN, "they overlap"
    assert judge_sample_size({"points": [point("detox", 0.02)]})[0] == OPEN


def test_draws_that_overlap_are_no_difference():
    record = sizes({}, {})
    record["points"] = [
        point(method, mean, draw=draw)
        for method, means in (("detox", (0.02, 0.06)), ("dpo", (0.05, 0.07)))
        for draw, mean in enumerate(means)
    ]
    assert judge_sample_size(record)[0] == NOT_SEEN
    record["points"][1]["mass_mean"] = 0.03
    assert judge_sample_size(record)[0] == HELD


def noise(**left):
    """Rude words left by the share flipped."""
    return {
        "points": [
            point(method.replace("_", "-"), mean, flipped=share)
            for method, means in left.items()
            for share, mean in zip((0.0, 0.25, 0.5), means, strict=True)
        ]
    }


def test_a_method_lasts_as_long_as_half_of_its_drop_does():
    values = {0.0: [point("detox", 0.02)], 0.25: [point("detox", 0.05)], 0.5: [point("detox", 0.07)]}
    assert find_lasting(values) == 0.25
    assert find_lasting({0.0: [point("detox", 0.11)], 0.5: [point("detox", 0.01)]}) == 0.0


def test_robustness_is_held_where_training_gives_way_first():
    verdict, told = judge_label_noise(
        noise(detox=(0.02, 0.02, 0.03), dpo=(0.02, 0.04, 0.09), mean_difference=(0.02, 0.05, 0.1))
    )
    assert verdict == HELD and "DeTox up to 50 %" in told and "DPO up to 25 %" in told
    assert judge_label_noise(noise(detox=(0.02, 0.02, 0.03), dpo=(0.02, 0.02, 0.03)))[0] == PARTLY
    verdict, told = judge_label_noise(noise(detox=(0.02, 0.02, 0.03), mean_difference=(0.02, 0.05, 0.1)))
    assert verdict == PARTLY and "DPO was not trained here" in told
    assert judge_label_noise(noise(detox=(0.02, 0.05, 0.09), dpo=(0.02, 0.09, 0.09)))[0] == PARTLY
    assert judge_label_noise(noise(detox=(0.02, 0.09, 0.09), dpo=(0.02, 0.02, 0.02)))[0] == NOT_SEEN


def link(inside, plain, both, random_both=0.3):
    layers = [
        {"layer": place, "inside": each, "random": 0.1, "random_high": 0.15, "beyond_chance": each > 0.15}
        for place, each in enumerate(inside)
    ]
    denoised = [{"pairs": 5, "plain": plain, "filtered": 0.2, "filtered_both": both, "random_both": random_both}]
    return {"layers": layers, "rank": 1, "pairs": 100, "denoised": denoised}


@pytest.mark.parametrize(
    ("record", "verdict"),
    [
        (link([0.5] * 4, 0.4, 0.8), HELD),
        (link([0.5] * 4, 0.4, 0.3), PARTLY),
        (link([0.5] * 4, 0.4, 0.8, random_both=0.9), PARTLY),
        (link([0.1] * 4, 0.4, 0.3), NOT_SEEN),
    ],
)
def test_a_step_is_denoised_only_beyond_what_a_random_subspace_does(record, verdict):
    assert judge_link(record)[0] == verdict


def test_centring_is_for_what_it_spares():
    def record(*spared):
        return {
            "points": [
                point(method, 0.03, rank=rank, matched=False, perplexity=1.02 + (less if method == "uncentred" else 0))
                for rank, less in enumerate(spared, 1)
                for method in ("detox", "uncentred")
            ]
        }

    assert judge_centring(record(0.1, 0.2))[0] == HELD
    assert judge_centring(record(0.1, -0.1))[0] == PARTLY
    assert judge_centring(record(0.001, -0.001))[0] == NOT_SEEN
    assert judge_centring({"points": []})[0] == OPEN


def test_a_bench_is_held_beyond_its_control_alone():
    def record(high):
        def side(mean):
            return {"mean": mean, "low": mean, "high": mean, "n": 30}

        effect = {
            "before": side(0.1),
            "after": side(0.04),
            "control": side(0.09),
            "beyond": side(-0.05) | {"high": high},
        }
        better = effect | {"after": side(0.02)}
        rows = {
            name: {"scorers": {"mass": each}, "cost": {"reached": reached}}
            for name, each, reached in (("detox", effect, True), ("fisher", better, True), ("dpo", better, False))
        }
        return {"methods": rows, "cost": "kl", "wanted": 0.015}

    verdict, told = judge_bench(record(-0.01))
    assert verdict == HELD and "DeTox leaves 40 %" in told and "Fisher 20 %" in told and "random subspaces 90 %" in told
    assert judge_bench(record(0.01))[0] == NOT_SEEN


def test_what_was_not_run_is_open():
    assert {claim.verdict for claim in judge_claims({})} == {OPEN}
