"""Rows of several edits share their text's states below the first layer that each changes, with the same result."""

from collections.abc import Sequence

import pytest
import torch

from detox_engine.edit.in_pass import edited
from detox_engine.forward.shared_layers import forked, run_prompts
from detox_engine.model.batches import pad_left, run_model
from tests.edit.test_edit import count_hooks, draw_edit
from tests.models import FAMILIES, LAYERS, MIXTURES, open_tiny

TEXTS = ([5, 9, 33, 71, 12], [40, 8], [7, 19, 23])
CPU = torch.device("cpu")


@pytest.mark.parametrize("texts", [TEXTS, TEXTS[:1]], ids=["three prompts", "one prompt"])
@pytest.mark.parametrize("family", [*FAMILIES, *MIXTURES])
@torch.inference_mode()
def test_shared_prompts_give_what_separate_ones_give(family: str, texts: Sequence[list[int]]) -> None:
    model = open_tiny(family)
    # In no order of first layers, at every site, two of one first layer, one of strength 0, and one prompt without its
    # unedited row.
    edits = [
        draw_edit((2,), seed=4, strength=2.0),
        None,
        draw_edit((0, 2), seed=1, strength=2.0),
        draw_edit((1,), strength=2.0),
        draw_edit((1, 2), seed=2, strength=2.0),
        draw_edit((1,), seed=3, strength=0.0),
        draw_edit((1,), seed=5, strength=2.0, sites="attention"),
        draw_edit((0, 1), seed=6, strength=2.0, sites="both"),
    ]
    cells = [(prompt, edit) for prompt in range(len(texts)) for edit in edits][:-1]
    cells.remove((0, None))
    ids, mask = pad_left(texts, 0, CPU)
    hooks = count_hooks(model.network)
    shared, past = run_prompts(model, ids, mask, cells)
    assert count_hooks(model.network) == hooks
    order = [prompt for prompt, _ in cells]
    with edited(model.anatomy, [edit for _, edit in cells]):
        separate = run_model(model.network, ids[order], mask[order])[:, -1]
        longer = torch.cat([ids[order], ids[order][:, -1:]], dim=1)
        wide = torch.cat([mask[order], mask.new_ones(len(cells), 1)], dim=1)
        expected = run_model(model.network, longer, wide)[:, -1]
        continued = run_model(model.network, longer[:, -1:], wide, past)[:, -1]
    assert torch.allclose(shared, separate, atol=1e-4)
    assert torch.allclose(continued, expected, atol=1e-4)
    assert not torch.allclose(shared[0], shared[1], atol=1e-2)


def test_rows_leave_their_text_at_the_first_layer_that_their_edit_changes() -> None:
    model = open_tiny("llama")
    sizes = []
    handles = [
        value.module.register_forward_hook(lambda module, given, out: sizes.append(len(out)))
        for value in model.anatomy.values
    ]
    ids, mask = pad_left(TEXTS, 0, CPU)
    edits = [None, draw_edit((2,)), draw_edit((1, 2))]
    rows = [(prompt, edit) for prompt in range(3) for edit in edits]
    with torch.inference_mode(), forked(model.anatomy, 3, rows, CPU) as places:
        model.anatomy.trunk(input_ids=ids, attention_mask=mask, use_cache=False)
    for handle in handles:
        handle.remove()
    assert sizes == [3, 6, 9] and LAYERS == 3
    assert places[0].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert places[-1].tolist() == [0, 6, 3, 1, 7, 4, 2, 8, 5]
