"""Rows of one forward pass that share their text's states below the first layer that their edit changes.

Not every family's code can be run so: each model is tried once, and else each row is run from the start.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from detox_engine.edit.change import Change
from detox_engine.edit.in_pass import edited
from detox_engine.edit.low_rank import LowRankEdit
from detox_engine.model.anatomy import Anatomy
from detox_engine.model.batches import pad_left, run_model
from detox_engine.model.load import OpenModel
from detox_engine.model.trunk import run_trunk

NEAR = 0.1
"""Two passes give the same where their scores differ by less than this share of the scores' spread; where they do not,
they differ by about the whole of it."""


class Holds(NamedTuple):
    """What was seen to hold of a model, over three tokens."""

    forks: bool
    """Rows that leave their text layer by layer come out as rows that are run from the start."""
    pads: bool
    """A text that is padded on the left comes out as it does alone."""
    caches: bool
    """What a pass leaves in the cache is all that the next needs, also where rows have changed places."""


_TRIED: WeakKeyDictionary[Anatomy, Holds] = WeakKeyDictionary()


@torch.inference_mode()
def try_passes(model: OpenModel) -> Holds:
    """How the model can be run, tried on its first use; the caller holds the model's turn."""
    if model.anatomy not in _TRIED:
        _TRIED[model.anatomy] = Holds(_can_fork(model), _can_pad(model), _can_cache(model))
    return _TRIED[model.anatomy]


