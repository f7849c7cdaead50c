"""The pass that finds the attention sinks of a model and their massive dimensions (see `Sinks`)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from detox_engine.errors import Progress, ignore_progress
from detox_engine.forward.sinks import FACTOR, Sinks
from detox_engine.model.batches import run_in_batches
from detox_engine.model.load import OpenModel
from detox_engine.model.trunk import run_trunk, watched

MASSIVE = 30.0
"""A dimension is massive where a sink's entry is above this many typical entries of its layer …"""

SHARE = 0.01
"""… and holds at least this share of the square of the sink's norm, both in the median over texts."""

TEXTS = 16
LONGEST = 64
"""Texts that sinks are looked for in, and the tokens that are read of each."""

PER_TEXT = 2
"""Sinks that are looked at in a text: models have one or two of them."""

STAGE = "Looking for attention sinks"


@torch.inference_mode()
def find_sinks(model: OpenModel, texts: Sequence[str], progress: Progress = ignore_progress) -> Sinks:
    """Find the sinks of `model` in the first `TEXTS` of `texts`, any plain ones. Progress counts texts."""
    longest = min(LONGEST, model.context or LONGEST)
    rows = [tuple(model.tokenizer(text, verbose=False)["input_ids"][:longest]) for text in texts[:TEXTS]]
    rows = list(dict.fromkeys(row for row in rows if row))
    norms: list[Tensor] = []
    largest: list[Tensor] = []
    totals = torch.zeros(model.anatomy.layers, model.anatomy.hidden, dtype=torch.float64)
    progress(STAGE, 0, len(rows))

    def run(batch: Sequence[tuple[int, ...]]) -> list[tuple[Tensor, Tensor, Tensor]]:
        found: list[list[tuple[Tensor, Tensor, Tensor]]] = [[] for _ in batch]

        def read(layer: int, states: Tensor) -> None:
            for place, row in enumerate(batch):
                own = states[place, : len(row)].float().cpu()
                sizes = own.norm(dim=-1)
                at = sizes.topk(min(PER_TEXT, len(row))).indices
                found[place].append((sizes, own[at], (own.sum(0) - own[at].sum(0)).double()))

        with model.turns, watched(dict(enumerate(model.anatomy.blocks)), read):
            run_trunk(model, batch)
        return [tuple(torch.stack(part) for part in zip(*layers, strict=True)) for layers in found]

    for _, (sizes, states, total) in run_in_batches(rows, len, run, model.network.device):
        norms.append(sizes)
        largest.append(states)
        totals += total
        progress(STAGE, len(norms), len(rows))
    others = sum(max(0, len(row) - PER_TEXT) for row in rows)
    return _describe(torch.cat(norms, dim=1), largest, (totals / max(1, others)).float())


def _describe(norms: Tensor, largest: Sequence[Tensor], centres: Tensor) -> Sinks:
    """Sinks from the norms of all tokens `[layers, tokens]` and each text's largest states, `[layers, ≤ 2, hidden]`."""
    medians = norms.median(dim=1).values
    typical = medians / centres.shape[1] ** 0.5
    first = torch.stack([states[:, 0] for states in largest], dim=1)
    sizes = (first.norm(dim=-1) / medians[:, None]).median(dim=1).values
    every = torch.cat(list(largest), dim=1)
    dimensions: set[int] = set()
    for layer in (sizes > FACTOR).nonzero()[:, 0].tolist():
        at = every[layer][every[layer].norm(dim=-1) > FACTOR * medians[layer]].abs()
        entries = at.median(dim=0).values
        shares = (at / at.norm(dim=-1, keepdim=True)).square().median(dim=0).values
        dimensions |= set(((entries > MASSIVE * typical[layer]) & (shares > SHARE)).nonzero()[:, 0].tolist())
    found = tuple(sorted(dimensions))
    inside = first[..., list(found)].norm(dim=-1).median(dim=1).values
    before = torch.cat([inside.new_zeros(1), inside[:-1]])
    larger = torch.maximum(inside, before)
    changed = (larger > MASSIVE * typical) & ((inside - before).abs() > 0.5 * larger)
    return Sinks(medians, sizes, centres, found, tuple(changed.nonzero()[:, 0].tolist()))
