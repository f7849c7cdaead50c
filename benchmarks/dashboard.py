"""The dashboard in a real browser: cold start, a slider's move to the redrawn chart, page to page."""

import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import typer

from benchmarks.side_by_side import Figure

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[1]
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
PAGES = (
    "Spectrum",
    "Directions",
    "Map",
    "Token lens",
    "Compare",
    "Trade-offs",
    "Evaluate",
    "Decide",
    "Take away",
    "Claims",
    "Learn",
    "Model & pairs",
    "Overview",
)
STILL = "[data-testid=stApp][data-test-script-state=notRunning]"
USABLE = f"{STILL} [class*=st-key-edit_strength] input"
"""The edit plan is there, so the study is, and nothing runs any more."""

WATCH = """() => {
    if (window.watching) return;
    window.watching = true;
    window.first = window.last = 0;
    const inChart = node => node.parentElement?.closest('.js-plotly-plot');
    const inPicture = node => inChart(node) || node.parentElement?.closest('.compared');
    new MutationObserver(changes => {
        const now = performance.now();
        if (!window.first && changes.some(change => inChart(change.target))) window.first = now;
        if (changes.some(change => inPicture(change.target))) window.last = now;
    }).observe(document.body, {subtree: true, childList: true, attributes: true, characterData: true});
    window.addEventListener('keydown', () => {
        window.pressed = performance.now(); window.first = window.last = 0;
    }, true);
}"""
"""Notes when a key was pressed, and when a chart, or texts side by side, first and last changed after it, in the
browser's own time."""

TURN = """([name, still]) => new Promise(turned => {
    const links = [...document.querySelectorAll('[data-testid=stSidebarNav] a')];
    const start = performance.now();
    const look = () => {
        const heads = [...document.querySelectorAll('h1')];
        if (!document.querySelector(still) || !heads.some(head => head.innerText.trim() === name)) return;
        observer.disconnect();
        turned(performance.now() - start);
    };
    const observer = new MutationObserver(look);
    observer.observe(document.body, {subtree: true, childList: true, attributes: true, characterData: true});
    links.find(link => link.innerText.trim().endsWith(name)).click();
})"""
"""Follows a link of the sidebar; the milliseconds until its page is there and nothing runs."""


class Move(NamedTuple):
    """Seconds from a key on a slider."""

    first: float
    """To the first change of a chart."""
    last: float
    """To the last change of a picture."""


class Server(NamedTuple):
    """A dashboard that is served."""

    address: str
    process: subprocess.Popen


def find_browser() -> str:
    """The program of Chromium; a sentence ends the command where it, or what drives it, is not installed."""
    if find_spec("playwright") is None:
        raise typer.BadParameter(
            "The dashboard is timed in a real browser: install the tests' packages (pip install -r "
            "requirements-dev.txt), or name the other benchmarks."
        )
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next((found for name in names if (found := shutil.which(name))), None)
    if program is None:
        raise typer.BadParameter(
            "The dashboard is timed in a real browser: install Chromium (Debian: apt-get install chromium), or name "
            "the other benchmarks."
        )
    return program


@contextmanager
def chromium() -> Iterator["Browser"]:
    """A browser that is open already, as a person's is."""
    program = find_browser()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        yield browser
        browser.close()


@contextmanager
def run_server(cache: Path) -> Iterator[Server]:
    """A dashboard that is just starting, on a free port, with its cache in `cache`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ("--server.headless=true", f"--server.port={port}", "--server.address=127.0.0.1")
    process = subprocess.Popen(
        (sys.executable, "-m", "streamlit", "run", "app.py", *options),
        cwd=ROOT,
        env=environment(cache),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield Server(f"http://127.0.0.1:{port}", process)
    finally:
        process.terminate()
        process.wait(20)


def environment(cache: Path) -> dict[str, str]:
    """Of a process whose cache is `cache`, and which asks nothing of the Hub."""
    return os.environ | {"XDG_CACHE_HOME": str(cache), "HF_HUB_OFFLINE": "1"}


def open_page(browser: "Browser", address: str) -> "Page":
    """The dashboard's first page, asked for until the server answers."""
    from playwright.sync_api import Error

    page = browser.new_page(viewport={"width": 1440, "height": 1000})
    page.set_default_timeout(120_000)
    while True:
        try:
            page.goto(address, wait_until="commit")
            break
        except Error:
            time.sleep(0.05)
    page.locator("h1").first.wait_for()
    return page


