"""What is wrong with pairs is found out and said with its number, and pairs that are as they should be are let be."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from detox_engine.data.columns import Pair
from detox_engine.forward.embedded_pairs import Embeddings
from detox_engine.forward.sinks import Sinks
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.sources import PairSpec
from detox_engine.study.findings import (
    RIDGES,
    Finding,
    describe_verdict,
    estimate_length_share,
    judge_pairs,
    judge_sinks,
    score_unseen,
)
from detox_engine.study.methods import fit_subspaces
from detox_engine.study.study import Study
from detox_engine.workbench import Workbench
from tests.models import SENTENCES, open_tiny

LAYERS, PAIRS, HIDDEN = 4, 100, 48
TEXTS = tuple(Pair("", f"you idiot {n} {n * n}", f"dear friend {n} {n * n}") for n in range(PAIRS))
EQUAL = torch.full((2, PAIRS), 12)
NEARLY_EQUAL = 12 + torch.tensor([[0, 1, 0, -1, 0] * 20, [1, 0, -1, 0, 0] * 20])


def draw_lengths(toxic: tuple[int, int], civil: tuple[int, int], seed: int = 0) -> Tensor:
    """`[2, pairs]` tokens, each side's uniform within its bounds."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randint(low, high + 1, (PAIRS,), generator=generator) for low, high in (toxic, civil)])


def embed(toxicity: float, lengths: Tensor = EQUAL, sink: float = 0.0, noise: float = 0.3, seed: int = 0) -> Embeddings:
    """Embeddings of texts whose sides differ by `toxicity` in one direction, beside a sink that each mean has once."""
    generator = torch.Generator().manual_seed(seed)
    toxic_direction, sink_direction = torch.eye(HIDDEN)[:2]

    def side(number: int, toxicity: float) -> Tensor:
        part = (toxicity * (1 + 0.2 * torch.randn(LAYERS, PAIRS, generator=generator)))[..., None] * toxic_direction
        means = (sink / lengths[number])[:, None] * sink_direction
        return shared + part + means + noise * torch.randn(LAYERS, PAIRS, HIDDEN, generator=generator)

    shared = torch.randn(LAYERS, PAIRS, HIDDEN, generator=generator) + 5
    return Embeddings(side(0, toxicity), side(1, 0.0), 1000, (), lengths)


def judge(embeddings: Embeddings, pairs=TEXTS, **where) -> tuple[Finding, ...]:
    directions = [subspace.basis[0] for subspace in fit_subspaces(embeddings.toxic, embeddings.civil, 4)]
    return judge_pairs(pairs, embeddings, directions, **where)


def swap(embeddings: Embeddings, which: Tensor) -> Embeddings:
    """The same with the sides of some pairs, `[pairs]` bool, taken for each other."""
    toxic = torch.where(which[:, None], embeddings.civil, embeddings.toxic)
    return replace(embeddings, toxic=toxic, civil=torch.where(which[:, None], embeddings.toxic, embeddings.civil))


# lengths


@pytest.mark.parametrize("lengths", [EQUAL, NEARLY_EQUAL, draw_lengths((6, 18), (6, 18))], ids=["same", "near", "any"])
def test_nothing_is_said_of_pairs_that_differ_in_toxicity_alone(lengths):
    assert judge(embed(2.0, lengths)) == ()


@pytest.mark.parametrize("longer", [(12, 30), (6, 18)], ids=["the toxic side is longer", "either side is longer"])
def test_directions_that_follow_the_length_of_the_texts_are_found_out(longer):
    lengths = draw_lengths(longer, (4, 12))
    (found,) = (finding for finding in judge(embed(0.0, lengths, sink=60.0)) if finding.kind == "length")
    assert found.value > 0.9 and f"Length explains {found.value:.0%}" in found.sentence
    assert "layers 2-3" in found.sentence.replace("–", "-") and "equally long" in found.sentence


def test_length_is_found_out_where_it_is_all_that_pairs_have_in_common_though_most_of_each_is_its_own():
    lengths = draw_lengths((6, 18), (4, 12))
    embeddings = embed(0.0, lengths, sink=12.0, noise=0.5)
    directions = [subspace.basis[0] for subspace in fit_subspaces(embeddings.toxic, embeddings.civil, 1)]
    along = torch.stack([(embeddings.toxic - embeddings.civil)[layer] @ directions[layer] for layer in (2, 3)])
    share, explained = estimate_length_share(along.numpy(), lengths.numpy())
    assert share.mean > 0.9 and explained.high < 0.5
    assert "length" in {finding.kind for finding in judge(embeddings)}


def test_a_little_that_is_due_to_length_is_let_be_however_well_it_correlates():
    lengths = draw_lengths((6, 18), (6, 18))
    embeddings = embed(0.0, lengths, sink=6.0, noise=0.02)
    embeddings = replace(embeddings, toxic=embeddings.toxic + 3 * torch.eye(HIDDEN)[1])
    along = (embeddings.toxic - embeddings.civil)[0, :, 1]
    assert np.corrcoef(along, 1 / lengths[0] - 1 / lengths[1])[0, 1] ** 2 > 0.9
    assert judge(embeddings) == ()


