"""A plan refuses what nobody would wait for, and what would take all memory, in one sentence."""

import pytest

from detox_engine.errors import InputError
from detox_engine.plans.evaluation import EvaluationPlan
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.plans.sources import ModelSpec, PairSpec, is_path, name_model, name_pairs

HUGE = 10**9


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: SamplingPlan(max_new_tokens=HUGE), "up to 1,024 tokens"),
        (lambda: SamplingPlan(samples=HUGE), "up to 100 samples"),
        (lambda: EvaluationPlan(controls=HUGE), "Draw 100 random subspaces"),
        (lambda: EvaluationPlan(resamples=HUGE), "100,000 resamples"),
    ],
)
def test_more_than_a_plan_takes_is_one_sentence(make, says):
    with pytest.raises(InputError, match=says):
        make()


@pytest.mark.parametrize("name", ["/a/b", "~x", "./a", "../a", "a/b/c", "x.csv", "a/x.gguf", "C:\\x", "a\0b"])
def test_a_place_is_told_by_its_looks(name):
    assert is_path(name)
    if "\0" not in name and "\\" not in name:
        assert name_model(ModelSpec(name)) == name_pairs(PairSpec(name), name) == name.rpartition("/")[2]


@pytest.mark.parametrize("name", ["gpt2", "openai-community/gpt2-medium", "Qwen/Qwen2.5-0.5B", "a/b_c-1.0"])
def test_an_id_of_the_hub_is_no_place(name):
    assert not is_path(name) and name_model(ModelSpec(name)) == name
