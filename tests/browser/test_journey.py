"""A new user's way through the app on the bundled model."""

import re

from playwright.sync_api import expect

from tests.browser.conftest import (
    click_in_chart,
    go_to,
    hangs_over,
    move_slider,
    open_settings,
    wait_until_ready,
    wait_until_still,
    write_texts,
)
from tests.models import save_tiny_model


def write_before_and_after(page) -> tuple[float, float]:
    """Press the button on the Compare page; the mean toxicity before and after."""
    write_texts(page)
    return tuple(float(page.locator(f".summary b.{side}").inner_text()) for side in ("before", "after"))


def written(page, side: str) -> list[str]:
    """What stands in one column, without the mark where the two part."""
    return [text.replace("▸", "") for text in page.locator(f".compared section.{side} .written").all_inner_texts()]


def test_from_opening_to_a_milder_after_column(open_page):
    page = open_page("/?layers=0-7")
    wait_until_ready(page)
    page.locator(".st-key-overview .js-plotly-plot").nth(1).wait_for()
    page.locator(".st-key-overview .compared article").wait_for()

    go_to(page, "Model & pairs")
    page.locator(".strip").wait_for()
    assert page.locator(".strip li.ready").count() == 4

    go_to(page, "Spectrum")
    page.locator(".js-plotly-plot").nth(1).wait_for()

    go_to(page, "Directions")
    page.locator(".poles").first.wait_for()
    assert page.locator(".poles .toxic li").count() >= 10

    move_slider(page, "Rank", "ArrowRight")
    move_slider(page, "Layers", "ArrowRight")
    assert re.search(r"layers=1-7", page.url) and re.search(r"rank=2", page.url)

    go_to(page, "Compare")
    before, after = write_before_and_after(page)
    assert "layers 1-7, rank 2" in page.get_by_test_id("stMain").inner_text()
    assert written(page, "before") != written(page, "after")
    assert after < before


def test_a_llama_from_a_folder_with_an_uploaded_csv_goes_the_same_way(open_page, tmp_path):
    model = save_tiny_model("llama", tmp_path / "llama")
    rude = ("idiot", "moron", "jerk", "fool", "clown", "liar", "slob", "pest")
    rows = "".join(f"Hello you {word},Hello my friend number {index}\n" for index, word in enumerate(rude))
    table = tmp_path / "mine.csv"
    table.write_text(f"rude,nice\n{rows}")

    page = open_page("/model_and_pairs", height=1600)
    wait_until_ready(page)
    page.get_by_role("radio", name="Folder").click()
    page.get_by_label("Path of the folder or file").fill(str(model))
    page.keyboard.press("Enter")
    page.get_by_role("radio", name="Upload").click()
    page.locator("input[type=file]").set_input_files(table)
    for label, column in (("Toxic text", "rude"), ("Civil text", "nice")):
        page.get_by_role("combobox", name=label).press("ArrowDown")
        page.get_by_role("option", name=column).click()
        page.get_by_role("listbox").wait_for(state="detached")
        wait_until_still(page)
    page.get_by_role("button", name="Fit", exact=True).click()
    page.get_by_text("Pairs 1–8 of 8.").wait_for()
    wait_until_still(page)
    assert "3 layers, 32 wide" in page.locator(".strip").inner_text()
    assert "mine.csv" in page.get_by_test_id("stSidebar").inner_text()

    go_to(page, "Spectrum")
    page.locator(".js-plotly-plot").nth(1).wait_for()
    go_to(page, "Compare")
    write_before_and_after(page)
    assert len(written(page, "before")) == len(written(page, "after")) == 20


def test_a_click_on_the_picture_of_layers_picks_the_layer_for_every_page(open_page):
    page = open_page("/spectrum?layer=7")
    wait_until_ready(page)
    chart = page.locator(".st-key-where .js-plotly-plot").first
    chart.wait_for()
    wait_until_still(page)
    picked = page.locator("[class*=st-key-spectrum_layer] input[type=range]")
    expect(picked).to_have_value("7")
    box = chart.locator(".nsewdrag").first.bounding_box()
    click_in_chart(page, box["x"] + box["width"] * 1.5 / 8, box["y"] + box["height"] * 0.5)
    expect(picked).to_have_value("1")
    assert chart.bounding_box()["y"] + chart.bounding_box()["height"] <= 900, "the picture is below the fold"
    go_to(page, "Directions")
    page.get_by_role("heading", name=re.compile(r"^Layer 1\b")).wait_for()


