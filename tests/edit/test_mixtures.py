"""Mixtures of experts: what is found in them, and that an edit is the same on their sum and on every expert."""

import json
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from detox_engine.edit.in_pass import edited
from detox_engine.edit.in_weights import apply_to_weights, edited_weights, measure_edit
from detox_engine.edit.low_rank import LowRankEdit
from detox_engine.errors import InputError
from detox_engine.export.adapter import write_adapter
from detox_engine.export.checkpoint import Base, open_base, write_model
from detox_engine.model.anatomy import find_anatomy
from detox_engine.model.load import load_model
from detox_engine.plans.sources import ModelSpec
from detox_engine.reading.neurons import find_value_vectors
from tests.models import (
    CHOSEN,
    EXPERT_INNER,
    EXPERTS,
    HIDDEN,
    INNER,
    LAYERS,
    MIXTURES,
    SENTENCES,
    fresh_model,
    open_tiny,
    save_tiny_model,
    tiny_model,
    tiny_tokenizer,
)

WHOLE = {"mixtral": "mlp.experts", "qwen2_moe": "mlp", "olmoe": "mlp.experts", "gpt_oss": "mlp.experts"}
"""What gives the sum of the experts; Qwen's shared expert is added outside of the others'."""


@pytest.fixture(params=MIXTURES)
def family(request):
    return request.param


def directions(seed=0, rank=2):
    drawn = torch.randn(HIDDEN, rank, generator=torch.Generator().manual_seed(seed))
    return torch.linalg.qr(drawn).Q.T.contiguous()


def edit_of(strength=1.0, **options):
    return LowRankEdit({1: directions(1), 2: directions(2)}, strength, **options)


def read(model):
    return model(**tiny_tokenizer()(SENTENCES[0], return_tensors="pt")).logits


def written_along(model, written, basis):
    """The largest share of a token's output that lies along `basis`."""
    seen = []
    handle = written.module.register_forward_hook(lambda _module, _given, out: seen.append(out.reshape(-1, HIDDEN)))
    read(model)
    handle.remove()
    return float((seen[0] @ basis.T).norm(dim=1).max() / seen[0].norm(dim=1).max())


def test_the_sum_of_the_experts_and_what_each_writes_with_are_found(family):
    anatomy = find_anatomy(tiny_model(family)[0])
    for layer, value in enumerate(anatomy.values):
        dense = family == "qwen2_moe" and layer == 0
        assert value.is_mixture is not dense and value.hidden == HIDDEN
        if dense:
            assert value.rows.shape == (INNER, HIDDEN)
            continue
        assert value.name == f"model.layers.{layer}.{WHOLE[family]}"
        own, *shared = value.tensors
        assert own.name.endswith("experts") and own.part == "down_proj" and own.transposed is (family != "gpt_oss")
        assert own.bias == ("down_proj_bias" if family == "gpt_oss" else None)
        assert [each.name.rsplit(".", 2)[1] for each in shared] == ["shared_expert"] * (family == "qwen2_moe")
        shapes = [tuple(matrix.shape) for matrix in value.matrices()]
        assert shapes == [(EXPERT_INNER, HIDDEN)] * EXPERTS + [(40, HIDDEN)] * len(shared)
        assert value.list_names() == ("0", "1", "2", "3", "shared")[: len(shapes)]
        with pytest.raises(InputError, match="mixture of experts and writes through"):
            _ = value.rows
    assert [each.name.rsplit(".", 1)[1] for each in anatomy.attention_outputs] == ["o_proj"] * LAYERS


@pytest.mark.parametrize("wide", [HIDDEN, 2 * HIDDEN])
def test_square_experts_are_told_apart_by_what_becomes_of_the_sum(family, wide):
    widths = dict.fromkeys(("intermediate_size", "moe_intermediate_size"), wide)
    anatomy = find_anatomy(fresh_model(family, **{name: wide for name in widths if name in MIXTURES[family][1]}))
    own = anatomy.values[1].tensors[0]
    assert own.part == "down_proj" and own.transposed is (family != "gpt_oss")


@pytest.mark.parametrize("options", [{}, {"edit_bias": True}, {"sites": "both"}], ids=str)
@torch.no_grad()
def test_both_faces_agree_and_are_undone(family, options):
    model = fresh_model(family)
    anatomy, edit, before = find_anatomy(model), edit_of(0.7, **options), read(model)
    with edited(anatomy, [edit]):
        in_pass = read(model)
    kept = {name: weight.clone() for name, weight in model.named_parameters()}
    with edited_weights(anatomy, edit):
        in_weights = read(model)
        changed = {name for name, weight in model.named_parameters() if not torch.equal(weight, kept[name])}
    assert (in_pass - before).abs().max() > 0.01
    torch.testing.assert_close(in_pass, in_weights, atol=2e-5, rtol=1e-4)
    assert not any("gate" in name.rsplit(".", 1)[0] or "router" in name or "gate_up" in name for name in changed)
    assert all(torch.equal(weight, kept[name]) for name, weight in model.named_parameters())


@torch.no_grad()
def test_after_a_whole_edit_the_experts_write_nothing_along_the_directions(family):
    model = fresh_model(family)
    anatomy = find_anatomy(model)
    written, edit = anatomy.values[2], edit_of(edit_bias=True)
    assert written_along(model, written, directions(2)) > 0.1
    [_, change] = measure_edit(anatomy, edit)
    assert change.along_before > 0.1 and change.along_after < 1e-6
    apply_to_weights(anatomy, edit)
    assert written_along(model, written, directions(2)) < 1e-6
    assert all((rows @ directions(2).T).norm() < 1e-5 * rows.norm() for rows in written.matrices())


