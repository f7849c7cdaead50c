"""Batches of rows: what fits the budget runs together, what does not fit into memory runs in halves."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch

from detox_engine.model.batches import TOKEN_BUDGET, pack_batches, run_beside, run_in_batches

CPU = torch.device("cpu")


def test_batches_keep_to_the_budget_and_take_long_rows_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TOKEN_BUDGET, "cpu", 20)
    seen = []

    def run(batch: Sequence[int]) -> list[int]:
        seen.append(list(batch))
        return [10 * row for row in batch]

    results = dict(run_in_batches([3, 9, 4, 30, 5, 2], lambda row: row, run, CPU))
    assert seen == [[30], [9, 5], [4, 3, 2]]
    assert results == {row: 10 * row for row in (3, 9, 4, 30, 5, 2)}


def test_batches_stay_small_once_memory_ran_out() -> None:
    seen = []

    def run(batch: Sequence[int]) -> list[int]:
        seen.append(len(batch))
        if len(batch) > 3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return list(batch)

    rows = list(range(1, 11))
    assert sorted(row for row, _ in run_in_batches(rows, lambda row: row, run, CPU)) == rows
    assert seen == [10, 5, 2, 2, 2, 2, 2]


def test_a_row_that_never_fits_is_an_error() -> None:
    def run(batch: Sequence[int]) -> list[int]:
        raise MemoryError

    with pytest.raises(MemoryError, match="7 tokens"):
        list(run_in_batches([7], lambda row: row, run, CPU))


def test_packed_batches_hold_every_row_once_and_keep_to_budget_and_padding() -> None:
    widths = [5, 40, 7, 7, 39, 6, 100, 8, 7, 5, 21]
    batches = pack_batches(widths, budget=80, overhead=4)
    assert sorted(row for batch in batches for row in batch) == list(range(len(widths)))
    for batch in batches:
        widest = max(widths[row] for row in batch)
        assert len(batch) == 1 or widest * len(batch) <= 80
        assert sum(widest - widths[row] for row in batch) <= 4
    assert batches[:3] == [[6], [1, 4], [10]]
    assert len(pack_batches(widths, budget=80, overhead=1000)) < len(batches)
    assert pack_batches([], 80, 4) == []


def test_batches_side_by_side_are_halved_when_memory_runs_out() -> None:
    sizes, turns = [], []

    def run(batch: Sequence[int]) -> list[int]:
        sizes.append(len(batch))
        if len(batch) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return [10 * row for row in batch]

    @contextmanager
    def turn() -> Iterator[None]:
        turns.append("begun")
        yield

    found = run_beside([[0, 1, 2, 3, 4], [5], [6, 7, 8]], run, 1, turn, lambda: False)
    assert sorted(pair for batch, results in found for pair in zip(batch, results, strict=True)) == [
        (row, 10 * row) for row in range(9)
    ]
    assert max(sizes) == 5 and 3 not in sizes and turns == ["begun"]
    with pytest.raises(MemoryError):
        list(run_beside([[0]], lambda batch: run([0] * 3), 1, turn, lambda: False))
