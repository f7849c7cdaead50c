"""Links and files of strangers, a full disk, a visitor who leaves: nothing gets through, nothing goes on for ever."""

import re
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import new_tab, run_server, wait_until_ready, wait_until_still
from tests.fuzz import EXAMPLES

SESSIONS = 8 if EXAMPLES > 100 else 3
SECRET = "a sentence that only the server knows"
PRIVATE = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
import ui.work.jobs
ui.work.jobs.FORSAKEN_SECONDS = 1
"""
"""What makes a server on whose disk no file grows beyond 200,000 bytes, and whose work ends a second after its person
has gone."""


def write_pairs(file: Path, word: str, count: int = 6) -> Path:
    rows = "".join(f"You {word} idiot {number},My {word} friend {number}\n" for number in range(count))
    file.write_text(f"toxic,civil\n{rows}")
    return file


def is_whole(page) -> str:
    """What the page says, which is no error of Python."""
    wait_until_still(page)
    expect(page.get_by_test_id("stException")).to_have_count(0)
    said = page.locator("body").inner_text()
    assert "Traceback" not in said
    return said


def test_a_link_alone_opens_nothing_and_breaks_nothing(open_page, tmp_path):
    file = tmp_path / "private.csv"
    file.write_text(f"toxic,civil\n{SECRET} 1,b\n{SECRET} 2,c\n")
    page = open_page(f"/?pairs={quote(str(file))}&layers={'9' * 5000}&rank=1e999")
    wait_until_ready(page)
    assert SECRET not in is_whole(page)
    server = re.match(r"https?://[^/]+", page.url)[0]
    hostile = f"pairs=~root%2F.ssh&model={quote('<img src=x onerror=alert(1)>' * 100)}&text=%00&strength=nan&layer=-1"
    for path in ("", "model_and_pairs", "token_lens"):
        page.goto(f"{server}/{path}?{hostile}")
        page.locator("h1").first.wait_for()
        is_whole(page)
        assert page.locator("img[src=x]").count() == 0


def test_uploads_of_sessions_are_invisible_to_one_another(open_page, tmp_path):
    words = [f"zebra{number}" for number in range(SESSIONS)]
    pages = [open_page("/model_and_pairs", height=1600) for _ in words]
    for page, word in zip(pages, words, strict=True):
        wait_until_still(page)
        page.get_by_role("radio", name="Upload").click()
        page.locator("input[type=file]").set_input_files(write_pairs(tmp_path / f"{word}.csv", word))
    for page, word in zip(pages, words, strict=True):
        page.get_by_text(f"{word}.csv").first.wait_for()
    for page, word in zip(pages, words, strict=True):
        said = is_whole(page)
        assert f"{word}.csv" in said
        assert not [other for other in words if other != word and other in said]


@pytest.fixture(scope="module")
def small_server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    with run_server(folder, PRIVATE) as (address, process):
        yield address, process, folder


def test_on_a_full_disk_an_upload_is_refused_and_leaves_nothing(chromium, small_server, tmp_path):
    address, _, folder = small_server
    page = new_tab(chromium)
    page.goto(f"{address}/model_and_pairs")
    wait_until_ready(page)
    page.get_by_role("radio", name="Upload").click()
    page.locator("input[type=file]").set_input_files(write_pairs(tmp_path / "large.csv", "large", 20_000))
    page.get_by_text("The upload large.csv cannot be kept").wait_for()
    is_whole(page)
    assert [path for path in (folder / "cache").rglob("*") if path.is_file() and "uploads" in path.parts] == []
    page.locator("input[type=file]").set_input_files(write_pairs(tmp_path / "small.csv", "small"))
    page.get_by_text("My small friend 1").first.wait_for(state="attached")
    page.close()


def test_work_ends_when_its_person_has_gone(chromium, small_server):
    address, process, _ = small_server
    page = new_tab(chromium)
    page.goto(f"{address}/evaluate?samples=8&max_new_tokens=60")
    wait_until_ready(page)
    page.get_by_role("button", name=re.compile("^Evaluate")).click()
    page.get_by_role("button", name="Stop").first.wait_for()
    page.wait_for_timeout(2000)
    assert is_busy(process)
    page.close()
    end = time.monotonic() + 60
    while is_busy(process):
        assert time.monotonic() < end, "it still works for nobody"


def is_busy(process: int) -> bool:
    """Whether a process uses more than a tenth of a core over a second."""
    before = spent(process)
    time.sleep(1)
    return spent(process) - before > 0.1


def spent(process: int) -> float:
    """Seconds of a core that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100
