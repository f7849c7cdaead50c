"""A user's journeys in a real browser: one server on a port of its own, one Chromium, a fresh session a test."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from weakref import WeakKeyDictionary

import pytest
from playwright.sync_api import BrowserContext, Page, Request, expect, sync_playwright
from streamlit.proto.BackMsg_pb2 import BackMsg

from ui.session.folders import cache_folder

ROOT = Path(__file__).parents[2]
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SECONDS = 120
"""How long a step may take on a machine that is busy with other tests; the bundled model's first fit is one."""
LATEST = 20
"""How many seconds after a change the browser, on a machine busy with other tests, tells of it at the latest."""
PRESS = 60
"""How many milliseconds a mouse button is down: Streamlit takes what was typed a moment after its field is left, and a
click faster than that, which no hand makes, would be overtaken by it."""

UNFOLDS = 200
"""Milliseconds in which a bar that unfolds grows, or has been unfolded."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A journey may take as long as a few slow steps."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.timeout(4 * SECONDS))


@pytest.fixture(scope="session")
def chromium(tmp_path_factory) -> Iterator[BrowserContext]:
    """A browser with a profile of its own: what it has translated of the app's code it finds again in the next tab."""
    if CHROMIUM is None:
        said = "There is no Chromium: install it (Debian: apt-get install chromium) to run the browser journeys."
        pytest.fail(said) if os.environ.get("CI") == "true" else pytest.skip(said)
    expect.set_options(timeout=1000 * SECONDS)
    with sync_playwright() as playwright:
        profile = tmp_path_factory.mktemp("profile")
        browser = playwright.chromium.launch_persistent_context(
            profile, executable_path=CHROMIUM, args=list(FLAGS), reduced_motion="reduce"
        )
        yield browser
        browser.close()


SOON_FORSAKEN = "from ui.work import jobs; jobs.FORSAKEN_SECONDS = 5"
"""What a journey that is over has begun would go on for minutes, beside the next ones."""


class FirstVisit(NamedTuple):
    """A server, and what its first visitor saw, who came by a link to a page."""

    server: str
    heading: str
    dialogs: list[str]


@pytest.fixture(scope="session")
def first_visit(chromium, tabs, tmp_path_factory) -> Iterator[FirstVisit]:
    """A dashboard of its own, on this machine alone, visited once; all journeys share it."""
    with run_server(tmp_path_factory.mktemp("server"), SOON_FORSAKEN) as (address, _):
        page = new_tab(chromium)
        page.goto(f"{address}/spectrum?layers=2-4")
        heading = page.locator("h1").first
        heading.wait_for(state="attached", timeout=1000 * SECONDS)
        page.wait_for_timeout(1000)
        visit = FirstVisit(address, heading.inner_text(), page.get_by_role("dialog").all_inner_texts())
        tabs.append(page)
        yield visit


@pytest.fixture(scope="session")
def server(first_visit) -> str:
    """The address of the dashboard that all journeys share."""
    return first_visit.server


@contextmanager
def run_server(folder: Path, changed: str = "") -> Iterator[tuple[str, int]]:
    """A dashboard on a free port, with its cache and its log in `folder`; ends with the block.

    Args:
        changed: Python that is run in the server's process before it starts.

    Yields:
        Its address, and the number of its process.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    options = ("--server.headless=true", f"--server.port={port}", "--server.address=127.0.0.1")
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    # What an installation keeps for the first visitor; without it, the first journey waits for a fit, and the next for
    # what the Overview opens with.
    for kept in (cache_folder() / "studies", cache_folder() / "overview"):
        if kept.is_dir():
            shutil.copytree(kept, folder / "cache" / cache_folder().name / kept.name)
    with (folder / "log.txt").open("w") as log:
        start = f"import sys; sys.path.insert(0, ''); {changed}\nfrom streamlit.web.cli import main; main()"
        command = (sys.executable, "-c", start, "run", "app.py", *options)
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        wait_for_server(process, address, folder / "log.txt")
        yield address, process.pid
    finally:
        process.terminate()
        process.wait(20)


def wait_for_server(process: subprocess.Popen, address: str, log: Path) -> None:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"The dashboard did not start: {log.read_text()[-2000:]}")


@pytest.fixture
def foreign_requests() -> list[str]:
    """Everything that a test's pages asked of any other machine; stays empty."""
    return []


@pytest.fixture(scope="session")
def tabs() -> list[Page]:
    """The tabs that journeys have used so far: to load the app into a new one takes the browser three times as long."""
    return []


STILL = """
document.addEventListener("DOMContentLoaded", () => {
    const still = document.createElement("style");
    still.textContent = "*, *::before, *::after { animation: none !important; transition: none !important; }";
    document.head.append(still);
});
"""
"""Without a graphics card a browser draws every frame of a moving sign on the processor."""


ASKED: WeakKeyDictionary[Page, int] = WeakKeyDictionary()
"""How often a tab has asked for a run, for what its person did, since a journey began to wait for it."""


def new_tab(chromium: BrowserContext) -> Page:
    page = chromium.new_page()
    page.add_init_script(STILL)
    ASKED[page] = 0

    def note(frame: bytes) -> None:
        message = BackMsg.FromString(frame)
        # A page that watches work asks by itself.
        ASKED[page] += message.HasField("rerun_script") and not message.rerun_script.is_auto_rerun

    page.on("websocket", lambda socket: socket.on("framesent", note))
    return page


FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.fixture
def open_page(request, chromium, tabs, server, foreign_requests):
    """`open_page(path)` opens a new session in a tab of its own and waits for the page's title.

    Where the test fails, its report tells what the pages showed.
    """
    with pages_opened(chromium, tabs, server, foreign_requests) as (open_one, pages):
        yield open_one
        if request.node.stash[FAILED]:
            for page in pages:
                print(page.url, page.locator("body").inner_text(), sep="\n")
    assert foreign_requests == []


@contextmanager
def pages_opened(
    chromium: BrowserContext, tabs: list[Page], server: str, foreign: list[str]
) -> Iterator[tuple[Callable[..., Page], list[Page]]]:
    """What opens a session in a tab, and the pages that it has opened, which are left with the block."""
    pages = []

    def note_foreign(asked: Request) -> None:
        if is_foreign(asked.url, server):
            foreign.append(asked.url)

    def open_one(path: str = "/", width: int = 1440, height: int = 900) -> Page:
        page = tabs.pop() if tabs else new_tab(chromium)
        pages.append(page)
        # A browser draws a tab that lies behind another once a second.
        page.bring_to_front()
        page.set_viewport_size({"width": width, "height": height})
        page.set_default_timeout(1000 * SECONDS)
        page.on("request", note_foreign)
        page.goto(server + path)
        page.locator("h1").first.wait_for()
        return page

    try:
        yield open_one, pages
    finally:
        for page in pages:
            page.goto("about:blank")
            page.remove_listener("request", note_foreign)
            page.mouse.move(0, 0)
        tabs += reversed(pages)


def is_foreign(url: str, server: str) -> bool:
    return not url.startswith((server, server.replace("http", "ws", 1), "data:", "blob:", "about:"))


def go_to(page: Page, name: str) -> None:
    """Follow the sidebar's link to a page and wait for it."""
    page.get_by_test_id("stSidebarNav").get_by_role("link", name=name).click(delay=PRESS)
    page.get_by_role("heading", name=name, level=1).wait_for()


def wait_until_ready(page: Page) -> None:
    """Wait until the study is fitted and no script runs."""
    page.locator("[class*=st-key-edit_strength] input").wait_for(state="attached")
    wait_until_still(page)


def wait_until_still(page: Page) -> None:
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()


@contextmanager
def settled(page: Page) -> Iterator[None]:
    """Wait until the server was told of what the block changes, which is a moment later, and the page is drawn."""
    ASKED[page] = 0
    yield
    end = time.monotonic() + LATEST
    while not ASKED[page]:
        assert time.monotonic() < end, "nothing was changed that the server had to be told of"
        page.wait_for_timeout(20)
    while ASKED[page]:
        ASKED[page] = 0
        # The app shows that it has asked a moment after it has, and what else was changed is told a moment later.
        page.wait_for_timeout(250)
        wait_until_still(page)


def write_texts(page: Page) -> None:
    """Write before and after on Compare, and wait until that is done: what others wrote may be there already."""
    button = page.get_by_role("button", name="Write before and after")
    with settled(page):
        button.click(delay=PRESS)
    page.locator(".st-key-stop_writing").wait_for(state="detached")
    page.locator(".compared article").first.wait_for()
    wait_until_still(page)


def open_settings(page: Page) -> None:
    """Open the folded bar of the page's settings, where it is not open."""
    bar = page.get_by_test_id("stMain").locator("details").filter(has=page.locator("summary", has_text="Settings:"))
    if bar.get_attribute("open") is None:
        bar.locator("summary").first.click()
    wait_until_still(page)
    # While a bar unfolds a click misses what it is meant for, and a list closes: no hand is as quick as that.
    height, before = bar.evaluate("bar => bar.offsetHeight"), None
    while height != before:
        page.wait_for_timeout(UNFOLDS)
        height, before = bar.evaluate("bar => bar.offsetHeight"), height


def move_slider(page: Page, label: str, key: str, times: int = 1, thumb: int = 0) -> None:
    """Move a slider of the sidebar by the keyboard, as many steps as `times`."""
    handle = page.get_by_test_id("stSidebar").get_by_role("group", name=label).locator("input").nth(thumb)
    handle.focus()
    with settled(page):
        for _ in range(times):
            page.keyboard.press(key)


def click_in_chart(page: Page, x: float, y: float) -> None:
    """Point at a place of a chart until the chart says what is there, which it does a moment after it is drawn, and
    click."""
    end, step = time.monotonic() + SECONDS, 0
    while page.locator(".js-plotly-plot .hoverlayer > *").count() == 0:
        assert time.monotonic() < end, "the chart says nothing"
        page.mouse.move(x + step % 2, y)
        page.wait_for_timeout(100)
        step += 1
    page.mouse.click(x, y)


def set_width(page: Page, width: int) -> None:
    """Make the window `width` pixels wide, and wait until the page has taken to it."""
    page.set_viewport_size({"width": width, "height": 900})
    page.wait_for_timeout(500)
    wait_until_still(page)


def hangs_over(page: Page) -> int:
    """How many pixels the page could be scrolled sideways."""
    return page.get_by_test_id("stMain").evaluate("main => main.scrollWidth - main.clientWidth")
