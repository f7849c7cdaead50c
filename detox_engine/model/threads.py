"""Threads: how many cores there are to use, small pieces of work side by side on them, and turns on one model."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from threading import Lock
from typing import TypeVar

import torch

from detox_engine.errors import Progress, ignore_progress

Result = TypeVar("Result")


def settle_threads() -> None:
    """Let torch use no more threads than the cores that this process may use.

    torch counts a machine's cores; a container's share of their time is not among what it looks at, and eight threads
    on the time of two cores wait for one another.
    """
    # Takes a while to import, and what only shows a study has no use for it.
    from joblib import cpu_count

    torch.set_num_threads(max(1, min(torch.get_num_threads(), cpu_count())))


@contextmanager
def single_core_workers(count: int) -> Iterator[ThreadPoolExecutor]:
    """`count` threads, each of which computes on one core; what has not begun at the end is dropped."""
    threads = torch.get_num_threads()
    executor = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)
        # The threads' setting is also what threads started later begin with.
        torch.set_num_threads(threads)


def run_side_by_side(
    work: Callable[[int], Result],
    count: int,
    stage: str = "",
    progress: Progress = ignore_progress,
    before: int = 0,
) -> list[Result]:
    """`work(0), …, work(count - 1)`, side by side on the cores that torch may use, one core each.

    LAPACK on several cores spends its time waiting for them where they are shared with others: one decomposition
    of 256 × 256 took 27 s on four busy cores and 0.03 s on one of them. Progress counts what is done, of which
    `before` was done earlier; what it raises ends the work once what has begun is finished.
    """
    progress(stage, before, before + count)
    with single_core_workers(max(1, min(torch.get_num_threads(), count))) as executor:
        futures = [executor.submit(work, index) for index in range(count)]
        for done, future in enumerate(as_completed(futures), start=1):
            future.result()
            progress(stage, before + done, before + count)
        return [future.result() for future in futures]


class Turns:
    """A lock that threads get in the order in which they asked for it; not reentrant.

    Hooks are global to a model, so that one forward pass with hooks may run at a time.

    With an ordinary lock, a long fit that gives it up between two batches would mostly take it again before a
    waiting comparison wakes up.
    """

    def __init__(self) -> None:
        self._guard = Lock()
        self._queue: deque[Lock] = deque()

    @property
    def wanted(self) -> bool:
        """Whether another thread waits for its turn."""
        return len(self._queue) > 1

    def __enter__(self) -> None:
        mine = Lock()
        mine.acquire()
        with self._guard:
            self._queue.append(mine)
            if self._queue[0] is mine:
                mine.release()
        mine.acquire()

    def __exit__(self, *failure: object) -> None:
        with self._guard:
            self._queue.popleft()
            if self._queue:
                self._queue[0].release()
