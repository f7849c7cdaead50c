"""Take the pictures of the README and of the documentation: every page of the dashboard on the bundled model.

    .venv/bin/python -m tools.take_pictures [PAGE…]

The Overview becomes docs/overview.png, every other page docs/pictures/PAGE.png, as a first visitor sees it once it is
whole: in the light theme, with toxic words blurred. Everything is worked out anew, in a folder of its own, which takes
some minutes. It needs what the tests need, Chromium, and a machine that does nothing else meanwhile.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.dashboard import STILL, chromium, open_page, run_server
from ui.frame.frame import CONTENT_NOTE

if TYPE_CHECKING:
    from playwright.sync_api import Page

DOCS = Path(__file__).parents[1] / "docs"
WIDTH, HEIGHT = 1440, 900
PATIENCE = 900_000
"""Milliseconds that the longest work on a page may take."""
CALM = 1000
"""Milliseconds in which charts move into place, and work that follows other work begins."""
STOPS = "[class*=st-key-stop_]"
"""The buttons that stop work, on its page and in the sidebar: there are some for as long as any goes on."""


@dataclass(frozen=True)
class Picture:
    """A page as it is taken."""

    page: str
    """Its folder, which is its address too."""
    shows: str
    """CSS of what is there once it is whole."""
    press: str = ""
    """The button that begins its work, or how its name begins; none where it begins by itself."""
    asks: str = ""
    """What its address holds besides: what is picked on it."""
    top: str = ""
    """CSS of what stands at the top of the picture; the page's title where there is none."""

    @property
    def address(self) -> str:
        """Its address on the server; the first page is the one at /."""
        return f"/{'' if self.page == 'overview' else self.page}{self.asks}"

    @property
    def file(self) -> Path:
        return DOCS / "overview.png" if self.page == "overview" else DOCS / "pictures" / f"{self.page}.png"


PICTURES = (
    Picture("overview", ".said"),
    Picture("model_and_pairs", ".strip"),
    Picture("spectrum", ".js-plotly-plot"),
    Picture("directions", ".poles", asks="?layer=6&direction=1"),
    Picture("map", ".js-plotly-plot", "Run the edited model"),
    Picture("token_lens", ".lens"),
    Picture("compare", ".compared article", "Write before and after"),
    Picture("trade_offs", ".js-plotly-plot", "Try "),
    Picture("evaluate", ".js-plotly-plot", "Evaluate this edit"),
    Picture("decide", ".js-plotly-plot", "Find out"),
    Picture("take_away", ".js-plotly-plot", "Make the adapter"),
    Picture("claims", ".claim"),
    Picture("learn", ".js-plotly-plot", asks="?lesson_step=4&lesson_noise=1&lesson_shown=noise"),
)
"""In the order of the sidebar."""


def take(page: Page, address: str, picture: Picture) -> None:
    """Open the page, let it do its work, and take it."""
    page.goto(f"{address}{picture.address}")
    page.locator("h1").first.wait_for()
    wait_until_whole(page)
    if picture.press:
        page.get_by_role("button", name=re.compile(f"^{re.escape(picture.press)}")).first.click()
        wait_until_whole(page)
    page.locator(picture.shows).first.wait_for()
    # The pointer would show what is under it.
    page.mouse.move(0, 0)
    top = page.locator(picture.top).first if picture.top else page.get_by_test_id("stMain")
    top.evaluate("element => { element.scrollTo(0, 0); element.scrollIntoView(); }")
    if picture.top:
        # The bar at the top of the window lies over what begins there.
        page.get_by_test_id("stMain").evaluate("main => main.scrollBy(0, -80)")
    page.wait_for_timeout(CALM)
    picture.file.parent.mkdir(exist_ok=True)
    page.screenshot(path=picture.file)


def wait_until_whole(page: Page) -> None:
    """Wait until no script runs and no work goes on, and none has begun a moment later."""
    calm = 0
    while calm < 3:
        page.locator(STILL).wait_for()
        calm = calm + 1 if page.locator(STOPS).count() == 0 else 0
        page.wait_for_timeout(CALM)


def main(chosen: Sequence[str]) -> None:
    os.environ[CONTENT_NOTE] = "off"
    unknown = set(chosen) - {picture.page for picture in PICTURES}
    if unknown:
        raise SystemExit(f"There is no page {', '.join(sorted(unknown))}.")
    with tempfile.TemporaryDirectory() as cache, run_server(Path(cache)) as server, chromium() as browser:
        page = open_page(browser, server.address)
        page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
        page.set_default_timeout(PATIENCE)
        # The study is fitted and its suggestion checked before any page is whole.
        page.get_by_text("Confirmed beside").wait_for()
        for picture in PICTURES:
            if not chosen or picture.page in chosen:
                take(page, server.address, picture)
                print(f"{picture.file} was taken.", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
