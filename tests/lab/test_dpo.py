"""DPO is real training, leaves the model as it was, and its first gradient is the closed form at the reference."""

import random
from dataclasses import replace
from threading import Thread

import numpy
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn import functional

from detox_engine.data.columns import Pair
from detox_engine.edit.change import Adapter
from detox_engine.edit.proof import hash_parameters
from detox_engine.errors import Cancelled, InputError
from detox_engine.forward.likelihood import cut_continuations, read_likelihoods
from detox_engine.lab import dpo, dpo_link
from detox_engine.lab.dpo import make_twin, record_training, train_dpo, train_or_load
from detox_engine.lab.dpo_link import (
    draw_bases,
    first_gradient,
    list_changes,
    measure_link,
    record_link,
    share_inside,
    sum_log_probabilities,
    value_matrix,
)
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.lab.experiments import LinkPlan
from detox_engine.plans.lab.training import TrainingPlan
from detox_engine.workbench import Workbench
from tests.models import HIDDEN, open_tiny
from tests.planted import LAYER, give_directions, open_planted, planted_direction, planted_pairs, write_pairs

BRIEF = TrainingPlan(learning_rates=(3e-3, 1e-6), steps=12, batch=8, lora_rank=4)


@pytest.fixture(scope="module")
def model():
    return open_planted()


@pytest.fixture(scope="module")
def trained(model):
    return train_dpo(model, planted_pairs(60), BRIEF)


def gap(model, change, pairs):
    """Mean log probability of civil sides less that of toxic ones."""
    sides = cut_continuations(model, pairs, 128)
    read = read_likelihoods(model, [span for both in sides for span in both], [None, change])
    surprise = read.surprise[1 if change is not None else 0].reshape(-1, 2)
    return float((surprise[:, 0] - surprise[:, 1]).mean())


def test_training_prefers_civil_text_on_pairs_it_has_not_seen(model, trained):
    unseen = planted_pairs(100)[60:]
    assert gap(model, trained.adapter, unseen) > gap(model, None, unseen) + 0.3
    best = trained.best
    assert best.learning_rate == 3e-3 and best.best.margin > 0.03 and best.best.accuracy > 0.8
    assert best.best.loss < 0.69 < trained.runs[1].best.loss + 0.01, "the tiny learning rate learns nothing"
    assert (trained.pairs, trained.held_out) == (48, 12)
    assert trained.seconds > 0 and [step.step for step in best.held_out] == sorted({s.step for s in best.held_out})


def test_training_leaves_the_model_and_all_luck_as_they_were(model):
    before, states = (
        hash_parameters(model.network),
        (torch.get_rng_state(), random.getstate(), numpy.random.get_state()),
    )
    modules = [type(module) for module in model.network.modules()]
    train_dpo(model, planted_pairs(12), replace(BRIEF, steps=2, learning_rates=(1e-2,)))
    assert hash_parameters(model.network) == before and [type(each) for each in model.network.modules()] == modules
    assert not any(weight.requires_grad for weight in model.network.parameters()) and not model.network.training
    assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[1]
    assert (numpy.random.get_state()[1] == states[2][1]).all()