def time_start(browser: "Browser", cache: Path) -> tuple[float, float]:
    """Seconds from starting the server to the first page's title, and to the page as a person can use it."""
    start = time.perf_counter()
    with run_server(cache) as server:
        page = open_page(browser, server.address)
        painted = time.perf_counter() - start
        page.locator(USABLE).first.wait_for(state="attached")
        usable = time.perf_counter() - start
        page.close()
    return painted, usable


def time_opening(browser: "Browser", address: str) -> float:
    """Seconds to all three pictures and the words of the Overview, for a visitor to a server that runs already."""
    start = time.perf_counter()
    page = open_page(browser, address)
    for part in (".compared", ".st-key-overview_ridges .main-svg", ".st-key-overview_dumbbells .main-svg", ".said"):
        page.locator(part).first.wait_for()
    seconds = time.perf_counter() - start
    page.close()
    return seconds


def time_slider(page: "Page", address: str, label: str, moves: int) -> list[Move]:
    """What a key on a slider takes to be seen on a page; all that it leads to is waited for between two keys."""
    page.goto(address)
    page.locator(USABLE).first.wait_for(state="attached")
    page.locator(".js-plotly-plot").nth(1).wait_for()
    page.wait_for_timeout(2000)
    page.evaluate(WATCH)
    slider = page.get_by_role("group", name=label).locator("input").first
    seconds = []
    for move in range(moves):
        slider.focus()
        page.keyboard.press("ArrowRight" if move % 8 < 4 else "ArrowLeft")
        page.wait_for_function("window.first > 0")
        # Long enough for whatever is still worked out to have begun to be drawn.
        page.wait_for_function("performance.now() - window.last > 1500")
        page.locator(STILL).wait_for()
        first, last = page.evaluate("[window.first - window.pressed, window.last - window.pressed]")
        seconds.append(Move(first / 1000, last / 1000))
    return seconds


def time_pages(page: "Page", rounds: int) -> dict[str, list[float]]:
    """Page -> seconds, in the browser's own time, from the click on its link until it is there and nothing runs."""
    seconds: dict[str, list[float]] = {name: [] for name in PAGES}
    for _ in range(rounds):
        for name in PAGES:
            seconds[name].append(page.evaluate(TURN, [name, STILL]) / 1000)
            page.wait_for_timeout(300)
    return seconds


def _moved(name: str, moves: list[float], must: float) -> Figure:
    return Figure(name, statistics.median(moves), "s", 0.5, must, {"moves": moves})


def measure(quick: bool) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        cache = Path(folder)
        # What installation does, and one start that nobody waits for: the disk's own cache is warm in every round.
        subprocess.run((sys.executable, "-m", "ui.session.kept_study"), cwd=ROOT, env=environment(cache), check=True)
        starts = [time_start(browser, cache) for _ in range(1 if quick else 4)]
        painted, usable = (statistics.median(times) for times in zip(*starts[-3:], strict=True))
        # What a start has made up for the Overview is kept with the study, as installation keeps it.
        subprocess.run((sys.executable, "-m", "pages.overview"), cwd=ROOT, env=environment(cache), check=True)
        with run_server(cache) as server:
            page = open_page(browser, server.address)
            page.locator(USABLE).first.wait_for(state="attached")
            opened = [time_opening(browser, server.address) for _ in range(1 if quick else 5)]
            # The first round imports what pages need, which one visitor of a server waits for; the pictures that it
            # leads to are measured once.
            first = time_pages(page, 1)
            page.wait_for_timeout(1000 if quick else 20_000)
            pages = time_pages(page, 1 if quick else 3)
            # The method with several directions to a layer: the others have no rank to move.
            moves = time_slider(page, f"{server.address}/spectrum?method=detox", "Rank", 5 if quick else 16)
            strengths = time_slider(page, server.address, "How much is removed", 3 if quick else 8)
    firsts = [seconds for times in first.values() for seconds in times]
    changes = [seconds for times in pages.values() for seconds in times]
    return [
        Figure("dashboard: cold start to first paint", painted, "s"),
        Figure("dashboard: cold start to a usable first page", usable, "s", 10, 5),
        Figure("dashboard: first page, all of it, of a visitor to a running server", statistics.median(opened), "s", 3),
        _moved("slider to redrawn chart, median", [move.first for move in moves], 0.25),
        _moved("strength on the Overview to text, map and numbers, median", [move.last for move in strengths], 0.5),
        Figure("page to page, every page three times, median", statistics.median(changes), "s", 0.3, None, pages),
        Figure(
            "page to page, every page for the first time, median", statistics.median(firsts), "s", None, None, first
        ),
    ]
