"""Attention sinks: found where they are planted, left out of means, moments and every direction."""

import copy
from dataclasses import replace

import pytest
import torch

from detox_engine.data.columns import Pair
from detox_engine.errors import InputError
from detox_engine.forward.embed import embed_pairs
from detox_engine.forward.embedded_pairs import TokenMoments
from detox_engine.forward.sinks import FACTOR, Sinks, search
from detox_engine.forward.sinks.search import find_sinks
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.sources import PairSpec
from detox_engine.study.study import Study
from detox_engine.workbench import Workbench
from tests.forward.test_embed import PAIRS, block_states
from tests.models import SENTENCES, open_tiny

GIANT = 7
"""The dimension that a sink is planted in."""


@pytest.fixture(scope="module")
def model():
    """A model whose first token's state is a giant in one dimension, from the first layer to the last."""
    plain = open_tiny("gpt2")
    network = copy.deepcopy(plain.network)
    with torch.no_grad():
        network.transformer.wpe.weight[0, GIANT] = 2000.0
    return replace(plain, network=network, weights_hash="sha256:sink")


@pytest.fixture(scope="module")
def sinks(model) -> Sinks:
    return find_sinks(model, SENTENCES)


def test_a_planted_sink_and_its_dimension_are_found_and_nothing_in_a_model_without(model, sinks):
    assert sinks.layers == (0, 1, 2) and sinks.dimensions == (GIANT,) and sinks.writers == (0,)
    assert (sinks.sizes > 10 * FACTOR).all()
    states = block_states(model, SENTENCES[3])
    assert not sinks.spare(1, states[1])[0] and sinks.spare(1, states[1])[1:].all()
    norms = torch.cat([block_states(model, text)[2].norm(dim=-1) for text in SENTENCES])
    assert float(sinks.medians[2]) == pytest.approx(float(norms.median()), rel=0.05)
    none = find_sinks(open_tiny("gpt2"), SENTENCES)
    assert none.layers == none.dimensions == none.writers == ()
    # Where texts have no sink, a state that is long by itself is none: some words of real text are.
    assert none.spare(1, 100 * none.medians[1] * torch.eye(32)[:2]).all()


def test_an_embedding_is_the_mean_over_the_tokens_that_are_no_sinks(model, sinks):
    found = embed_pairs(model, PAIRS, sinks=sinks)
    for index, pair in enumerate(PAIRS):
        expected = block_states(model, pair.toxic_text)[:, 1:].mean(1)
        expected[:, GIANT] = 0
        torch.testing.assert_close(found.toxic[:, index], expected, rtol=1e-4, atol=1e-4)
    assert found.sinks == (2 * len(PAIRS),) * 3
    assert (embed_pairs(model, PAIRS).toxic[..., GIANT].abs() > 10).all()
    assert found.lengths.tolist()[0] == [len(model.tokenizer(pair.toxic_text)["input_ids"]) for pair in PAIRS]


def test_too_little_memory_to_look_for_sinks_is_one_sentence(model, monkeypatch):
    def nothing_fits(*args):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 123 bytes.")

    monkeypatch.setattr(search, "run_trunk", nothing_fits)
    with pytest.raises(InputError, match="not enough memory for one text of 31 tokens: load the model in a smaller"):
        find_sinks(model, SENTENCES)


def test_a_text_that_is_nothing_but_a_sink_keeps_it(model, sinks):
    pairs = [Pair("", "I", "You"), Pair("", SENTENCES[3], SENTENCES[4])]
    found = embed_pairs(model, pairs, sinks=sinks)
    state = block_states(model, "I")[:, 0]
    state[:, GIANT] = 0
    torch.testing.assert_close(found.toxic[:, 0], state, rtol=1e-4, atol=1e-3)


def test_where_no_state_is_a_sinks_leaving_them_out_changes_nothing():
    model = open_tiny("gpt2")
    left_out, kept = embed_pairs(model, PAIRS, sinks=find_sinks(model, SENTENCES)), embed_pairs(model, PAIRS)
    assert left_out.sinks == (0, 0, 0) and kept.sinks == ()
    torch.testing.assert_close(left_out.toxic, kept.toxic, rtol=1e-5, atol=1e-6)


