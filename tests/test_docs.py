"""The documentation builds, asks no other machine for anything, and says what the code says."""

import re
import shlex
import socket
from dataclasses import fields
from html.parser import HTMLParser
from pathlib import Path

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config
from typer.main import get_command

from detox_engine.cli.main import app
from detox_engine.export.receipt import Receipt
from detox_engine.export.recipe import Recipe
from pages.navigation import PAGES
from tools.take_pictures import DOCS, PICTURES
from tools.write_reference import FILE, write_reference

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "mkdocs.yml"
FETCHED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "object": "data"}
"""What a browser asks for by itself, and where the address stands; a link waits for a click."""
LATER = {"canonical", "next", "prev"}
"""Links that a browser does not follow by itself."""
ELSEWHERE = re.compile(r"^(\w+:)?//")
TOUR = (DOCS / "tour.md").read_text(encoding="utf-8")


class Fetches(HTMLParser):
    """What a browser asks for as it draws a page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        if tag in FETCHED and told.get(FETCHED[tag]) and told.get("rel") not in LATER:
            self.found.append(told[FETCHED[tag]])


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The documentation, built while no other machine can be reached; a link that leads nowhere is an error."""
    folder = tmp_path_factory.mktemp("site")

    def refuse(*_: object) -> None:
        raise OSError("there is no network")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        config = load_config(str(CONFIG), site_dir=str(folder))
        assert config.strict
        build(config)
    return folder


def test_no_page_asks_another_machine_for_anything(site):
    pages = list(site.rglob("*.html"))
    fetched = {(page.name, what) for page in pages for what in Fetches(page).found}
    styles = {
        (style.name, what)
        for style in site.rglob("*.css")
        for what in re.findall(r"(?:url\(|@import\s*)[\"']?([^\"')\s]+)", style.read_text(encoding="utf-8"))
    }
    assert len(pages) > 10 and len(fetched) > 10 and styles
    assert {each for each in fetched | styles if ELSEWHERE.match(each[1])} == set()


def test_every_equation_is_set(site):
    page = (site / "method.html").read_text(encoding="utf-8")
    assert page.count("<math") > 20 and "arithmatex" not in page and "$" not in re.sub(r"<script.*?</script>", "", page)


def test_every_page_of_the_documentation_is_in_its_list():
    listed = [page for entry in load_config(str(CONFIG)).nav for page in entry.values()]
    assert sorted(listed) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


def test_the_commands_are_those_of_the_program():
    assert FILE.read_text(encoding="utf-8") == write_reference(), "run: python -m tools.write_reference"


def list_spelled() -> list[str]:
    """Every command of a page of the documentation that stands on a line of its own."""
    pages = (page for page in DOCS.glob("*.md") if page != FILE)
    texts = (page.read_text(encoding="utf-8").replace("\\\n", " ") for page in pages)
    return sorted({line for text in texts for line in re.findall(r"^ *(detox [a-z].*)$", text, re.MULTILINE)})


@pytest.mark.parametrize("line", list_spelled())
def test_a_command_can_be_run_as_it_is_spelled(line):
    _, *words = shlex.split(line)
    command = get_command(app)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_context(line, words)


def test_the_tour_has_every_page_with_its_question():
    titles = re.findall(r"^## (.+)$", TOUR, re.MULTILINE)
    assert titles == [title for pages in PAGES.values() for _, title, *_ in pages]
    for folder in (folder for pages in PAGES.values() for folder, *_ in pages):
        source = (ROOT / "pages" / folder / "page.py").read_text(encoding="utf-8")
        [question] = re.findall(r'^HEAD = Head\("[^"]+", "([^"]+)"', source, re.MULTILINE)
        assert f"\n*{question}* " in TOUR


def test_the_tour_shows_every_picture_that_was_taken():
    assert [picture.page for picture in PICTURES] == [folder for pages in PAGES.values() for folder, *_ in pages]
    shown = re.findall(r"^!\[.+\]\((.+)\)$", TOUR, re.MULTILINE)
    assert shown == [str(picture.file.relative_to(DOCS)) for picture in PICTURES if picture.file.exists()]


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.page)
def test_a_picture_presses_a_button_of_its_page(picture):
    folder = ROOT / "pages" / picture.page
    assert any(picture.press in file.read_text(encoding="utf-8") for file in folder.glob("*.py"))


@pytest.mark.parametrize(("title", "kind"), [("The receipt", Receipt), ("The recipe", Recipe)])
def test_the_fields_of_a_record_are_all_told(title, kind):
    text = (DOCS / "files.md").read_text(encoding="utf-8")
    part = text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    told = re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE)
    assert told == ["format", *(field.name for field in fields(kind))]


def test_files_are_called_as_the_code_calls_them():
    text = (DOCS / "files.md").read_text(encoding="utf-8")
    sources = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "detox_engine").rglob("*.py"))
    named = set(re.findall(r"`([\w.]+\.(?:jsonl?|safetensors|html|gguf))`", text))
    assert len(named) > 10 and [name for name in named if f'{name}"' not in sources] == []
