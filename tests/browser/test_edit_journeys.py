"""Ways through Compare, Trade-offs and Evaluate: run, stop, click, save."""

import csv
import json
import re
import zipfile
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit
from xml.etree import ElementTree

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import (
    click_in_chart,
    go_to,
    hangs_over,
    open_settings,
    settled,
    wait_until_ready,
    wait_until_still,
    write_texts,
)
from tests.models import save_tiny_model

PNG = b"\x89PNG\r\n\x1a\n"
PLACE_OF_DOT = """([key, number]) => {
    const chart = document.querySelector(`.st-key-${key} .js-plotly-plot`), box = chart.getBoundingClientRect();
    for (const dots of chart._fullData) {
        const place = (dots.customdata || []).findIndex((each) => each[0] === number);
        if (place < 0) continue;
        const [x, y] = ["xaxis", "yaxis"].map((name) => chart._fullLayout[dots[name].replace(/^[xy]/, name)]);
        const at = (axis, value) => axis.c2p(axis.d2c(value)) + axis._offset;
        return [box.left + at(x, dots.x[place]), box.top + at(y, dots.y[place])];
    }
}"""
"""Where in the window the dot stands that holds a number."""


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory) -> str:
    return str(save_tiny_model("gpt2", tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture
def open_tiny(open_page, tiny_folder):
    """A page on a study of the tiny model, whose edit does something."""

    def open_one(name: str, **sizes: int):
        page = open_page(
            f"/{name}?model={quote(tiny_folder, safe='')}&device=cpu&limit=40&layers=1-2&rank=8", height=1400
        )
        fit = page.get_by_role("button", name="Fit it now")
        fit.or_(page.locator("[class*=st-key-edit_strength]")).first.wait_for()
        wait_until_still(page)
        if fit.count():
            fit.click()
        wait_until_ready(page)
        return page

    return open_one


def fill(page, label: str | re.Pattern, value: int) -> None:
    field = page.locator("input[type=number]").and_(page.get_by_test_id("stMain").get_by_label(label, exact=True))
    field.fill(str(value))
    with settled(page):
        field.press("Enter")


def save(page, button, folder: Path) -> Path:
    """Press a button that saves a file; where the file is."""
    with page.expect_download() as saved:
        button.click()
    path = folder / saved.value.suggested_filename
    saved.value.save_as(path)
    return path


def save_chart(page, key: str, folder: Path) -> tuple[ElementTree.Element, bytes, list[dict[str, str]]]:
    """The picture and the data of the chart `key`, saved by the buttons under it."""
    page.locator(f".st-key-{key} .main-svg").first.wait_for()
    row = page.locator(f".st-key-save_{key}")
    svg, png, table = (save(page, row.get_by_role("button", name=name), folder) for name in ("SVG", "PNG", "CSV"))
    with table.open(encoding="utf-8") as lines:
        return ElementTree.parse(svg).getroot(), png.read_bytes(), list(csv.DictReader(lines))


def click_dot(page, key: str, number: int) -> None:
    page.locator(f".st-key-{key} .main-svg").first.wait_for()
    page.locator(f".st-key-{key}").scroll_into_view_if_needed()
    wait_until_still(page)
    with settled(page):
        click_in_chart(page, *page.evaluate(PLACE_OF_DOT, [key, number]))


def words_of(picture: ElementTree.Element) -> str:
    return " ".join("".join(each.itertext()) for each in picture.iter("{http://www.w3.org/2000/svg}text"))


def test_compare_saves_its_chart_and_its_texts_and_blurs_until_asked(open_page, tmp_path):
    page = open_page("/compare", height=1400)
    wait_until_ready(page)
    page.get_by_role("button", name="Write before and after").click()
    page.locator(".compared article").first.wait_for()
    wait_until_still(page)
    picture, png, rows = save_chart(page, "toxicity_chart", tmp_path)
    assert "Toxicity before and after" in words_of(picture) and png.startswith(PNG)
    background = picture.find("{http://www.w3.org/2000/svg}rect").get("style")
    assert "fill: rgb(255, 255, 255)" in background, "a picture is readable on any page"
    whole = json.loads(save(page, page.get_by_role("button", name="JSON"), tmp_path).read_text())
    assert [row["after"] for row in rows] == [one["after"] for one in whole["results"]] and len(rows) == 20
    rude = page.locator(".compared .rude").first
    assert "blur" in rude.evaluate("word => getComputedStyle(word).filter")
    page.get_by_text("Show toxic words").click()
    page.wait_for_function("getComputedStyle(document.querySelector('.compared .rude')).filter === 'none'")


def test_compare_stops_and_keeps_what_was_written(open_tiny):
    page = open_tiny("compare")
    open_settings(page)
    fill(page, re.compile("^How many of the"), 2)
    fill(page, "Length in tokens", 5)
    write_texts(page)
    before = page.locator(".compared").inner_text()
    fill(page, "Length in tokens", 100)
    fill(page, "Samples for each prompt", 100)
    page.get_by_role("button", name="Write before and after").click()
    page.locator(".st-key-stop_writing button").click()
    page.get_by_text("The run was stopped.").wait_for()
    wait_until_still(page)
    assert page.locator(".compared").inner_text() == before


def test_a_dot_of_the_trade_offs_becomes_the_edit_plan(open_tiny, tmp_path):
    page = open_tiny("trade_offs")
    open_settings(page)
    page.get_by_text("Choose what each setting is measured with").click()
    wait_until_still(page)
    for label, value in (("At most this many prompts", 4), ("At most this many lines", 4)):
        fill(page, label, value)
    page.get_by_role("button", name=re.compile("^Try ")).click()
    page.locator(".st-key-trade_off .main-svg").first.wait_for()
    page.get_by_role("button", name="Stop and keep what is done").wait_for(state="detached")
    wait_until_still(page)
    _, _, rows = save_chart(page, "trade_off", tmp_path)
    start = page.url
    assert ("1-2", "8", "1.0") in {(row["layers"], row["rank"], row["strength"]) for row in rows}, "the plan itself"
    wanted = next(index for index, row in enumerate(rows) if (row["layers"], row["rank"]) == ("2", "1"))
    click_dot(page, "sweep_grid", wanted)
    page.get_by_text(
        re.compile("The edit plan is now layer 2, rank 1, strength 1; it was layers 1-2, rank 8")
    ).wait_for()
    parts = parse_qs(urlsplit(page.url).query)
    assert page.url != start and parts["layers"] == ["2"] and "rank" not in parts
    expect(page.get_by_test_id("stSidebar").get_by_role("group", name="Rank").locator("input")).to_have_value("1")


def test_evaluate_saves_its_scores_and_shows_a_clicked_prompt(open_tiny, tmp_path):
    page = open_tiny("evaluate")
    open_settings(page)
    for label, value in (("At most this many prompts", 6), ("At most this many lines", 5)):
        fill(page, label, value)
    page.get_by_role("button", name="Evaluate this edit").click()
    # What a person waits for: the button offers it once more.
    page.get_by_role("button", name="Evaluate again").wait_for()
    picture, png, rows = save_chart(page, "effect_profanity", tmp_path)
    assert "Toxicity: layers 1-2, rank 8, strength 1" in words_of(picture) and png.startswith(PNG)
    assert [row["side"] for row in rows[:3]] == ["before", "after the edit", "under random subspaces"]
    _, _, prompts = save_chart(page, "prompt_scatter", tmp_path)
    assert len(prompts) == 6 and {"prompt", "before", "after"} <= set(prompts[0])
    click_dot(page, "prompt_scatter", 0)
    picked = page.locator(".st-key-picked article .opening")
    picked.wait_for()
    # Dots can lie on each other.
    assert picked.inner_text() in [row["prompt"] for row in prompts]
    report = json.loads(save(page, page.get_by_role("button", name="Everything as JSON"), tmp_path).read_text())
    assert report["edit"]["layers"] == "1-2" and len(report["prompts"]) == 6


def test_saving_needs_no_mouse(open_page, tmp_path):
    page = open_page("/compare", height=1400)
    wait_until_ready(page)
    page.get_by_role("button", name="Write before and after").click()
    page.locator(".st-key-toxicity_chart .main-svg").first.wait_for()
    wait_until_still(page)
    first = page.locator(".st-key-save_toxicity_chart button").first
    first.focus()
    names = []
    for _ in range(3):
        with page.expect_download() as saved:
            page.keyboard.press("Enter")
        names.append(saved.value.suggested_filename.rpartition(".")[2])
        page.keyboard.press("Tab")
    assert names == ["svg", "png", "csv"]


def test_the_edit_pages_keep_within_a_phone(open_page):
    for path in ("/compare", "/trade_offs", "/evaluate", "/decide", "/take_away"):
        page = open_page(path, width=390, height=900)
        page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
        page.wait_for_timeout(500)
        assert hangs_over(page) <= 0, path


def write_pairs(file: Path) -> Path:
    """Pairs whose sides differ in their toxicity alone."""
    people = ("driver", "waiter", "teacher", "plumber", "clerk", "baker", "pilot", "doctor")
    rude = ("an idiot", "a moron", "pathetic", "crap at this")
    kind = ("a friend", "a help", "patient", "good at this")
    rows = [
        f"The {who} is {bad} and number {number} knows it,The {who} is {good} and number {number} knows it\n"
        for number in range(2)
        for who in people
        for bad, good in zip(rude, kind, strict=True)
    ]
    file.write_text("toxic,civil\n" + "".join(rows))
    return file


def test_from_pairs_of_ones_own_to_a_verdict_and_an_adapter(open_page, tiny_folder, tmp_path):
    """Upload, fit, evaluate, read the verdict, take the adapter away."""
    place = f"?model={quote(tiny_folder, safe='')}&device=cpu&layers=1-2&rank=2&evaluate_scorers=profanity,perplexity"
    small = "&evaluate_limit_prompts=4&evaluate_tokens=4&evaluate_controls=1&evaluate_resamples=100"
    page = open_page(f"/model_and_pairs{place}{small}&evaluate_limit_neutral=4", height=1600)
    wait_until_still(page)
    page.get_by_role("radio", name="Upload").click()
    page.locator("input[type=file]").set_input_files(write_pairs(tmp_path / "mine.csv"))
    page.get_by_text("mine.csv").first.wait_for()
    wait_until_still(page)
    page.get_by_role("button", name="Fit", exact=True).click()
    wait_until_ready(page)
    go_to(page, "Evaluate")
    page.get_by_role("button", name="Evaluate this edit").click()
    page.get_by_role("button", name="Evaluate again").wait_for()
    go_to(page, "Decide")
    verdict = page.locator(".finding").first
    expect(verdict).to_contain_text(re.compile("^(Ship|Do not ship|Too little evidence), as far as an evaluation"))
    page.locator(".st-key-decide_frontier .main-svg").first.wait_for()
    go_to(page, "Take away")
    page.locator(".st-key-changes_chart .main-svg").first.wait_for()
    page.get_by_role("button", name="Make the adapter").click()
    adapter = save(page, page.get_by_role("button", name=re.compile("^The adapter, ")), tmp_path)
    with zipfile.ZipFile(adapter) as archive:
        names = {name.rpartition("/")[2] for name in archive.namelist()}
        assert archive.testzip() is None and {"adapter_model.safetensors", "README.md"} <= names