@torch.no_grad()
def test_rows_with_edits_of_their_own_share_a_pass(family):
    model, tokenizer = tiny_model(family)
    anatomy = find_anatomy(model)
    rows = [None, edit_of(1.0), edit_of(0.5, edit_bias=True)]
    ids = tokenizer(SENTENCES[0], return_tensors="pt")["input_ids"]
    with edited(anatomy, rows):
        together = model(input_ids=ids.repeat(3, 1)).logits
    for row, edit in enumerate(rows):
        with edited(anatomy, [edit]):
            torch.testing.assert_close(together[row], model(input_ids=ids).logits[0], atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_an_edited_checkpoint_is_loaded_as_what_was_written(family, tmp_path):
    save_tiny_model(family, tmp_path / "base")
    model = load_model(ModelSpec(str(tmp_path / "base"), device="cpu"))
    (tmp_path / "edited").mkdir()
    edit = edit_of(edit_bias=family == "gpt_oss")
    base = open_base(model, tmp_path / "base")
    assert isinstance(base, Base)
    write_model(model, edit, base, tmp_path / "edited")
    written = load_model(ModelSpec(str(tmp_path / "edited"), device="cpu"))
    with edited(model.anatomy, [edit]):
        expected = read(model.network)
    assert (expected - read(model.network)).abs().max() > 0.01
    torch.testing.assert_close(read(written.network), expected, atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_peft_puts_the_adapter_on_every_expert(family, tmp_path):
    pytest.importorskip("peft")
    save_tiny_model(family, tmp_path / "base")
    model = load_model(ModelSpec(str(tmp_path / "base"), device="cpu"))
    edit = LowRankEdit({1: directions(1), 2: directions(2, rank=3)}, 0.7)
    (tmp_path / "adapter").mkdir()
    write_adapter(model.anatomy, edit, str(tmp_path / "base"), None, tmp_path / "adapter")
    assert ("target_parameters" in json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())) is True
    adapted = load_model(ModelSpec(str(tmp_path / "adapter"), device="cpu"))
    with edited(model.anatomy, [edit]):
        expected = read(model.network)
    assert (expected - read(model.network)).abs().max() > 0.01
    torch.testing.assert_close(read(adapted.network), expected, atol=5e-5, rtol=1e-4)


def test_neurons_are_listed_with_their_expert(family):
    model = open_tiny(family)
    value = model.anatomy.values[2]
    *_, last = value.matrices()
    [found] = find_value_vectors(model, 2, last[5], top=1, tokens=2).toward
    assert (found.neuron, found.expert, found.cosine) == (5, value.list_names()[-1], pytest.approx(1, abs=1e-5))
    assert found.label == f"{value.list_names()[-1]}:5"


def test_experts_in_a_list_are_found_whatever_they_are_called():
    model = fresh_model("gpt2")
    mixture = ListedExperts()
    model.transformer.h[1].mlp = mixture
    anatomy = find_anatomy(model)
    value = anatomy.values[1]
    assert value.module is mixture and [each.module for each in value.tensors] == [part.out for part in mixture.parts]
    edit = replace(edit_of(), bases={1: directions(1)})
    with torch.no_grad(), edited(anatomy, [edit]):
        in_pass = read(model)
    with torch.no_grad(), edited_weights(anatomy, edit):
        torch.testing.assert_close(in_pass, read(model), atol=2e-5, rtol=1e-4)


def test_biases_that_nobody_knows_how_to_weigh_are_refused():
    model = fresh_model("gpt2")
    model.transformer.h[1].mlp = ListedExperts(bias=True)
    with pytest.raises(InputError, match="whose biases, .* are weighted in a way that is not known here"):
        find_anatomy(model)


def test_experts_whose_sum_is_no_sum_are_refused():
    model = fresh_model("mixtral")
    experts = model.model.layers[0].mlp.experts
    summed = experts.forward
    experts.forward = lambda *given, **named: functional.silu(summed(*given, **named))
    with pytest.raises(InputError, match=r"layers.0 .* is a mixture of experts .* found 0 among 2"):
        find_anatomy(model)


class Expert(torch.nn.Module):
    def __init__(self, bias):
        super().__init__()
        self.into, self.out = torch.nn.Linear(HIDDEN, HIDDEN), torch.nn.Linear(HIDDEN, HIDDEN, bias=bias)

    def forward(self, states):
        return self.out(functional.gelu(self.into(states)))


class ListedExperts(torch.nn.Module):
    """As in Mixtral before transformers 5: a list of experts of which each token is sent to some."""

    def __init__(self, bias=False):
        super().__init__()
        torch.manual_seed(0)
        self.send = torch.nn.Linear(HIDDEN, EXPERTS)
        self.parts = torch.nn.ModuleList(Expert(bias) for _ in range(EXPERTS))
        self.requires_grad_(False)

    def forward(self, states):
        flat = states.reshape(-1, HIDDEN)
        weights, chosen = self.send(flat).softmax(-1).topk(CHOSEN)
        summed = torch.zeros_like(flat)
        for number, part in enumerate(self.parts):
            tokens, place = torch.where(chosen == number)
            summed.index_add_(0, tokens, part(flat[tokens]) * weights[tokens, place, None])
        return summed.view(states.shape)
