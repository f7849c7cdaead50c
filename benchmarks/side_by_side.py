"""Sides of a benchmark, run in turn for several rounds: medians, ratios, peak memory in a fresh process a side."""

import gc
import multiprocessing
import os
import platform
import re
import statistics
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

PAGE_BYTES = 4096


@dataclass
class Figure:
    """One line of the report: what was measured, and the bound that it must keep."""

    name: str
    value: float
    unit: str
    must: float | None = None
    aim: float | None = None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """The value and its unit."""
        return f"{self.value:.3g} {self.unit}".strip()

    @property
    def verdict(self) -> str:
        if self.must is None:
            return ""
        if self.aim is not None and self.value <= self.aim:
            return "aim"
        return "must" if self.value <= self.must else "MISSED"


def time_sides(sides: dict[str, Callable[[], Any]], rounds: int = 5, warm: bool = True) -> dict[str, list[float]]:
    """Seconds of each side in each round; the sides take turns, so that a busy moment hits all of them."""
    if warm:
        for side in sides.values():
            side()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            gc.collect()
            start = time.perf_counter()
            side()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def median_ratio(seconds: dict[str, list[float]], side: str, base: str) -> float:
    """The ratio of the medians of two sides."""
    return statistics.median(seconds[side]) / statistics.median(seconds[base])


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def measure_peak(prepare: Callable[[], Any], work: Callable[[Any], Any]) -> float:
    """Peak resident megabytes that `work` adds to what `prepare` left, in a fresh process; Linux only."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure_here, args=(prepare, work, sender))
    process.start()
    peak = receiver.recv()
    process.join()
    return peak


def _measure_here(prepare: Callable[[], Any], work: Callable[[Any], Any], sender: Any) -> None:
    prepared = prepare()
    gc.collect()
    before, peak, done = resident_bytes(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, resident_bytes())
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    work(prepared)
    done.set()
    watcher.join()
    sender.send((peak - before) / 2**20)


def show(title: str, figures: list[Figure], judged: bool) -> None:
    """Print the figures as a table; `judged` says beside each bound whether it is kept."""
    table = Table(title=title)
    for column in ("figure", "value", "must", "aim", ""):
        table.add_column(column, justify="left" if column in ("figure", "") else "right")
    for figure in figures:
        bounds = ("" if bound is None else f"≤ {bound:g}" for bound in (figure.must, figure.aim))
        table.add_row(figure.name, figure.words, *bounds, figure.verdict if judged else "")
    Console(file=sys.stdout, width=110).print(table)


def describe_machine() -> str:
    """The processor and how many of its cores this run may use, and the GPU."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    processor = found[1].strip() if found else platform.processor() or platform.machine()
    beside = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{cores} {'core' if cores == 1 else 'cores'} of {processor}, {beside}"
