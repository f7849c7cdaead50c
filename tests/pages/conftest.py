"""The dashboard without a browser, on a tiny model: what a page's script draws and what its widgets do."""

import json
import shutil
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

from detox_engine.disk import write_json
from detox_engine.model.load import OpenModel, load_model
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.evaluation import EvaluationPlan
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.plans.sources import ModelSpec, PairSpec, TextSpec
from detox_engine.scoring.evaluation import evaluate
from detox_engine.scoring.records import record_evaluation
from detox_engine.study.fit import fit_study
from detox_engine.study.study import Study, stamp
from pages.compare.work import WRITING
from pages.navigation import PICKS
from tests.models import SENTENCES, save_tiny_model
from ui.session.folders import cache_folder
from ui.session.view import hold
from ui.work.evaluation import EVALUATION
from ui.work.jobs import POLL_SECONDS, Job
from ui.work.sweep import SWEEP
from ui.work.tasks import Task

hold(PICKS)
stamp()  # looks versions up before an AppTest takes folders from the path in one thread that another looks along
# Each AppTest reads the metadata of every installed package for Streamlit components: half the time of these tests.
manifest_scanner.scan_component_manifests = cache(manifest_scanner.scan_component_manifests)

APP = Path(__file__).parents[2] / "pages" / "navigation.py"
LASTING = (EVALUATION, SWEEP, WRITING)
"""Tasks whose answers all sessions find."""
INSTALLED = cache_folder() / "studies"
LIMIT = 40
"""Pairs in a test's study."""
EDIT = EditPlan((0, 1, 2), 1, method="mean-difference", strength=1.2)
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> str:
    """A folder with a tiny GPT-2."""
    return str(save_tiny_model("gpt2", tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture(scope="session", autouse=True)
def finished_workers():
    """Python must not end under a worker that is inside torch: it aborts."""
    yield
    for thread in threading.enumerate():
        if thread.name.endswith(" job"):
            thread.join(60)


@pytest.fixture(scope="package")
def fitted(tiny_folder, tmp_path_factory) -> tuple[OpenModel, Study]:
    """A model and a study of pairs that somebody else wrote."""
    pairs = [
        {"prompt": HOSTILE, "toxic": f"you idiot number {number}", "civil": f"my friend number {number}"}
        for number in range(12)
    ]
    file = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    file.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    model = load_model(ModelSpec(tiny_folder, device="cpu"))
    return model, fit_study(model, FitPlan(PairSpec(str(file)), keep=3))


@pytest.fixture(scope="package")
def record(fitted, tmp_path_factory) -> dict:
    """The evaluation of `EDIT`, as its file has it."""
    model, study = fitted
    folder = tmp_path_factory.mktemp("texts")
    prompts = [{"prompt": f"{HOSTILE} {number} What an idiot"} for number in range(4)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts))
    (folder / "neutral.txt").write_text("\n".join(SENTENCES[:4]))
    plan = EvaluationPlan(
        ("profanity", "mass", "perplexity"),
        str(folder / "prompts.jsonl"),
        sampling=SamplingPlan(max_new_tokens=5),
        neutral=TextSpec(str(folder / "neutral.txt")),
        controls=1,
        resamples=100,
    )
    return json.loads(write_json(record_evaluation(evaluate(model, study, EDIT, plan))))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Uploads of a test stay in its own folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def installed(own_cache):
    """The study of the bundled model that an installation keeps; without it a session that opens on it fits it anew."""
    if INSTALLED.is_dir():
        shutil.copytree(INSTALLED, cache_folder() / INSTALLED.name)


@pytest.fixture(autouse=True)
def own_work(monkeypatch):
    """What a test began and did not wait for ends with it, so that the next has the machine to itself."""
    begun, start = [], Job.start

    def note(job: Job) -> None:
        begun.append(job)
        start(job)

    monkeypatch.setattr(Job, "start", note)
    yield
    for job in begun:
        job.stop()


@pytest.fixture(autouse=True)
def own_results(request):
    """What a test finds is gone after it; what a wider fixture found is there for the tests that ask for it."""
    before = {task: task._shared.all() for task in LASTING}
    if "measured" not in request.fixturenames:
        forget_results()
    yield
    forget_results()
    for task, kept in before.items():
        for asked, found in kept.items():
            task._shared.keep(asked, found)


def forget_results(*tasks: Task) -> None:
    """As a restart forgets what is in memory: what these tasks found, or those whose answers all sessions find."""
    for task in tasks or LASTING:
        for asked in task._shared.all():
            task._shared.drop(asked)


def find_results(task: Task, session: AppTest) -> list:
    """What was found with the study that a session looks at, the latest last."""
    key = session.session_state["view"].study_key
    return [(asked, found) for asked, (found, _) in task._shared.all().items() if asked.fitted.study == key]


def open_app(page: str = "model_and_pairs", **link: object) -> AppTest:
    """A new session that opens this link at the address of a page."""
    session = AppTest.from_file(str(APP), default_timeout=60)
    # Before its first run a session is asked for a page by no other way: `switch_page` knows none yet.
    session._page_hash = calc_hash(page)
    for name, value in link.items():
        session.query_params[name] = str(value)
    return session.run()


def run_until(session: AppTest, condition: Callable[[AppTest], bool], seconds: float = 60) -> AppTest:
    """Run the script again and again, as the polling fragments do, until `condition` holds."""
    end = time.monotonic() + seconds
    while not condition(session):
        assert time.monotonic() < end, f"not within {seconds} s; the page shows: {texts(session)}"
        wait_for_work(session)
        session.run()
    return session


def wait_for_work(session: AppTest) -> None:
    """Until a job of the session has ended or a moment is over: a run takes from the work what it waits for."""
    jobs = list(session.session_state["jobs"].values()) if "jobs" in session.session_state else []
    running = [job for job in jobs if job.running]
    end = time.monotonic() + (POLL_SECONDS if running else 0.1)
    while time.monotonic() < end and all(job.running for job in running):
        time.sleep(0.02)


def unfold(session: AppTest, *keys: str) -> AppTest:
    """Open folded bars, whose insides are made once they are open."""
    for key in keys:
        session.session_state[key] = True
    return session.run()


def texts(session: AppTest) -> str:
    """Everything the page says, in one string; HTML as it was sent."""
    kinds = ("title", "subheader", "markdown", "caption", "error", "warning", "info", "success", "html")
    return "\n".join(
        str(getattr(element, "value", "") or element.proto.body) for kind in kinds for element in session.get(kind)
    )


def click(session: AppTest, key: str, **point: object) -> AppTest:
    """Click a point of a chart, as the browser tells it: an AppTest knows no charts."""
    chart = next(chart for chart in session.get("plotly_chart") if chart.key == key)
    picked = {"points": [point], "point_indices": [point.get("point_index", 0)], "box": [], "lasso": []}
    states = session._tree.get_widget_states()
    states.widgets.add(id=chart.proto.id, string_value=json.dumps({"selection": picked}))
    return session._run(states)


def settings(session: AppTest) -> str:
    """What the folded bar of the page says is set."""
    labels = [block.label for block in session.main.expander]
    return next(label for label in labels if label.startswith("Settings")).replace("\\", "")


def fitted_app(folder: str, **link: object) -> AppTest:
    """A session whose study of the tiny model is fitted."""
    session = open_app(model=folder, device="cpu", limit=LIMIT, **link)
    if "The pairs in use" not in texts(session):
        session.button(key="fit").click().run()
        run_until(session, lambda session: "The pairs in use" in texts(session) and not session.session_state["jobs"])
    return session
