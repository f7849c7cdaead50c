"""The whole journey on one model, and two journeys at once."""

import threading
from dataclasses import replace

import pytest
import torch

from detox_engine.data.bundled import DEMO, EVERYDAY, bundled_pairs
from detox_engine.errors import InputError
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.plans.sources import PairSpec
from detox_engine.workbench import Workbench
from tests.models import SENTENCES, open_tiny

PLAN = FitPlan(pairs=PairSpec(limit=40), keep=6)
PROMPTS = [sentence[:30] for sentence in SENTENCES]


@pytest.fixture(scope="module")
def bench():
    return Workbench(open_tiny("llama"))


@pytest.fixture(scope="module")
def study(bench):
    return bench.fit(PLAN)


def test_bundled_pairs_are_the_demo_models_own_or_the_everyday_ones(study):
    assert bundled_pairs("bundled") == DEMO / "pairs.jsonl"
    assert bundled_pairs("someone/else") == EVERYDAY / "pairs.jsonl"
    assert len(study.pairs) == 40 and all(pair.prompt for pair in study.pairs)


def test_a_fit_covers_every_layer_and_suggests_an_edit_that_can_be_made(bench, study):
    assert study.layers == bench.model.anatomy.layers == 3
    assert study.embeddings.toxic.shape == (3, 40, 32)
    edit = bench.edit(study, EditPlan(study.suggested_layers, study.suggested_rank))
    assert edit.layers == study.suggested_layers
    assert set(study.seconds) == {"load", "embed", "subspace"}


def test_directions_are_read_layer_by_layer_with_their_numbers(bench, study):
    readings = bench.read(study, [2, 0], rank=2, top=5)
    assert [(entry.layer, entry.direction) for entry in readings] == [(0, 0), (0, 1), (2, 0), (2, 1)]
    for entry in readings:
        subspace = study.subspaces[entry.layer]
        assert entry.singular_value == pytest.approx(subspace.singular_values[entry.direction].item())
        assert entry.share == pytest.approx(subspace.shares[entry.direction].item())
        assert len(entry.reading.toxic_pole) == len(entry.reading.civil_pole) == 5


def test_a_causal_reading_of_several_layers_counts_on_from_layer_to_layer(bench, study):
    told = []
    readings = bench.read(study, [0, 2], 2, 5, "causal", progress=lambda *step: told.append(step))
    assert [(entry.layer, entry.reading.prompts) for entry in readings] == [(0, 32), (0, 32), (2, 32), (2, 32)]
    steps = [(done, total) for stage, done, total in told if stage == "Removing directions"]
    # Two layers of two directions, each with its control, after 32 prompts.
    assert steps == sorted(steps) and steps[-1] == (256, 256) and {total for _, total in steps} == {256}


def test_a_comparison_scores_each_continuation_alone(bench, study):
    comparisons = bench.compare(study, EditPlan((0, 1, 2), 4), PROMPTS, SamplingPlan(samples=2, max_new_tokens=12))
    assert len(comparisons) == 20
    assert any(comparison.before.text != comparison.after.text for comparison in comparisons)
    from profanity_check import predict_prob

    for comparison in comparisons:
        assert comparison.toxicity_before == pytest.approx(predict_prob([comparison.before.text])[0])
        assert comparison.toxicity_after == pytest.approx(predict_prob([comparison.after.text])[0])


def test_a_comparison_is_scored_by_whichever_scorer_is_given(bench, study):
    class Length:
        name, sentence = "length", "How long a text is."

        def score(self, texts):
            return [len(text) / 1000 for text in texts]

    for one in bench.compare(study, EditPlan((0, 1), 4), PROMPTS, scorer=Length()):
        assert (one.toxicity_before, one.toxicity_after) == (len(one.before.text) / 1000, len(one.after.text) / 1000)


def test_another_models_study_is_refused_everywhere(bench, study):
    other = replace(study, model=replace(study.model, weights_hash="sha256:other"))
    plan = EditPlan((0,), 1)
    for call in (
        lambda: bench.read(other, [0], 1),
        lambda: bench.edit(other, plan),
        lambda: bench.compare(other, plan, PROMPTS),
    ):
        with pytest.raises(InputError, match="other weights"):
            call()


def test_rank_and_layers_outside_name_the_allowed_range(bench, study):
    with pytest.raises(InputError, match="its layers are 0-2"):
        bench.edit(study, EditPlan((3,), 1))
    with pytest.raises(InputError, match="choose a rank of 1 to 6"):
        bench.edit(study, EditPlan((0,), 7))
    with pytest.raises(InputError, match="rank must be 1 or more"):
        EditPlan((0,), 0)
    with pytest.raises(InputError, match="finite number"):
        EditPlan((0,), 1, float("nan"))


def test_threads_with_different_edits_and_a_fit_between_them_never_disturb_one_another(bench, study):
    plans = [EditPlan((0, 1, 2), 1), EditPlan((1, 2), 3, 2.0), EditPlan((2,), 6, 0.5), EditPlan((0,), 4)]
    sampling = SamplingPlan(max_new_tokens=8)

    def texts(plan):
        return [(c.before.ids, c.after.ids) for c in bench.compare(study, plan, PROMPTS, sampling)]

    alone = [texts(plan) for plan in plans]
    assert len({str(result) for result in alone}) == len(plans)
    weights = {name: value.clone() for name, value in bench.model.network.state_dict().items()}
    found, fits, failures = [[] for _ in plans], [], []

    def work(index):
        try:
            for _ in range(3):
                found[index].append(texts(plans[index]))
        except Exception as error:
            failures.append(error)

    def fit():
        try:
            fits.append(bench.fit(PLAN))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(plans))]
    threads += [threading.Thread(target=fit) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert found == [[result] * 3 for result in alone]
    for again in fits:
        torch.testing.assert_close(again.embeddings.toxic, study.embeddings.toxic, rtol=1e-5, atol=1e-6)
    for name, value in bench.model.network.state_dict().items():
        assert torch.equal(value, weights[name]), name
