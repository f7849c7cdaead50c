"""The Map in a real browser: run the edited model, follow the layers, join the twins, pick pairs, take them along."""

import csv
import io

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import (
    click_in_chart,
    hangs_over,
    open_settings,
    set_width,
    settled,
    wait_until_ready,
    wait_until_still,
)

CHART = ".st-key-map_chart .js-plotly-plot"


@pytest.fixture
def open_map(open_page):
    def open_one(query: str = "", **size: int):
        page = open_page(f"/map{query}", **size)
        wait_until_ready(page)
        return page

    return open_one


def open_few(open_page, query: str = ""):
    """The Map of a few pairs, whose texts are read and laid out in seconds also beside other tests."""
    page = open_page(f"/map?limit=60&suggest=0{query}")
    fit = page.get_by_role("button", name="Fit it now")
    fit.or_(page.locator("[class*=st-key-edit_strength] input")).first.wait_for(state="attached")
    wait_until_still(page)
    if fit.count():
        fit.click()
    wait_until_ready(page)
    return page


def chart(page, expression: str, where: str = CHART):
    """What `expression` says of the drawn Plotly chart `plot`."""
    page.locator(f"{where} .main-svg").first.wait_for()
    return page.evaluate(f"where => {{ const plot = document.querySelector(where); return {expression}; }}", where)


def step_layer(page, key: str) -> None:
    page.locator(".st-key-map_layer input").first.focus()
    with settled(page):
        page.keyboard.press(key)


def run_edited_model(page) -> None:
    """Or find that another session of the server has run it."""
    button = page.get_by_role("button", name="Run the edited model")
    if button.count():
        button.click()
    button.wait_for(state="detached")
    page.locator(".st-key-map_probe_auc .main-svg").first.wait_for()
    wait_until_still(page)


def drag_a_box(page) -> None:
    page.locator(f"{CHART} .modebar-btn[data-title='Box Select']").click()
    wait_until_still(page)
    box = page.locator(f"{CHART} .nsewdrag").first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 60, y - 60)
    page.mouse.down()
    page.mouse.move(x, y, steps=4)
    page.mouse.move(x + 60, y + 60, steps=4)
    page.mouse.up()


def test_the_edited_model_is_run_and_stands_beside_the_texts_before(open_page):
    page = open_few(open_page)
    run_edited_model(page)
    assert chart(page, "plot.layout.annotations.map(note => note.text)")[:2] == ["Before", "After, by the edited model"]
    before, after = chart(page, "plot._fullData.filter(trace => trace.mode === 'markers').map(t => t.x[0])")[::2]
    assert before != after
    probes = chart(page, "plot.data.map(trace => trace.name)", ".st-key-map_probe_auc .js-plotly-plot")
    assert probes == ["Before", "After, by the edited model"]


def test_another_layer_is_another_map_and_is_in_the_address(open_map):
    page = open_map("?layer=7")
    first = chart(page, "plot._fullData[0].x[0]")
    step_layer(page, "ArrowLeft")
    assert "layer=6" in page.url
    page.wait_for_function(f"first => document.querySelector('{CHART}')._fullData[0].x[0] !== first", arg=first)


def test_twins_are_joined_by_thin_lines(open_map):
    page = open_map("?states=before")
    assert chart(page, "plot.data.filter(trace => trace.mode === 'lines').length") == 0
    # What the sides are told by is measured while the page is there already, and a list closes as the page is drawn.
    page.get_by_text("a linear probe tells").first.wait_for()
    wait_until_still(page)
    open_settings(page)
    # By the keyboard: an open list closes where the page moves, as it does under a mouse that is led to an option.
    page.locator(".st-key-map_lines").get_by_role("combobox").fill("Join the twins")
    page.get_by_role("option", name="Join the twins").wait_for()
    with settled(page):
        page.keyboard.press("Enter")
    page.wait_for_function(f"document.querySelector('{CHART}').data.some(trace => trace.mode === 'lines')")
    assert chart(page, "plot.data[0].line.width") < 1 and "lines=pairs" in page.url


def test_umap_lays_the_layer_out_once_it_is_picked(open_page):
    page = open_few(open_page, "&states=before&layer=2")
    open_settings(page)
    page.get_by_role("radio", name="UMAP").click()
    page.get_by_text("UMAP, first axis").wait_for()
    wait_until_still(page)
    assert "map=umap" in page.url
    spoken = page.locator(".st-key-map_chart [aria-label*='twins']")
    assert "at layer 2" in spoken.first.get_attribute("aria-label")