def test_moments_of_tokens_are_those_of_the_civil_tokens_that_are_no_sinks_and_not_held_out(model, sinks):
    moments = TokenMoments.empty(sinks.centres)
    embed_pairs(model, PAIRS, sinks=sinks, moments=moments, held_out={1})
    counted = [pair for index, pair in enumerate(PAIRS) if index != 1]
    tokens = torch.cat([block_states(model, pair.civil_text)[2, 1:] for pair in counted]).double()
    expected = torch.cov(tokens.T, correction=0)
    assert expected[GIANT].abs().max() > 0
    expected[GIANT] = expected[:, GIANT] = 0
    assert moments.count.tolist() == [len(tokens)] * 3
    torch.testing.assert_close(moments.covariance(2), expected, rtol=1e-4, atol=1e-4)
    halves = [TokenMoments.empty(sinks.centres) for _ in range(2)]
    embed_pairs(model, counted[:1], sinks=sinks, moments=halves[0])
    embed_pairs(model, counted[1:], sinks=sinks, moments=halves[1])
    torch.testing.assert_close((halves[0] + halves[1]).covariance(2), moments.covariance(2), rtol=1e-6, atol=1e-6)


def write_pairs(folder, count: int = 24) -> PairSpec:
    """Sides of unequal length: the toxic one is the shorter, as it often is the other way round."""
    words = ("tea", "rain", "book", "lamp", "road", "cup")
    lines = []
    for number in range(count):
        begin = f"The {words[number % 6]} by the {words[(number // 6) % 6]}"
        end = " and the garden behind the house we talked about" * (1 + number % 3)
        lines.append(f'{{"toxic": "{begin} is crap.", "civil": "{begin} is fine{end}."}}')
    file = folder / "pairs.jsonl"
    file.write_text("\n".join(lines), encoding="utf-8")
    return PairSpec(str(file))


def follow_length(study: Study) -> float:
    """How nearly the first direction of the last layer follows one over the number of tokens: |correlation|."""
    toxic, civil = (1 / lengths.double() for lengths in study.embeddings.lengths)
    along = (study.embeddings.toxic[2] - study.embeddings.civil[2]).double() @ study.subspaces[2].basis[0].double()
    return abs(float(torch.corrcoef(torch.stack([along, toxic - civil]))[0, 1]))


def test_a_sink_decides_no_direction_unless_it_is_kept(model, tmp_path):
    bench, pairs = Workbench(model), write_pairs(tmp_path)
    kept = bench.fit(FitPlan(pairs, sinks="keep"))
    left_out = bench.fit(FitPlan(pairs))
    # Kept, the sink's share of the mean is one in so many tokens, and what sets the sides apart most is just that.
    assert follow_length(kept) > 0.95 > 0.8 > follow_length(left_out)
    assert abs(float(kept.subspaces[2].basis[0, GIANT])) > 0.1
    assert {"leace", "gloss"} < set(left_out.offered)
    for method in left_out.offered:
        for subspace in left_out.of(method):
            for rows in (subspace.basis, subspace.reads):
                assert rows is None or rows[:, GIANT].abs().max() < 1e-6
    assert kept.sinks is None and left_out.left_out == (48, 48, 48)

    plain = Workbench(open_tiny("gpt2")).fit(FitPlan(pairs))
    assert plain.left_out == (0, 0, 0)

    left_out.save(tmp_path / "study")
    read = Study.load(tmp_path / "study")
    assert read.sinks.dimensions == (GIANT,) and read.left_out == left_out.left_out
    torch.testing.assert_close(read.sinks.medians, left_out.sinks.medians, rtol=0, atol=0)
    extended = bench.extend(read, PairSpec(str(pairs.source), limit=6))
    assert extended.left_out == (60, 60, 60)
    assert all(extended.of("fisher")[layer].basis[:, GIANT].abs().max() < 1e-6 for layer in range(3))