def test_a_side_that_is_always_longer_is_told_where_length_and_toxicity_cannot_be_told_apart():
    lengths = torch.stack([torch.full((PAIRS,), 12), torch.full((PAIRS,), 6)])
    (found,) = judge(embed(2.0, lengths))
    assert found.kind == "length" and found.value == 1
    assert "The toxic side is the longer one in 100% of the pairs, 2.0 times as long" in found.sentence
    (found,) = judge(embed(2.0, lengths.flip(0)))
    assert "The civil side is the longer one in 100% of the pairs" in found.sentence


def test_a_side_that_is_always_longer_is_let_be_where_its_length_is_seen_to_matter_little():
    lengths = draw_lengths((14, 40), (5, 12))
    assert judge(embed(2.0, lengths, sink=1.0)) == ()


def test_chance_seldom_makes_length_explain_anything():
    told = 0
    for seed in range(20):
        embeddings = embed(2.0, draw_lengths((6, 18), (6, 18), seed), seed=seed)
        embeddings = swap(embeddings, torch.rand(PAIRS, generator=torch.Generator().manual_seed(seed)) < 0.5)
        told += any(finding.kind == "length" for finding in judge(embeddings))
    assert told <= 1


@pytest.mark.parametrize("known", [None, torch.zeros(2, PAIRS, dtype=torch.int64)], ids=["older", "extended older"])
def test_lengths_that_are_not_known_are_not_judged(known):
    embeddings = embed(2.0, draw_lengths((12, 30), (4, 12)), sink=60.0)
    assert judge(replace(embeddings, lengths=known)) == ()


# separation and flips


def test_sides_that_were_drawn_by_lot_do_not_separate_and_no_pair_stands_out():
    half = torch.rand(PAIRS, generator=torch.Generator().manual_seed(0)) < 0.5
    (found,) = judge(swap(embed(2.0), half))
    assert found.kind == "separation" and 0.3 < found.value < 0.65
    assert f"In only {found.value:.0%}" in found.sentence and "50%" in found.sentence


def test_few_pairs_are_not_judged_by_intervals():
    embeddings = swap(embed(2.0), torch.arange(PAIRS) % 2 == 0)
    for count, kinds in ((19, []), (20, ["separation"])):
        few = Embeddings(embeddings.toxic[:, :count], embeddings.civil[:, :count], 0, (), EQUAL[:, :count])
        assert [finding.kind for finding in judge(few, TEXTS[:count])] == kinds


def test_an_unseen_pairs_score_is_that_of_a_probe_without_it():
    embeddings, probed = embed(1.0), []
    differences = (embeddings.toxic - embeddings.civil)[:2].double()
    differences[1] *= 100
    scores = score_unseen(differences)
    # Both layers side by side, each of mean square 1.
    wide = (differences / differences.square().mean((1, 2), keepdim=True).sqrt()).movedim(0, 1).flatten(1).numpy()
    for ridge in RIDGES:
        left_out = []
        for pair in range(PAIRS):
            others = np.delete(wide, pair, axis=0)
            weights = np.linalg.solve(others.T @ others + ridge * PAIRS * np.eye(wide.shape[1]), others.sum(0))
            left_out.append(wide[pair] @ weights)
        probed.append(np.array(left_out))
    best = min(probed, key=lambda each: ((1 - each) ** 2).sum())
    np.testing.assert_allclose(scores, best, rtol=1e-6, atol=1e-9)


def test_five_swapped_pairs_among_a_hundred_are_found_and_three_of_them_named_by_their_lines():
    planted = torch.zeros(PAIRS, dtype=torch.bool)
    planted[[3, 21, 40, 77, 98]] = True
    numbers = range(10, 10 + PAIRS)
    (found,) = judge(swap(embed(2.0), planted), numbers=numbers, unit="line")
    assert (found.kind, found.value) == ("flips", 5)
    assert "5 of 100 pairs" in found.sentence and "(lines 13, 31, 50 and 2 more)" in found.sentence
    assert "swapped" in found.sentence


def test_pairs_that_lean_the_other_way_among_many_that_hardly_lean_do_not_stand_out():
    embeddings = embed(1.0, noise=0.8)
    scores = score_unseen((embeddings.toxic - embeddings.civil)[2:])
    assert 0.02 < (scores < 0).mean() < 0.3
    assert judge(embeddings) == ()


# texts


def test_repeats_sides_without_a_difference_and_prompts_on_one_side_are_counted_and_named():
    pairs = list(TEXTS)
    pairs[1] = pairs[0]
    pairs[2] = replace(pairs[0], toxic=pairs[0].toxic.upper() + "!")
    pairs[5] = Pair("", "shut up, you", "Shut up you!")
    pairs[7] = Pair("The door is open.", "The door is open. Come in, moron", "do come in")
    found = {finding.kind: finding for finding in judge(embed(2.0), pairs=pairs)}
    assert {kind: finding.value for kind, finding in found.items()} == {"identical": 1, "leak": 1, "duplicates": 2}
    assert "2 of 100 pairs repeat an earlier one (1 of them word for word) (pairs 2, 3)" in found["duplicates"].sentence
    assert "(pair 6)" in found["identical"].sentence
    assert "on the toxic side only (pair 8)" in found["leak"].sentence


