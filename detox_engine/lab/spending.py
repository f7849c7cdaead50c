"""What something takes: its time, and the memory of the process."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Thread
from time import perf_counter

import psutil

LOOK_EVERY = 0.02
"""Seconds between two looks at the memory."""


@dataclass
class Spent:
    """Seconds, and bytes at most beside what was held before."""

    seconds: float = 0.0
    memory: float = 0.0


@contextmanager
def measured() -> Iterator[Spent]:
    """How long what happens inside takes, and how much memory the process holds beside what it held before, at most."""
    process, spent, over = psutil.Process(), Spent(), Event()
    before = process.memory_info().rss

    def look() -> None:
        while not over.wait(LOOK_EVERY):
            spent.memory = max(spent.memory, process.memory_info().rss - before)

    watcher, start = Thread(target=look, daemon=True), perf_counter()
    watcher.start()
    try:
        yield spent
    finally:
        over.set()
        watcher.join()
        spent.seconds = perf_counter() - start
        spent.memory = max(spent.memory, process.memory_info().rss - before)
