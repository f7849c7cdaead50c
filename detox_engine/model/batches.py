"""Rows of one forward pass: padding, batches that keep to a budget, and that shrink when memory runs out."""

import gc
import inspect
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from detox_engine.model.threads import single_core_workers

Row = TypeVar("Row")
Result = TypeVar("Result")

TOKEN_BUDGET = {"cpu": 8192, "cuda": 65536}
"""Tokens of a batch, padding and cache included; a device of another kind gets the CPU's."""

OVERHEAD = {"cpu": 32, "cuda": 2048}
"""How many tokens of padding cost as much as one more pass; likewise."""


def pad_left(texts: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask `[rows, tokens]` of texts of different lengths, padded on the left."""
    longest = max(map(len, texts))
    ids = torch.tensor([[pad] * (longest - len(text)) + list(text) for text in texts])
    mask = torch.tensor([[0] * (longest - len(text)) + [1] * len(text) for text in texts])
    return ids.to(device), mask.to(device)


def run_model(
    model: PreTrainedModel, ids: Tensor, mask: Tensor, past: DynamicCache | None = None, keep: int = 1
) -> Tensor:
    """Logits `[rows, keep, vocab]` of the last `keep` of the tokens `ids` `[rows, tokens]`.

    Args:
        mask: `[rows, cached + tokens]`, 0 for padding on the left.
        past: what the rows' earlier tokens left, extended in place; None runs without a cache.
    """
    takes = _read_arguments(type(model))
    options: dict[str, Any] = {"logits_to_keep": keep} if "logits_to_keep" in takes else {}
    if "position_ids" in takes:
        options["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    output = model(input_ids=ids, attention_mask=mask, past_key_values=past, use_cache=past is not None, **options)
    return output.logits[:, -keep:]


@cache
def _read_arguments(kind: type[PreTrainedModel]) -> frozenset[str]:
    return frozenset(inspect.signature(kind.forward).parameters)


def run_in_batches(
    rows: Sequence[Row],
    width: Callable[[Row], int],
    run: Callable[[Sequence[Row]], Sequence[Result]],
    device: torch.device,
) -> Iterator[tuple[Row, Result]]:
    """Each row with its result, longest rows first, in batches whose padded tokens keep to the device's budget.

    When memory runs out the batch is halved and run again, and later batches are kept as small.

    Raises:
        MemoryError: one row alone does not fit.
    """
    budget = TOKEN_BUDGET.get(device.type, TOKEN_BUDGET["cpu"])
    waiting = deque(sorted(rows, key=width, reverse=True))
    most = len(waiting)
    while waiting:
        count = min(most, len(waiting), max(1, budget // width(waiting[0])))
        batch = [waiting.popleft() for _ in range(count)]
        results = _try_run(run, batch)
        if results is None:
            if count == 1:
                raise MemoryError(f"no memory for a row of {width(batch[0])} tokens")
            waiting.extendleft(reversed(batch))
            most = count // 2
            _free_memory()
            continue
        yield from zip(batch, results, strict=True)


def pack_batches(widths: Sequence[int], budget: int, overhead: int) -> list[list[int]]:
    """Indices of rows of these widths in tokens, in batches of nearly one width, widest first.

    A batch of several rows holds at most `budget` tokens, padding included. It also ends where its padding would
    come to `overhead` tokens: what another pass costs beside its tokens.
    """
    batches: list[list[int]] = []
    widest = padding = 0
    for row in sorted(range(len(widths)), key=lambda row: -widths[row]):
        padding += widest - widths[row]
        if not batches or padding > overhead or widest * (len(batches[-1]) + 1) > budget:
            batches.append([])
            widest, padding = widths[row], 0
        batches[-1].append(row)
    return batches


def count_workers(device: torch.device, split: bool = False) -> int:
    """How many batches `run_beside` is to run at a time: one on each core, one alone on anything but a CPU.

    Args:
        split: the model's weights come and go with a pass, so that two would take them from one another.
    """
    return torch.get_num_threads() if device.type == "cpu" and not split else 1


def run_beside(
    batches: Sequence[Sequence[Row]],
    run: Callable[[Sequence[Row]], Result],
    workers: int,
    turn: Callable[[], AbstractContextManager],
    wanted: Callable[[], bool],
) -> Iterator[tuple[Sequence[Row], Result]]:
    """Each batch with its result as it comes, `workers` of them side by side, each on one core.

    Cores that share one matrix product wait for one another, and where something else runs on one of them they all
    wait: on a machine with two other busy processes the bundled fit took 35 s so, and 10 s on a single core.

    Args:
        turn: what the batches run within; it is left and entered anew between batches when `wanted`.

    When memory runs out the batch is halved and run again, and later batches are kept as small.

    Raises:
        MemoryError: one row alone does not fit.
    """
    waiting, running = deque(batches), {}
    with single_core_workers(workers) as executor:
        while waiting:
            with turn():
                try:
                    yield from _run_waiting(waiting, running, run, executor, workers, wanted)
                finally:
                    wait(running)


def _run_waiting(
    waiting: deque[Sequence[Row]],
    running: dict[Future, Sequence[Row]],
    run: Callable[[Sequence[Row]], Result],
    executor: Executor,
    workers: int,
    wanted: Callable[[], bool],
) -> Iterator[tuple[Sequence[Row], Result]]:
    """Run what waits until nothing does, or the turn is wanted and what began is finished."""
    begun = 0
    while True:
        # One more than the workers, so that none waits for this thread.
        while waiting and len(running) <= workers and not (begun >= workers and wanted()):
            begun += 1
            batch = waiting.popleft()
            running[executor.submit(_try_run, run, batch)] = batch
        if not running:
            return
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            batch, result = running.pop(future), future.result()
            if result is not None:
                yield batch, result
            elif len(batch) == 1:
                raise MemoryError("no memory for one row alone")
            else:
                most, wide = len(batch) // 2, [batch, *waiting]
                waiting.clear()
                waiting.extend(rows[start : start + most] for rows in wide for start in range(0, len(rows), most))
                _free_memory()


def _free_memory() -> None:
    """Let go of what a failed pass held; on a machine without CUDA the second step does nothing."""
    gc.collect()
    torch.cuda.empty_cache()


def _try_run(run: Callable[[Sequence[Row]], Sequence[Result]], batch: Sequence[Row]) -> Sequence[Result] | None:
    """The results, or None when memory ran out; by then the failed pass holds none any more."""
    try:
        return run(batch)
    except (MemoryError, RuntimeError) as error:
        # Only CUDA has a class of its own for it; the CPU's and Metal's are plain RuntimeErrors.
        message = str(error).lower()
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
            sign in message for sign in ("out of memory", "can't allocate memory", "not enough memory")
        ):
            return None
        raise