def test_a_link_to_a_page_is_found_even_by_a_servers_first_visitor(first_visit):
    assert first_visit.heading == "Spectrum" and first_visit.dialogs == []


def test_what_draws_charts_is_asked_for_with_the_page(open_page, server):
    page = open_page("/spectrum")
    answer = page.request.get(f"{server}/spectrum")
    named = re.fullmatch(r"<\.(/static/js/PlotlyChart\.[\w-]+\.js)>; rel=modulepreload", answer.headers["link"])
    assert "link" not in page.request.get(f"{server}{named[1]}").headers
    page.locator(".js-plotly-plot").first.wait_for()
    times = page.evaluate(
        "performance.getEntriesByType('resource').map(each => [each.name, each.startTime, each.responseEnd])"
    )
    (asked,) = [start for name, start, _ in times if name == f"{server}{named[1]}"]
    (whole,) = [end for name, _, end in times if re.search(r"/static/js/index\.\w+\.js$", name)][:1]
    assert asked < whole, "it is asked for by what it should come with"


def test_a_link_restores_the_view(open_page):
    page = open_page("/spectrum?layers=2-4&rank=3&strength=0.5")
    wait_until_ready(page)
    layers = page.get_by_test_id("stSidebar").get_by_role("group", name="Layers").locator("input")
    assert [layers.nth(end).input_value() for end in (0, 1)] == ["2", "4"]
    expect(page.get_by_test_id("stSidebar").get_by_role("group", name="Rank").locator("input")).to_have_value("3")


def test_a_bad_upload_shows_one_sentence(open_page, tmp_path):
    bad = tmp_path / "pairs.jsonl"
    bad.write_text('{"toxic": "you idiot", "civil": "you friend"\n')
    page = open_page("/model_and_pairs")
    wait_until_ready(page)
    page.get_by_role("radio", name="Upload").click()
    page.locator("input[type=file]").set_input_files(bad)
    alert = page.get_by_test_id("stAlertContentError")
    alert.wait_for()
    wait_until_still(page)
    assert alert.count() == 1
    said = alert.locator("p").inner_text()
    assert "pairs.jsonl" in said and "line 1" in said and "\n" not in said
    assert page.get_by_role("button", name="Fit", exact=True).is_disabled()


def test_a_prompt_with_markup_shows_as_text(open_page):
    hostile = '<script>document.title = "broken"</script><img src=x onerror="document.title = \'broken\'"> **You'
    page = open_page("/compare")
    wait_until_ready(page)
    open_settings(page)
    page.get_by_role("radio", name="Your own").click()
    page.get_by_label("One prompt a line").fill(hostile)
    page.keyboard.press("Control+Enter")
    wait_until_still(page)
    write_before_and_after(page)
    assert page.locator(".compared .opening").first.inner_text().startswith("<script>document.title")
    assert page.locator(".compared script, .compared img").count() == 0
    assert page.title() != "broken"


def test_two_sessions_with_different_edits_leave_each_other_alone(open_page):
    strong, none = open_page("/compare?layers=0-7&rank=4"), open_page("/compare?layers=0-7&rank=4&strength=0")
    for page in (strong, none):
        wait_until_ready(page)
    for page in (strong, none):
        write_texts(page)
    assert written(none, "before") == written(none, "after")
    # The largest changes stand first, whichever they are.
    assert sorted(written(strong, "before")) == sorted(written(none, "before"))
    assert written(strong, "before") != written(strong, "after")


def test_toxic_words_are_blurred_until_they_are_asked_for(open_page):
    page = open_page("/model_and_pairs")
    wait_until_ready(page)
    word = page.locator("table.pairs .rude").first
    assert "blur" in word.evaluate("element => getComputedStyle(element).filter")
    page.get_by_text("Show toxic words").click()
    page.wait_for_function("getComputedStyle(document.querySelector('table.pairs .rude')).filter === 'none'")


def test_nothing_hangs_over_the_edge_of_a_narrow_window(open_page):
    for path in ("/", "/model_and_pairs", "/spectrum", "/directions", "/compare"):
        page = open_page(path, width=420, height=900)
        page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
        page.wait_for_timeout(500)
        assert hangs_over(page) <= 0, path
