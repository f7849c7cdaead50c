"""UMAP in a process of its own: it can be ended at any moment, and its compiling holds up nothing else.

`python -m detox_engine.reading.umap_process` answers requests on its standard input, both as
pickles; it ends with the input.
"""

import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detox_engine.errors import InputError, Progress
from detox_engine.plans.read import MapPlan

POLL_SECONDS = 0.1
READY = "ready"
ALL_DISTANCES_BELOW = 4096
"""Texts. With fewer UMAP takes every distance by a call of Python for each; given to it, they cost a matrix product."""


class UmapProcess:
    """A child process for the layouts inside the `with`; killed with whatever it does when the block ends."""

    def __init__(self) -> None:
        # Not multiprocessing, which would run the main script again in the child: the whole dashboard.
        package = str(Path(__file__).parents[2])
        paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "detox_engine.reading.umap_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        )
        self._reader = ThreadPoolExecutor(1)
        self._is_ready = False

    def __enter__(self) -> "UmapProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.shutdown()
        for pipe in (self._process.stdin, self._process.stdout):
            # What a killed process has not read cannot be flushed to it.
            with suppress(BrokenPipeError):
                pipe.close()

    def lay_out(
        self, fitted: NDArray, others: Sequence[NDArray], plan: MapPlan, progress: Progress, step: tuple[str, int, int]
    ) -> list[NDArray]:
        """`[texts, 2]` places of `fitted` `[texts, hidden]`, then of each of `others` among them.

        Args:
            step: what `progress` says meanwhile, again and again.

        Raises:
            InputError: UMAP failed, or its process was ended from outside.
        """
        if not self._is_ready:
            self._wait(self._receive, progress, ("Starting UMAP, which takes half a minute the first time", 0, 0))
            self._is_ready = True

        def ask() -> Any:
            pickle.dump((fitted, tuple(others), plan), self._process.stdin)
            self._process.stdin.flush()
            return self._receive()

        answer = self._wait(ask, progress, step)
        if isinstance(answer, str):
            raise InputError(f"UMAP could not lay out these texts ({answer}): choose other settings, or PCA.")
        return answer

    def _receive(self) -> Any:
        return pickle.load(self._process.stdout)

    def _wait(self, work: Any, progress: Progress, step: tuple[str, int, int]) -> Any:
        answer = self._reader.submit(work)
        while True:
            progress(*step)
            try:
                return answer.result(timeout=POLL_SECONDS)
            except TimeoutError:
                continue
            except (EOFError, OSError, pickle.UnpicklingError):
                raise InputError(
                    "UMAP was ended before it was done, perhaps for want of memory: choose PCA, or fewer pairs."
                ) from None


def serve() -> None:
    """Answer layouts until the input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # What a library prints is no answer.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    # Two seconds to import.
    from umap import UMAP

    keep_compiled()
    answer: Any = READY
    while True:
        pickle.dump(answer, answers)
        answers.flush()
        try:
            fitted, others, plan = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = place_texts(UMAP, fitted, others, plan)
        except Exception as error:
            answer = f"{type(error).__name__}: {error}"


def place_texts(umap: type, fitted: NDArray, others: Sequence[NDArray], plan: MapPlan) -> list[NDArray]:
    """One thread and a seed make it reproducible; starting from the principal axes keeps layers alike."""
    settings = {"n_neighbors": min(plan.neighbours, len(fitted) - 1), "min_dist": plan.spread}
    settings |= {"n_components": 2, "n_jobs": 1, "random_state": plan.seed}
    if len(fitted) < ALL_DISTANCES_BELOW:
        from sklearn.metrics import euclidean_distances

        start = _start_places(fitted, plan.seed)
        layout = umap(metric="precomputed", init=start, **settings).fit(euclidean_distances(fitted))
        others = [euclidean_distances(other, fitted) for other in others]
    else:
        layout = umap(init="pca", **settings).fit(fitted)
    return [np.asarray(places) for places in (layout.embedding_, *(layout.transform(other) for other in others))]


def _start_places(texts: NDArray, seed: int) -> NDArray:
    """`[texts, 2]` along the principal axes, as UMAP begins with `init="pca"`: no two at one place."""
    from sklearn.decomposition import PCA

    places = PCA(2, random_state=seed).fit_transform(texts)
    places *= 10 / max(np.abs(places).max(), 1e-12)
    return (places + np.random.default_rng(seed).normal(scale=1e-4, size=places.shape)).astype(np.float32)


def keep_compiled() -> None:
    """Have numba keep on disk what it compiles of UMAP: a quarter of a minute that every process would take anew.

    UMAP itself asks for that for few of its functions.
    """
    from numba.core.dispatcher import Dispatcher

    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in ("umap", "pynndescent"):
            for value in list(vars(module).values()):
                # Where nothing can be written, it is compiled each time.
                with suppress(RuntimeError):
                    if isinstance(value, Dispatcher):
                        value.enable_caching()


if __name__ == "__main__":
    serve()
