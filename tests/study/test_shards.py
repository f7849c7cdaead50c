"""Sums of shards that were taken apart and put together layer by layer are those of all pairs."""

import tempfile
from pathlib import Path

import pytest
import torch

from detox_engine.study import shards
from detox_engine.study.shards import Shard, Sums, Work, add_layer_sums
from tests.models import HIDDEN, LAYERS, open_tiny
from tests.planted import planted_pairs

WORK = Work(64, "mean", None, 4, sums_tokens=True)


@pytest.fixture(scope="module")
def model():
    return open_tiny("llama")


def make_shards() -> list[Shard]:
    pairs = planted_pairs(24)
    return [Shard(number, tuple(pairs[8 * number :][:8]), {0: number, number + 1: 2}) for number in range(3)]


def test_layers_that_were_taken_and_added_are_the_sums_of_all_in_memory_and_in_a_file(model, monkeypatch, tmp_path):
    whole, parts = Sums(LAYERS, HIDDEN, WORK), [Sums(LAYERS, HIDDEN, WORK) for _ in range(2)]
    for shard in make_shards():
        whole.add(model, WORK, shard)
        parts[shard.number % 2].add(model, WORK, shard)
    monkeypatch.setattr(shards, "MAPPED_FROM", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    total = Sums(LAYERS, HIDDEN, WORK, mapped=True)
    assert list(Path(tmp_path).iterdir()) == []  # the file goes with the memory
    for layer in range(LAYERS):
        # Place 0 went from the first to the last shard, both of which the first part has; the second has place 2.
        total.put(layer, add_layer_sums(parts[0].take(layer, [0, 1, 3]), parts[1].take(layer, [2])))
    for own, other in zip(whole.moments, total.moments, strict=True):
        for name in shards.MOMENTS:
            torch.testing.assert_close(getattr(own, name), getattr(other, name))
        assert int(other.count) == 24 and other.civil.trace() > 0
    torch.testing.assert_close(whole.tokens.products, total.tokens.products)
    assert torch.equal(whole.tokens.count, total.tokens.count) and torch.equal(whole.sides, total.sides)


def test_a_shard_that_is_done_again_leaves_later_ones_their_places(model):
    first, _, last = make_shards()
    right, late = Sums(LAYERS, HIDDEN, WORK), Sums(LAYERS, HIDDEN, WORK)
    for sums, order in ((right, (first, last)), (late, (last, first))):
        for shard in order:
            sums.add(model, WORK, shard)
    assert torch.equal(right.sides, late.sides) and right.sides[:, :, 0].norm() > 0
