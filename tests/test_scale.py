"""The formulas of docs/scale.md hold on what fits here, and the page is what they write."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from detox_engine.model.trunk import run_trunk
from detox_engine.study.shards import Sums, Work
from tests.models import HIDDEN, LAYERS, open_tiny
from tools.write_scale import (
    FILE,
    count_pair_sums,
    count_sample,
    count_token_sums,
    count_work,
    write_scale,
)


def test_the_page_is_what_the_script_writes():
    assert FILE.read_text(encoding="utf-8") == write_scale(), "run: python -m tools.write_scale"


def test_bytes_of_sums_and_sample_are_those_of_the_formulas():
    sums = Sums(LAYERS, HIDDEN, Work(64, "mean", None, 50, sums_tokens=True))
    for layer in range(LAYERS):
        sums.moments[layer].add(*torch.randn(2, 40, HIDDEN))
    taken = [sums.take(layer, range(50)) for layer in range(LAYERS)]
    sample = sum(part[side].nbytes for part in taken for side in ("toxic", "civil_rows"))
    pairs, tokens = LAYERS * count_pair_sums(HIDDEN), LAYERS * count_token_sums(HIDDEN)
    assert sample == count_sample(LAYERS, HIDDEN, 50) == sums.sides.nbytes
    assert sum(part[name].nbytes for part in taken for name in part if name != "places") == pairs + tokens + sample


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_pass_takes_two_operations_a_parameter_of_the_trunk_and_token(family):
    model, tokens = open_tiny(family), 16
    trunk = sum(weight.numel() for block in model.anatomy.blocks for weight in block.parameters() if weight.dim() == 2)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        run_trunk(model, [tuple(range(tokens))] * 2)
    assert counter.get_total_flops() == pytest.approx(count_work(trunk, 2 * tokens), rel=0.1)
