"""UMAP's own process: ended at once by whoever waits for it, gone with the block, one sentence where it fails."""

import signal
import subprocess
from collections.abc import Iterator

import numpy as np
import pytest

from detox_engine.errors import Cancelled, InputError
from detox_engine.plans.read import MapPlan
from detox_engine.reading import umap_process
from detox_engine.reading.umap_process import UmapProcess

STEP = ("Laying out texts", 0, 1)


def draw_texts(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 12)).astype(np.float32)


@pytest.fixture(scope="module")
def running() -> Iterator[UmapProcess]:
    """One that is ready and has compiled what a layout needs, which takes it many seconds."""
    with UmapProcess() as umap:
        yield umap


@pytest.fixture
def started(monkeypatch) -> list[subprocess.Popen]:
    """The processes that a test starts."""
    found, start = [], subprocess.Popen

    def watch(*args, **options):
        found.append(start(*args, **options))
        return found[-1]

    monkeypatch.setattr(umap_process.subprocess, "Popen", watch)
    return found


def ask(umap: UmapProcess, progress=lambda *step: None, texts: int = 40) -> list[np.ndarray]:
    return umap.lay_out(draw_texts(texts), [draw_texts(8, 1)], MapPlan("umap"), progress, STEP)


def test_one_process_answers_several_requests_alike(running):
    first, again = ask(running), ask(running)
    assert [places.shape for places in first] == [(40, 2), (8, 2)]
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))


def test_the_process_is_gone_after_the_block(started):
    with UmapProcess():
        assert started[0].poll() is None
    assert started[0].poll() is not None


@pytest.mark.parametrize("stage", ["Starting UMAP, which takes half a minute the first time", "Laying out texts"])
def test_a_stop_takes_effect_at_once_whatever_the_process_does(started, stage):
    def stop(name, done, total):
        if name == stage:
            raise Cancelled

    with pytest.raises(Cancelled), UmapProcess() as umap:
        ask(umap, stop, texts=3000)
    # Not by itself, with its work done.
    assert started[0].poll() == -signal.SIGKILL


def test_a_process_that_was_ended_from_outside_gets_a_sentence(started):
    def end(name, done, total):
        if name == STEP[0]:
            started[0].kill()

    with pytest.raises(InputError, match="ended before it was done, perhaps for want of memory"), UmapProcess() as umap:
        ask(umap, end)


def test_what_umap_refuses_gets_a_sentence_and_the_process_goes_on(running):
    broken = np.full((20, 3), np.nan, np.float32)
    with pytest.raises(InputError, match="could not lay out these texts"):
        running.lay_out(broken, [], MapPlan("umap"), lambda *step: None, STEP)
    assert ask(running)[0].shape == (40, 2)


def test_given_distances_keep_neighbours_as_well_as_the_texts_themselves(running, monkeypatch):
    from sklearn.manifold import trustworthiness
    from umap import UMAP

    texts = draw_texts(120) + 6 * np.repeat(draw_texts(6, 2), 20, axis=0)
    kept = [trustworthiness(texts, running.lay_out(texts, [], MapPlan("umap"), lambda *step: None, STEP)[0])]
    monkeypatch.setattr(umap_process, "ALL_DISTANCES_BELOW", 0)
    # Takes what the other process compiled.
    umap_process.keep_compiled()
    kept.append(trustworthiness(texts, umap_process.place_texts(UMAP, texts, [], MapPlan("umap"))[0]))
    assert min(kept) > 0.9 and kept[0] == pytest.approx(kept[1], abs=0.02)
