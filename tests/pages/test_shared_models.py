"""The shelf of models and studies that all sessions share."""

import threading

import pytest

from detox_engine import workbench
from detox_engine.errors import Cancelled, ignore_progress
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.sources import BUNDLED, ModelSpec, PairSpec
from ui.session import kept_study
from ui.session.shared_models import STUDIES_KEPT, Shelf
from ui.session.view import StudyKey


class FakeWorkbench:
    """Counts what it is asked for; a fit waits until it is let go."""

    loads: list[str] = []
    fits: list[FitPlan] = []
    go_on = threading.Event()

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec

    @classmethod
    def load(cls, spec, progress=ignore_progress):
        cls.loads.append(spec.name)
        return cls(spec)

    def fit_and_suggest(self, plan, progress=ignore_progress, keep_moments=True):
        self.fits.append(plan)
        self.go_on.wait(20)
        return object()

    def check(self, study, progress=ignore_progress):
        return object()


@pytest.fixture
def fake(monkeypatch):
    FakeWorkbench.loads, FakeWorkbench.fits, FakeWorkbench.go_on = [], [], threading.Event()
    monkeypatch.setattr(workbench, "Workbench", FakeWorkbench)
    monkeypatch.setattr(kept_study, "is_to_be_kept", lambda key: False)
    return FakeWorkbench


def key(limit: int, model: str = BUNDLED) -> StudyKey:
    return StudyKey(ModelSpec(model), FitPlan(PairSpec(limit=limit)))


def run_together(*works) -> list:
    results = [None] * len(works)

    def run(index, work):
        results[index] = work()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(works)]
    for thread in threads:
        thread.start()
    return threads, results


def test_two_sessions_that_want_the_same_study_fit_it_once(fake):
    shelf = Shelf()
    threads, results = run_together(lambda: shelf.fit(key(2)), lambda: shelf.fit(key(2)))
    fake.go_on.set()
    for thread in threads:
        thread.join(20)
    assert len(fake.fits) == 1 and results[0] is results[1] is not None


def test_another_sessions_long_fit_keeps_nobody_else_waiting(fake):
    shelf = Shelf()
    threads, _ = run_together(lambda: shelf.fit(key(2)))
    other = threading.Thread(target=lambda: shelf.workbench(ModelSpec("other/model")))
    other.start()
    other.join(20)
    assert not other.is_alive() and "other/model" in fake.loads
    fake.go_on.set()
    threads[0].join(20)


def test_waiting_for_another_session_can_be_stopped(fake):
    shelf = Shelf()
    threads, _ = run_together(lambda: shelf.fit(key(2)))
    while not fake.fits:
        pass

    def stop(stage, done, total):
        if stage == "Waiting for another session":
            raise Cancelled

    with pytest.raises(Cancelled):
        shelf.fit(key(2), stop)
    fake.go_on.set()
    threads[0].join(20)
    assert shelf.find_study(key(2)) is not None


def test_fitting_afresh_replaces_the_study_and_reads_a_folder_again(fake, tmp_path):
    shelf = Shelf()
    fake.go_on.set()
    folder = key(2, str(tmp_path))
    first = shelf.fit(folder)
    assert shelf.fit(folder) is first
    assert shelf.fit(folder, afresh=True) is not first
    assert fake.loads == [str(tmp_path)] * 2


def test_the_bundled_model_stays_and_of_all_others_the_latest(fake):
    shelf = Shelf()
    for name in (BUNDLED, "first/model", "second/model"):
        shelf.workbench(ModelSpec(name))
    held = [name for name in (BUNDLED, "first/model", "second/model") if shelf.find_workbench(ModelSpec(name))]
    assert held == [BUNDLED, "second/model"]


def test_the_shelf_keeps_the_studies_used_last(fake):
    shelf = Shelf()
    fake.go_on.set()
    for limit in range(2, 2 + STUDIES_KEPT):
        shelf.fit(key(limit))
    shelf.find_study(key(2))
    shelf.fit(key(100))
    assert shelf.find_study(key(2)) is not None and shelf.find_study(key(3)) is None


def test_what_a_check_says_stands_in_the_place_of_its_study_but_not_of_a_newer_one(fake, monkeypatch):
    shelf = Shelf()
    fake.go_on.set()
    study = shelf.fit(key(2))
    checked = shelf.check(key(2))
    assert checked is not study and shelf.find_study(key(2)) is checked

    def fit_meanwhile(bench, study, progress=ignore_progress):
        shelf.fit(key(2), afresh=True)
        return object()

    monkeypatch.setattr(fake, "check", fit_meanwhile)
    late = shelf.check(key(2))
    assert shelf.find_study(key(2)) not in (checked, late)
