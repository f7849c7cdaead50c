"""Take the README's picture: the Overview of the bundled model, as a first visitor sees it once it is whole.

    .venv/bin/python -m tools.take_pictures

It needs what the tests need, and Chromium.
"""

from pathlib import Path

from benchmarks.dashboard import STILL, chromium, open_page, run_server
from ui.session.folders import cache_folder

FILE = Path(__file__).parents[1] / "docs" / "overview.png"
WIDTH, HEIGHT = 1440, 900
PATIENCE = 300_000
"""Milliseconds: a study that is not kept yet is fitted and checked first."""


def main() -> None:
    with run_server(cache_folder().parent) as address, chromium() as browser:
        page = open_page(browser, address)
        page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
        page.get_by_text("Confirmed.").wait_for(timeout=PATIENCE)
        page.get_by_role("button", name="Go on").click()
        page.locator(".said").wait_for(timeout=PATIENCE)
        page.locator(STILL).wait_for(timeout=PATIENCE)
        page.wait_for_timeout(1000)  # charts move into place
        page.screenshot(path=FILE)
    print(f"{FILE} was taken.")


if __name__ == "__main__":
    main()