# verdict


@pytest.mark.parametrize(
    ("kind", "value", "says"),
    [
        ("length", 0.7, "length"),
        ("separation", 0.5, "do not separate"),
        ("readability", 0.0, "do not read"),
        ("flips", 30, "swapped"),
        ("identical", 30, "without a difference"),
        ("leak", 30, "on one side only"),
        ("flips", 5, ""),
        ("identical", 5, ""),
        ("leak", 5, ""),
        ("duplicates", 80, ""),
        ("sinks", 9000, ""),
    ],
)
def test_what_speaks_against_pairs_is_said_in_one_verdict(kind, value, says):
    told = describe_verdict([Finding(kind, value, "A sentence.")], 100)
    assert says in told and told.startswith("These pairs do not isolate toxicity") == bool(says)


def test_sinks_are_told_in_one_sentence():
    sinks = Sinks(torch.ones(4), torch.tensor([2.0, 3.0, 210.4, 180.0]), torch.zeros(4, 8), (3, 7), (2,))
    (found,) = judge_sinks([0, 0, 40, 38], 1200, sinks)
    assert (found.kind, found.value) == ("sinks", 40)
    for words in ("up to 40 of 1,200 tokens", "210 medians", "layers 2-3", "dimensions 3, 7 are kept out"):
        assert words in found.sentence
    assert judge_sinks([0, 0, 0, 0], 1200, replace(sinks, dimensions=())) == judge_sinks([], 1200, None) == ()


# in a study


@pytest.fixture(scope="module")
def bench():
    return Workbench(open_tiny("llama"))


def write_rows(file, rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return FitPlan(pairs=PairSpec(str(file)), keep=4)


def make_rows(count: int = 40) -> list[dict[str, str]]:
    """Pairs that a tiny model of random weights tells apart: the same words on one side of them."""
    return [
        {
            "toxic": f"idiot moron crap {n} {SENTENCES[n % 10][:20]}",
            "civil": f"dear kind soul {n} {SENTENCES[n % 10][:20]}",
        }
        for n in range(count)
    ]


def test_a_study_of_pairs_that_differ_as_they_should_has_no_finding(bench, tmp_path):
    study = bench.fit(write_rows(tmp_path / "pairs.jsonl", make_rows()))
    assert study.findings == () and study.isolates_toxicity and study.verdict == ""


def test_a_study_keeps_what_was_found_out_about_its_pairs_by_the_lines_of_their_file(bench, tmp_path):
    rows = make_rows()
    rows.insert(0, {"toxic": "the same", "civil": "the same"})
    rows[9] = rows[4]
    study = bench.fit(write_rows(tmp_path / "pairs.jsonl", rows))
    (found,) = study.findings
    assert found.kind == "duplicates" and "(line 10)" in found.sentence
    study.save(tmp_path / "study")
    assert Study.load(tmp_path / "study").findings == study.findings
    record = json.loads((tmp_path / "study" / "study.json").read_text(encoding="utf-8"))
    assert record["findings"] == [{"kind": "duplicates", "value": 1, "sentence": found.sentence}]
    del record["findings"]
    (tmp_path / "study" / "study.json").write_text(json.dumps(record), encoding="utf-8")
    assert Study.load(tmp_path / "study").findings == ()


def test_a_study_of_sides_drawn_by_lot_does_not_isolate_toxicity(bench, tmp_path):
    lot = random.Random(0)
    rows = [{"toxic": row["civil"], "civil": row["toxic"]} if lot.random() < 0.5 else row for row in make_rows()]
    study = bench.fit(write_rows(tmp_path / "pairs.jsonl", rows))
    assert [finding.kind for finding in study.findings] == ["separation"]
    assert not study.isolates_toxicity and "do not separate" in study.verdict


def test_a_study_of_the_same_words_at_unequal_length_is_found_out_by_the_tokens_that_its_model_read(bench, tmp_path):
    lot, words = random.Random(0), " ".join(SENTENCES).split()
    rows = []
    for _ in range(60):
        sides = [" ".join(lot.choices(words, k=count)) for count in (lot.randint(2, 5), lot.randint(12, 20))]
        rows.append({"civil": sides[0], "toxic": sides[1]})
    study = bench.fit(write_rows(tmp_path / "longer.jsonl", rows))
    assert study.findings[0].kind == "length" and "(length" in study.verdict


def test_swapped_sides_are_named_by_their_lines(bench, tmp_path):
    rows = make_rows()
    for line in (5, 17, 30):
        rows[line - 1] = {"toxic": rows[line - 1]["civil"], "civil": rows[line - 1]["toxic"]}
    (found,) = bench.fit(write_rows(tmp_path / "pairs.jsonl", rows)).findings
    assert found.kind == "flips" and "(lines 5, 17, 30)" in found.sentence