def test_a_layout_of_all_layers_stops_when_it_is_asked_to(open_map):
    page = open_map("?states=before&map=umap&play=1&neighbours=40")
    page.locator(".st-key-map_picture").get_by_role("button", name="Stop").click()
    page.get_by_text("The layout was stopped").wait_for()
    page.get_by_role("button", name="Lay it out again").wait_for()


def test_a_box_lists_pairs_that_stay_picked_on_another_layer_and_can_be_taken_along(open_map):
    page = open_map("?states=before")
    chart(page, "1")
    # A chart takes a drag a moment after it is drawn.
    page.wait_for_timeout(1000)
    drag_a_box(page)
    heading = page.get_by_role("heading", name="selected pair")
    heading.wait_for()
    wait_until_still(page)
    said = heading.inner_text()
    count = int(said.split()[0].replace(",", ""))
    assert count > 3 and page.locator("table.pairs tbody tr").count() == min(count, 50)
    step_layer(page, "ArrowLeft")
    assert heading.inner_text() == said
    with page.expect_download() as download:
        page.get_by_role("button", name="Selected pairs as CSV").click()
    rows = list(csv.DictReader(io.StringIO(download.value.path().read_text(encoding="utf-8"))))
    assert len(rows) == count and all(row["toxic"] and row["civil"] for row in rows)
    page.get_by_role("button", name="Let them go").click()
    heading.wait_for(state="detached")


def test_a_click_on_a_dot_reads_its_pair_beside_the_map_and_on_the_token_lens(open_map):
    page = open_map("?states=before&layer=7")
    chart(page, "1")
    # Where the dot of the pair that lies farthest toward toxic is on the screen.
    found = chart(
        page,
        """(() => {
            const toxic = plot._fullData.find(trace => trace.name === 'Toxic' && trace.mode === 'markers');
            const place = toxic.x.indexOf(Math.max(...toxic.x)), box = plot.getBoundingClientRect();
            const { xaxis, yaxis } = plot._fullLayout;
            return [toxic.customdata[place] + 1, box.x + xaxis._offset + xaxis.c2p(toxic.x[place]),
                    box.y + yaxis._offset + yaxis.c2p(toxic.y[place])];
        })()""",
    )
    click_in_chart(page, found[1], found[2])
    page.get_by_role("heading", name=f"Pair {found[0]:,}, token by token").wait_for()
    wait_until_still(page)
    assert page.get_by_role("heading", name="selected pair").count() == 0
    page.locator(".st-key-map_reading .lit").nth(3).wait_for()
    page.get_by_role("link", name="Through all layers").click()
    page.get_by_role("heading", name="Token lens", level=1).wait_for()
    expect(page.locator(".st-key-lens_pair input")).to_have_value(str(found[0]))


def test_pairs_can_be_picked_by_the_keyboard_alone(open_map):
    page = open_map("?states=before")
    page.get_by_role("textbox", name="Select pairs by their words").focus()
    page.keyboard.type("wrote board")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="selected pair").wait_for()
    assert chart(page, "plot.data.find(trace => trace.mode === 'markers').selectedpoints.length") > 0


def test_the_layers_play_one_after_the_other(open_map):
    page = open_map("?states=before&layer=0")
    open_settings(page)
    page.locator(".st-key-map_play label").click()
    player = ".st-key-map_player .js-plotly-plot"
    assert chart(page, "plot._transitionData._frames.length", player) == 8
    now = page.locator(f"{player} .slider-label")
    assert now.first.text_content() == "Layer 0"
    first = chart(page, "plot._fullData[0].x[0]", player)
    page.wait_for_timeout(1000)
    page.locator(f"{player} .updatemenu-button").first.click()
    page.wait_for_function(f"document.querySelector('{player} .slider-label').textContent === 'Layer 7'")
    assert chart(page, "plot._fullData[0].x[0]", player) != first


def test_the_map_is_saved_as_a_picture_and_as_numbers(open_map):
    page = open_map("?states=before&layer=7")
    chart(page, "1")
    with page.expect_download() as download:
        page.locator(".st-key-save_map_chart button[data-picture=svg]").click()
    assert download.value.path().read_text(encoding="utf-8").lstrip().startswith("<svg")
    with page.expect_download() as download:
        page.locator(".st-key-csv_map_chart button").click()
    rows = list(csv.DictReader(io.StringIO(download.value.path().read_text(encoding="utf-8"))))
    assert len(rows) == 2 * 700 * len({row["state"] for row in rows}) and {row["layer"] for row in rows} == {"7"}


def test_nothing_hangs_over_the_edge_of_a_narrow_window(open_map):
    page = open_map(width=390)
    chart(page, "1")
    for width in (390, 800):
        set_width(page, width)
        assert hangs_over(page) <= 0, width
