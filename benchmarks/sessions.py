"""Twenty visitors at once, each with an edit of its own: what they wait for, and whether each gets its own answer.

What a session is shown while nineteen others work is held against what the same link shows to one visitor alone.
"""

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil

from benchmarks.dashboard import FLAGS, ROOT, STILL, USABLE, environment, find_browser, run_server
from benchmarks.side_by_side import Figure
from detox_engine.plans.edit import EditPlan, describe_edit

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

SESSIONS = 20
LONGEST = 180_000
"""Milliseconds that a visitor waits for one thing."""
THINKING = 3.0
"""Seconds within which the visitors, who do not know of one another, press their buttons."""


class Visit(NamedTuple):
    """What one visitor saw, and how long it took."""

    opened: float
    """Seconds to a usable first page."""
    written: float
    """Seconds from the button to both continuations."""
    turned: float
    """Seconds from a click in the sidebar to the next page."""
    texts: list[str]
    """The continuations before and after."""


def plan_of(session: int) -> EditPlan:
    """A plan that no other session has."""
    return EditPlan(tuple(range(session % 8, 8)), 1 + session % 3, 0.5 + session / 10)


def link_of(session: int) -> str:
    """Where the session compares texts with its plan."""
    plan = plan_of(session)
    asked = f"layers={plan.layers[0]}-{plan.layers[-1]}&rank={plan.rank}&strength={plan.strength:g}"
    return f"compare?method={plan.method}&{asked}"


async def visit(browser: "Browser", address: str, session: int, wait: float = 0.0) -> Visit:
    """Open the session's link, write, turn to another page and back."""
    context = await browser.new_context(viewport={"width": 1440, "height": 900})
    page = await context.new_page()
    page.set_default_timeout(LONGEST)
    await asyncio.sleep(wait)
    opened = await _time(page.goto(f"{address}/{link_of(session)}"), _usable(page))
    write = page.get_by_role("button", name="Write before and after", exact=True)
    own = page.get_by_text(f"edit: {describe_edit(plan_of(session))};")
    written = await _time(write.click(), own.wait_for(), page.locator(STILL).wait_for())
    texts = await page.locator(".compared .written").all_inner_texts()
    navigation = page.get_by_test_id("stSidebarNav")
    turned = await _time(
        navigation.get_by_role("link", name="Spectrum", exact=True).click(),
        page.get_by_role("heading", name="Spectrum", level=1, exact=True).wait_for(),
        page.locator(STILL).wait_for(),
    )
    await context.close()
    return Visit(opened, written, turned, texts)


async def _usable(page: "Page") -> None:
    await page.locator(USABLE).first.wait_for(state="attached")


async def _time(*steps: Awaitable) -> float:
    start = time.perf_counter()
    for step in steps:
        await step
    return time.perf_counter() - start


@asynccontextmanager
async def launch() -> AsyncIterator["Browser"]:
    """A browser for many visitors."""
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=find_browser(), args=list(FLAGS))
        yield browser
        await browser.close()


async def welcome(address: str) -> None:
    """The first visitor to a server, who waits for imports: that is what `dashboard` measures."""
    async with launch() as browser:
        page = await browser.new_page()
        page.set_default_timeout(LONGEST)
        while not await _answers(page, address):
            await asyncio.sleep(0.2)
        await _usable(page)


async def _answers(page: "Page", address: str) -> bool:
    from playwright.async_api import Error

    try:
        await page.goto(f"{address}/compare")
    except Error:
        return False
    return True


async def visit_all(address: str, waits: list[float], at_once: bool) -> list[Visit]:
    """A visitor for each wait, all of them at once or one after the other."""
    async with launch() as browser:
        visits = [visit(browser, address, session, wait) for session, wait in enumerate(waits)]
        return list(await asyncio.gather(*visits)) if at_once else [await one for one in visits]


def serve(waits: list[float], at_once: bool) -> tuple[list[Visit], float]:
    """What the visitors of a new dashboard saw, which keeps nothing of another, and the bytes that it grew by."""
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        subprocess.run((sys.executable, "-m", "ui.session.kept_study"), cwd=ROOT, env=environment(cache), check=True)
        with run_server(cache) as server:
            asyncio.run(welcome(server.address))
            process = psutil.Process(server.process.pid)
            before = process.memory_info().rss
            found = asyncio.run(visit_all(server.address, waits, at_once))
            return found, process.memory_info().rss - before


def measure(quick: bool) -> list[Figure]:
    sessions = 3 if quick else SESSIONS
    together, grown = serve([THINKING * session / sessions for session in range(sessions)], at_once=True)
    alone, _ = serve([0.0] * sessions, at_once=False)
    wrong = sum(one.texts != other.texts or len(one.texts) < 2 for one, other in zip(together, alone, strict=True))
    distinct = len({tuple(one.texts) for one in alone})
    if distinct < 2:
        raise RuntimeError("All edits wrote the same, so that nothing tells the sessions apart.")

    def figure(name: str, of: Callable[[Visit], float]) -> Figure:
        many, few = (sorted(map(of, visits)) for visits in (together, alone))
        ratio = statistics.median(many) / statistics.median(few)
        told = {"at once": many, "alone": few}
        return Figure(f"{name}, median ({ratio:.1f} × alone)", statistics.median(many), "s", details=told)

    return [
        Figure(f"{sessions} sessions at once: those shown another's answer", wrong, "", 0),
        Figure(f"{sessions} sessions: different answers among them", distinct, ""),
        figure(f"{sessions} sessions at once: link to a usable page", lambda one: one.opened),
        figure(f"{sessions} sessions at once: button to both texts", lambda one: one.written),
        figure(f"{sessions} sessions at once: page to page", lambda one: one.turned),
        Figure(f"{sessions} sessions at once: what the server grew by", grown / 1e6, "MB"),
    ]
