"""Rows of one pass carry any change: an adapter, barred tokens, an instruction, and each as it would be alone."""

import copy

import pytest
import torch

from detox_engine.edit.change import Adapter, Instruction, Penalty
from detox_engine.edit.low_rank import LowRankEdit
from detox_engine.forward.compare import generate
from detox_engine.forward.likelihood import Span, read_likelihoods
from detox_engine.model.load import OpenModel
from detox_engine.plans.sampling import SamplingPlan
from tests.models import HIDDEN, SENTENCES, open_tiny

PLAN = SamplingPlan(max_new_tokens=6, greedy=True)
FAMILIES = ("gpt2", "llama", "gemma3")


def make_adapter(model: OpenModel, size: float = 0.3) -> Adapter:
    generator = torch.Generator().manual_seed(3)
    written = [model.anatomy.written_at(layer, "both") for layer in (0, 1)]
    factors = {}
    for layer, projections in enumerate(written):
        block = next(name for name, module in model.network.named_modules() if module is model.anatomy.blocks[layer])
        for projection in projections:
            inner, hidden = projection.rows.shape
            down = size * torch.randn(2, inner, generator=generator) / inner**0.5
            up = size * torch.randn(hidden, 2, generator=generator)
            factors.setdefault(layer, {})[projection.name.removeprefix(f"{block}.")] = (down, up)
    return Adapter(factors)


def changes(model: OpenModel) -> list:
    generator = torch.Generator().manual_seed(4)
    basis = torch.linalg.qr(torch.randn(HIDDEN, 2, generator=generator)).Q.T
    return [
        None,
        make_adapter(model),
        Penalty((5, 6, 7, 8), 0.4),
        Instruction((9, 10, 11)),
        LowRankEdit({1: basis}),
        make_adapter(model).at_strength(0.5),
    ]


def spans(model: OpenModel) -> list[Span]:
    return [Span(tuple(model.tokenizer(text)["input_ids"]), 4) for text in SENTENCES[:4]]


@pytest.mark.parametrize("family", FAMILIES)
def test_what_rows_of_one_pass_carry_they_carry_alone(family):
    model = open_tiny(family)
    carried = changes(model)
    together = generate(model, SENTENCES[:3], carried, PLAN)
    for place, change in enumerate(carried):
        alone = generate(model, SENTENCES[:3], [change], PLAN)
        assert [row[0][0].ids for row in alone] == [row[0][place].ids for row in together]
    read = read_likelihoods(model, spans(model), carried)
    assert (read.divergence[1:].sum(1) > 1e-3).all(), "each of them changes something"
    for place, change in enumerate(carried):
        alone = read_likelihoods(model, spans(model), [None, change])
        assert read.surprise[place] == pytest.approx(alone.surprise[1], rel=1e-4, abs=1e-4)
        assert read.divergence[place] == pytest.approx(alone.divergence[1], rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_in_the_pass_equals_the_same_in_the_weights(family):
    model = open_tiny(family)
    adapter = make_adapter(model).at_strength(0.7)
    read = read_likelihoods(model, spans(model), [None, adapter]).surprise
    twin = copy.deepcopy(model.network)
    for layer, modules in adapter.factors.items():
        block = next(name for name, each in model.network.named_modules() if each is model.anatomy.blocks[layer])
        for name, (down, up) in modules.items():
            weight = twin.get_submodule(f"{block}.{name}").weight
            change = 0.7 * up @ down
            weight.data += change if weight.shape == change.shape and family != "gpt2" else change.T
    merged = OpenModel(model.spec, twin, model.tokenizer, None, "sha256:merged", model.context)
    assert read[1] == pytest.approx(read_likelihoods(merged, spans(model), [None]).surprise[0], rel=1e-4)
    assert read[1] != pytest.approx(read[0], rel=1e-3)


def test_barred_tokens_are_never_written():
    model = open_tiny("llama")
    plan = SamplingPlan(max_new_tokens=12, samples=3)
    free = generate(model, SENTENCES[:6], [None], plan)
    written = {token for row in free for sample in row for token in sample[0].ids}
    barred = tuple(sorted(written)[: len(written) // 2])
    held = generate(model, SENTENCES[:6], [Penalty(barred, 10.0)], plan)
    assert not {token for row in held for sample in row for token in sample[0].ids} & set(barred)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_instruction_is_read_as_what_stands_before_the_text(family):
    model = open_tiny(family)
    before = Instruction((9, 10, 11))
    (own,) = read_likelihoods(model, spans(model)[:1], [before]).surprise[0]
    text = spans(model)[0]
    inside = text.ids[1:] if text.ids[0] == model.tokenizer.bos_token_id else text.ids
    (plain,) = read_likelihoods(model, [Span((*before.prefix, *inside), text.scored)], [None]).surprise[0]
    assert own == pytest.approx(plain, rel=1e-5)
    written = generate(model, SENTENCES[:1], [before], PLAN)[0][0][0].ids
    ids = torch.tensor([[*before.prefix, *inside]])
    for token in written:
        assert int(model.network(ids).logits[0, -1].argmax()) == token
        ids = torch.cat([ids, torch.tensor([[token]])], 1)