def _can_fork(model: OpenModel) -> bool:
    direction = torch.ones(1, model.anatomy.hidden, device=model.device) / model.anatomy.hidden**0.5
    edits = [None, *(LowRankEdit({layer: direction}) for layer in sorted({0, model.anatomy.layers // 2}))]
    rows = [(text, edit) for text in range(2) for edit in edits]
    texts = [[2, 3, 4], [3, 4, 2]]
    try:
        forked_states = _run_forked(model, texts, rows)
    except Exception:  # whatever a family's own code raises over rows that it does not expect
        return False
    return is_near(forked_states, _run_apart(model, texts, rows))


def _can_pad(model: OpenModel) -> bool:
    ids, mask = pad_left([[2, 3, 4], [4]], 0, model.device)
    alone = run_model(model.network, ids[1:, -1:], mask[1:, -1:])
    return is_near(run_model(model.network, ids, mask)[1:], alone)


def _can_cache(model: OpenModel) -> bool:
    ids = torch.tensor([[2, 3, 4, 2], [3, 4, 2, 3]], device=model.device)
    mask = torch.ones_like(ids)
    past = DynamicCache(config=model.network.config)
    try:
        run_model(model.network, ids[:, :3], mask[:, :3], past)
        past.reorder_cache(torch.tensor([1, 0], device=ids.device))
        continued = run_model(model.network, ids[[1, 0], 3:], mask, past)
    except Exception:  # whatever a family's own code raises over a cache that is not its own
        return False
    return is_near(continued, run_model(model.network, ids[[1, 0]], mask))


def is_near(one: Tensor, other: Tensor) -> bool:
    """Whether two passes' scores `[..., vocab]` are the same; see `NEAR`."""
    return bool((one - other).abs().max() <= NEAR * other.float().std())


def run_edits(model: OpenModel, texts: Sequence[Sequence[int]], rows: Sequence[tuple[int, Change | None]]) -> Tensor:
    """Last hidden states `[rows, tokens, hidden]` of `rows`, each a text under an edit.

    Texts are padded on the right; what the rows of a text share is run once.
    """
    return _run_forked(model, texts, rows) if try_passes(model).forks else _run_apart(model, texts, rows)


def _run_forked(model: OpenModel, texts: Sequence[Sequence[int]], rows: Sequence[tuple[int, Change | None]]) -> Tensor:
    with forked(model.anatomy, len(texts), rows, model.device) as places:
        states = run_trunk(model, texts)
    return states[places[-1].to(states.device)]


def _run_apart(model: OpenModel, texts: Sequence[Sequence[int]], rows: Sequence[tuple[int, Change | None]]) -> Tensor:
    with edited(model.anatomy, [edit for _, edit in rows]):
        return run_trunk(model, [texts[text] for text, _ in rows])


@contextmanager
def forked(
    anatomy: Anatomy, texts: int, rows: Sequence[tuple[int, Change | None]], device: torch.device
) -> Iterator[list[Tensor]]:
    """A forward pass of `texts` batch rows inside computes every one of `rows`, each a text under an edit.

    The texts go through all layers as the model is; a row with an edit leaves its text's at the first layer that
    the edit changes, and carries the edit from there. Rows of many edits thus cost only the layers in which they
    differ.

    Yields:
        For each layer `[rows]`: which row of the batch that leaves the layer is each of `rows`. The last is also
        that of the trunk's output.
    """
    never = anatomy.layers
    first = [edit.layers[0] if edit is not None and edit.layers and edit.strength != 0 else never for _, edit in rows]
    leaving = sorted((row for row in range(len(rows)) if first[row] < never), key=first.__getitem__)
    starts = [first[row] for row in leaving]
    counts = [texts + bisect_right(starts, layer) for layer in range(anatomy.layers)]
    sources = torch.tensor([*range(texts), *(rows[row][0] for row in leaving)], device=device)
    edits = [None] * texts + [rows[row][1] for row in leaving]
    own = torch.tensor([text for text, _ in rows], device=device)
    place = own.clone()
    place[leaving] = torch.arange(texts, texts + len(leaving), device=device)
    with ExitStack() as hooks:
        for layer, (block, count) in enumerate(zip(anatomy.blocks, counts, strict=True)):
            if count > texts:
                before = counts[layer - 1] if layer else texts
                hooks.enter_context(_grown(block, texts, before, sources[:count]))
                # One object for all rows of an edit, so that its directions are multiplied with once.
                parts = {edit: edit and edit.at_layer(layer) for edit in dict.fromkeys(edits[:count])}
                hooks.enter_context(edited(anatomy, [parts[edit] for edit in edits[:count]]))
        yield [place.where(place < count, own) for count in counts]


def run_prompts(
    model: OpenModel,
    ids: Tensor,
    mask: Tensor,
    cells: Sequence[tuple[int, Change | None]],
) -> tuple[Tensor, DynamicCache | None]:
    """Each cell's logits after its prompt `[cells, vocab]`, and a cache with a row for each cell.

    No cache where the model cannot be run on from one.

    Args:
        ids, mask: `[prompts, tokens]`, different prompts, padded on the left.
        cells: the prompt's row and the edit of each cell, all different.

    What the cells of a prompt share is run once.
    """
    holds = try_passes(model)
    past = DynamicCache(config=model.network.config) if holds.caches else None
    apart = past is None or len(past.layers) != model.anatomy.layers or not holds.forks
    if len(cells) == len(ids) or apart:
        order = torch.tensor([prompt for prompt, _ in cells], device=ids.device)
        with edited(model.anatomy, [edit for _, edit in cells]):
            return run_model(model.network, ids[order], mask[order], past)[:, -1], past
    with forked(model.anatomy, len(ids), cells, ids.device) as places:
        logits = run_model(model.network, ids, mask, past)[:, -1]
    for layer, place in zip(past.layers, places, strict=True):
        layer.reorder_cache(place)
    return logits[places[-1].to(logits.device)], past


@contextmanager
def _grown(block: nn.Module, texts: int, before: int, sources: Tensor) -> Iterator[None]:
    """`block` gets the rows `sources` `[count]` of the texts, of which the first `before` come from the block below.

    Masks, positions and the like were made for the texts and are repeated for each block; the states grow only by
    the rows that leave their text here.
    """
    count = len(sources)
    growth = torch.cat([torch.arange(before, device=sources.device), sources[before:]])

    def grow(part: Any, name: str = "") -> Any:
        if isinstance(part, tuple):
            return tuple(grow(each) for each in part)
        if not isinstance(part, Tensor) or part.dim() < 2:
            return part
        if name == "alibi" and part.shape[0] != texts:
            # Bloom's, [texts * heads, ...].
            return part.unflatten(0, (texts, -1))[sources.to(part.device)].flatten(0, 1)
        if part.shape[0] == texts:
            return part[sources.to(part.device)]
        return part[growth.to(part.device)] if part.shape[0] == before < count else part

    def hook(module: nn.Module, given: tuple, named: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        return grow(given), {name: grow(part, name) for name, part in named.items()}

    with block.register_forward_pre_hook(hook, with_kwargs=True):
        yield