def test_what_was_trained_is_kept_and_found_again(model, tmp_path, monkeypatch):
    plan = replace(BRIEF, steps=2, learning_rates=(1e-2,))
    first = train_or_load(model, planted_pairs(12), plan, folder=tmp_path)
    (file,) = tmp_path.iterdir()
    monkeypatch.setattr(dpo, "train_dpo", lambda *given, **named: pytest.fail("it was trained again"))
    again = train_or_load(model, planted_pairs(12), plan, folder=tmp_path)
    assert record_training(again) == record_training(first)
    for layer, modules in first.adapter.factors.items():
        for name, factors in modules.items():
            assert all(map(torch.equal, factors, again.adapter.factors[layer][name]))
    monkeypatch.undo()
    file.write_bytes(file.read_bytes()[:100])
    assert record_training(train_or_load(model, planted_pairs(12), plan, folder=tmp_path))["runs"]
    train_or_load(model, planted_pairs(13), plan, folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_what_was_kept_of_another_shape_is_trained_anew(model, tmp_path):
    plan = replace(BRIEF, steps=2, learning_rates=(1e-2,))
    first = train_or_load(model, planted_pairs(12), plan, folder=tmp_path)
    (file,) = tmp_path.iterdir()
    with safe_open(file, framework="pt") as opened:
        told, tensors = opened.metadata(), {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    name = next(name for name in tensors if name.endswith(":B"))
    for wrong in (tensors | {name: tensors[name][:3].contiguous()}, {key: tensors[key] for key in list(tensors)[2:]}):
        save_file(wrong, file, told)
        again = train_or_load(model, planted_pairs(12), plan, folder=tmp_path)
        assert again.seconds != first.seconds and again.adapter.factors.keys() == first.adapter.factors.keys()


def test_a_twin_shares_the_memory_of_weights_and_no_gradients(model):
    weight, twin = model.network.lm_head.weight, make_twin(model).lm_head.weight
    assert twin.data_ptr() == weight.data_ptr() and twin is not weight
    twin.requires_grad_(True)
    assert not weight.requires_grad


def test_a_twin_is_made_while_no_pass_carries_hooks(model):
    made = []
    with model.turns:
        thread = Thread(target=lambda: made.append(make_twin(model)))
        thread.start()
        thread.join(0.3)
        assert not made, "it waits for its turn"
    thread.join(20)
    assert len(made) == 1


def test_training_can_be_stopped(model):
    def stop(stage, done, total):
        if done >= 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        train_dpo(model, planted_pairs(12), BRIEF, progress=stop)
    assert not any(weight.requires_grad for weight in model.network.parameters())


def test_what_cannot_be_trained_says_why(model, monkeypatch):
    with pytest.raises(InputError, match="4 pairs or more.*not 3"):
        train_dpo(model, planted_pairs(3), BRIEF)
    monkeypatch.setattr(dpo, "find_spec", lambda name: None if name == "trl" else object())
    with pytest.raises(InputError, match=r"not installed.*pip install 'detox-explorer\[dpo\]'"):
        train_dpo(model, planted_pairs(12), BRIEF)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3"])
def test_the_first_gradient_of_dpo_is_the_closed_form(family):
    model, beta = open_tiny(family), 0.3
    pairs = [
        Pair("The garden", " was green and wide", " is a train"),
        Pair("A letter", " came late", " of the sea says"),
    ]
    found = first_gradient(model, pairs, beta)
    projections = [value_matrix(model, layer) for layer in range(model.anatomy.layers)]
    weights = [projection.module.weight for projection in projections]
    for weight in weights:
        weight.requires_grad_(True)
    try:
        losses = []
        for toxic, civil in cut_continuations(model, pairs, 128):
            ratios = []
            for span in (civil, toxic):
                policy = sum_log_probabilities(model, [span])
                ratios.append(policy - policy.detach())
            losses.append(-functional.logsigmoid(beta * (ratios[0] - ratios[1])))
        slopes = torch.autograd.grad(torch.stack(losses).mean(), weights)
    finally:
        for weight in weights:
            weight.requires_grad_(False)
    for own, slope, projection in zip(found, slopes, projections, strict=True):
        asked = slope.T if projection.transposed else slope
        assert own.shape == projection.rows.shape and asked.norm() > 1e-6
        torch.testing.assert_close(own, asked, rtol=1e-4, atol=1e-5 * float(asked.norm()))


def test_random_subspaces_hold_what_their_rank_says_and_a_whole_space_everything():
    generator = torch.Generator().manual_seed(1)
    matrix = torch.randn(50, 64, generator=generator, dtype=torch.float64)
    gram = matrix.T @ matrix
    shares = [share_inside(gram, basis) ** 2 for basis in draw_bases(64, 4, 300, (0,))]
    assert numpy.mean(shares) == pytest.approx(4 / 64, rel=0.05)
    assert share_inside(gram, torch.eye(64, dtype=torch.float64)) == pytest.approx(1)
    along = torch.outer(torch.randn(50, generator=generator), torch.eye(64)[3]).double()
    assert share_inside(along.T @ along, torch.eye(64, dtype=torch.float64)[3:4]) == pytest.approx(1)
    assert share_inside(along.T @ along, torch.eye(64, dtype=torch.float64)[4:5]) == pytest.approx(0)


@pytest.fixture(scope="module")
def study(model, tmp_path_factory):
    spec = write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.jsonl", planted_pairs(60))
    return Workbench(model).fit(FitPlan(spec, keep=2))


def test_the_planted_direction_holds_more_of_dpos_step_than_random_ones(model, study):
    plan = LinkPlan(rank=1, few=(), random=50, at_steps=(0,))
    planted = give_directions(study, {"mean-difference": planted_direction().expand(study.layers, HIDDEN)})
    share = measure_link(model, planted, plan).first_step[LAYER]
    assert share.mean_difference > share.random_high > share.random_first
    other = functional.normalize(torch.randn(HIDDEN, generator=torch.Generator().manual_seed(5)), dim=0)
    assert abs(float(other @ planted_direction())) < 0.3
    elsewhere = give_directions(study, {"mean-difference": other.expand(study.layers, HIDDEN)})
    assert measure_link(model, elsewhere, plan).first_step[LAYER].mean_difference < share.random_high


def test_a_link_follows_training_and_draws_of_few_pairs_and_trains_only_where_asked(model, study, monkeypatch):
    plan = LinkPlan(rank=1, few=(5, 10_000), draws=2, random=50, at_steps=(2, 4), learning_rate=3e-3)
    link = measure_link(model, study, plan)
    assert sorted(link.along_training) == [2, 4] and len(link.along_training[2]) == study.layers
    assert [(each.pairs, each.draw) for each in link.denoised] == [(5, 0), (5, 1)]
    assert all(-1 <= value <= 1 for each in link.denoised for value in (each.plain, each.filtered, each.filtered_both))
    told = record_link(link, model, study, plan)
    assert told["rank"] == 1 and [layer["layer"] for layer in told["layers"]] == list(range(study.layers))
    assert {layer["inside"] == layer["first"] for layer in told["layers"]} == {True}, "one direction is the first"
    monkeypatch.setattr(dpo_link, "train_dpo", lambda *given, **named: pytest.fail("nothing was to be trained"))
    assert measure_link(model, study, replace(plan, at_steps=(0,), few=())).along_training == {}
    with pytest.raises(InputError, match="kept no embeddings"):
        measure_link(model, replace(study, embeddings=None), plan)


def test_the_step_of_more_pairs_is_nearer_to_that_of_all_others(model, study):
    link = measure_link(model, study, LinkPlan(rank=1, few=(2, 30), draws=3, random=20, at_steps=(0,)))
    means = {n: numpy.mean([each.plain for each in link.denoised if each.pairs == n]) for n in (2, 30)}
    assert means[30] > means[2] + 0.1


def test_what_training_changed_is_what_its_adapter_adds(model, trained):
    changes = list_changes(model, trained.adapter)
    for layer in changes:
        projection = value_matrix(model, layer)
        states = torch.randn(3, projection.rows.shape[0], generator=torch.Generator().manual_seed(2))
        inner = projection.name.split(f"layers.{layer}.")[1]
        down, up = trained.adapter.factors[layer][inner]
        torch.testing.assert_close(states @ changes[layer], states @ down.T @ up.T)
    assert isinstance(trained.adapter, Adapter) and changes[0].shape[1] == HIDDEN
