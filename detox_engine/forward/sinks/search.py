"""The pass that finds the attention sinks of a model and their massive dimensions (see `Sinks`)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import local

import torch
from torch import Tensor

from detox_engine.errors import InputError, Progress, ignore_progress
from detox_engine.forward.sinks import FACTOR, Sinks
from detox_engine.model.batches import count_workers, pack_batches, run_beside
from detox_engine.model.load import OpenModel
from detox_engine.model.tokens import tokenize_text
from detox_engine.model.trunk import run_trunk, watched

MASSIVE = 30.0
"""A dimension is massive where a sink's entry is above this many typical entries of its layer …"""

SHARE = 0.01
"""… and holds at least this share of the square of the sink's norm, both in the median over texts."""

TEXTS = 16
LONGEST = 64
"""Texts that sinks are looked for in, and the tokens that are read of each."""

TOKENS_AT_ONCE = 128
"""Few, so that every core has a batch of its own."""

PER_TEXT = 2
"""Sinks that are looked at in a text: models have one or two of them."""

STAGE = "Looking for attention sinks"


class _Seen(local):
    """What the hooks see of the batch that a thread runs."""

    batch: Sequence[tuple[int, ...]]
    layers: list[list[tuple[Tensor, Tensor, Tensor]]]
    """By layer, of each row: every token's norm, the largest states, and the sum of all others."""


def find_sinks(model: OpenModel, texts: Sequence[str], progress: Progress = ignore_progress) -> Sinks:
    """Find the sinks of `model` in the first `TEXTS` of `texts`, any plain ones. Progress counts texts.

    Raises:
        InputError: one text alone does not fit into memory.
    """
    longest = min(LONGEST, model.context or LONGEST)
    rows = [tokenize_text(model.tokenizer, text).ids[:longest] for text in texts[:TEXTS]]
    rows = list(dict.fromkeys(row for row in rows if row))
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    seen = _Seen()

    @torch.inference_mode()
    def run(batch: Sequence[int]) -> list[list[tuple[Tensor, Tensor, Tensor]]]:
        seen.batch, seen.layers = [rows[index] for index in batch], []
        run_trunk(model, seen.batch)
        return seen.layers

    def read(layer: int, states: Tensor) -> None:
        seen.layers.append([_measure(states[place, : len(row)]) for place, row in enumerate(seen.batch)])

    @contextmanager
    def turn() -> Iterator[None]:
        with model.turns, watched(dict(enumerate(model.anatomy.blocks)), read):
            yield

    progress(STAGE, 0, len(rows))
    workers = count_workers(model.device, model.is_split)
    batches = pack_batches([len(row) for row in rows], TOKENS_AT_ONCE, TOKENS_AT_ONCE)
    try:
        for _, layers in run_beside(batches, run, workers, turn, lambda: model.turns.wanted):
            # Of each row its three figures, stacked over layers.
            found += [tuple(map(torch.stack, zip(*row, strict=True))) for row in zip(*layers, strict=True)]
            progress(STAGE, len(found), len(rows))
    except MemoryError:
        raise InputError(
            f"There is not enough memory for one text of {max(map(len, rows))} tokens: load the model in a smaller "
            "number format."
        ) from None
    norms, largest, totals = zip(*found, strict=True)
    others = sum(max(0, len(row) - PER_TEXT) for row in rows)
    return _describe(torch.cat(norms, dim=1), largest, (sum(totals) / max(1, others)).float())


def _measure(states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of one text's states: norms `[tokens]`, the largest `[≤ 2, hidden]`, and the sum of the others `[hidden]`."""
    own = states.float().cpu()
    sizes = own.norm(dim=-1)
    largest = own[sizes.topk(min(PER_TEXT, len(own))).indices]
    return sizes, largest, (own.sum(0) - largest.sum(0)).double()


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
