"""The address bar holds the view: what a person picks on many pages is there again behind the link they share."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import (
    go_to,
    move_slider,
    open_settings,
    settled,
    wait_until_ready,
    wait_until_still,
    write_texts,
)

TEXT = "You <b>kind</b> friend, 50% & more?\nשלום 😀 #1"
LAYOUT = re.compile("^Layout$")
PROMPTS = "The driver in front of me is\nMy neighbour's dog & cat are"


def pick(page, group: str | re.Pattern, option: str) -> None:
    with settled(page):
        page.get_by_role("radiogroup", name=group).get_by_role("radio", name=option, exact=True).click()


def picked(page, group: str | re.Pattern) -> str:
    return page.get_by_role("radiogroup", name=group).get_by_role("radio", checked=True).inner_text()


def pick_setting(page, group: str | re.Pattern, option: str) -> None:
    open_settings(page)
    pick(page, group, option)


def picked_setting(page, group: str | re.Pattern) -> str:
    open_settings(page)
    page.get_by_role("radiogroup", name=group).wait_for()
    return picked(page, group)


def field(page, label: str):
    return page.locator("input, textarea").and_(page.get_by_label(label, exact=True))


def fill(page, label: str, text: str) -> None:
    field(page, label).fill(text)
    with settled(page):
        page.keyboard.press("Control+Enter" if "\n" in text else "Enter")


def slider(page, key: str):
    return page.locator(f"[class*=st-key-{key}] input[type=range]")


def copy_link(page) -> str:
    """Press the button that copies the link; what is then on the clipboard."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Share this view").click()
    page.get_by_role("button", name="Copy the link").click()
    page.get_by_role("button", name="Copied").wait_for()
    page.keyboard.press("Escape")
    return page.evaluate("navigator.clipboard.readText()")


def read_written(page) -> list[str]:
    write_texts(page)
    return page.locator(".compared .written").all_inner_texts()


def test_a_view_picked_on_many_pages_is_there_again_behind_its_link(open_page, server):
    page = open_page("/?layers=0-7&layer=7")
    wait_until_ready(page)
    move_slider(page, "Rank", "ArrowRight", 2)
    move_slider(page, "Strength", "ArrowLeft", 4)

    go_to(page, "Spectrum")
    slider(page, "spectrum_layer").focus()
    with settled(page):
        for _ in range(3):
            page.keyboard.press("ArrowLeft")
    pick_setting(page, "Singular values as", "Raw value")

    go_to(page, "Directions")
    expect(slider(page, "directions_layer")).to_have_value("4")
    pick_setting(page, "Read directions by", "Product")
    with settled(page):
        page.locator(".st-key-pick_card_4_1").get_by_role("button").click()
    page.locator(".st-key-pin_card_4_1").get_by_role("button").click()
    page.locator(".st-key-pin_pinned_4_1").wait_for()
    wait_until_still(page)

    go_to(page, "Map")
    pick_setting(page, LAYOUT, "PCA")

    go_to(page, "Token lens")
    pick(page, "Text", "Your own words")
    fill(page, "Text", TEXT)

    go_to(page, "Compare")
    open_settings(page)
    pick(page, "Prompts", "Your own")
    fill(page, "One prompt a line", PROMPTS)
    fill(page, "Temperature", "0.7")
    fill(page, "Seed of the draws", "5")
    written = read_written(page)
    link = copy_link(page)
    assert link == page.url and link.startswith(f"{server}/compare?")

    other = open_page(link.removeprefix(server))
    wait_until_ready(other)
    assert other.url == link
    expect(field(other, "One prompt a line")).to_have_value(PROMPTS)
    for label, value in (("Temperature", "0.70"), ("Top-p", "1.00")):
        # A number field shows its lowest value until its own arrives.
        expect(field(other, label)).to_have_value(value)
    assert read_written(other) == written
    sidebar = other.get_by_test_id("stSidebar")
    expect(sidebar.get_by_role("group", name="Rank").locator("input")).to_have_value("3")
    assert float(sidebar.get_by_role("group", name="Strength").locator("input").input_value()) == pytest.approx(0.8)

    go_to(other, "Token lens")
    other.locator(".lens").first.wait_for()
    expect(field(other, "Text")).to_have_value(TEXT)
    open_settings(other)
    expect(field(other, "Direction")).to_have_value("2")
    assert other.locator(".lens b").count() == 0, "markup from a link is shown, not obeyed"
    go_to(other, "Map")
    assert picked_setting(other, LAYOUT) == "PCA"
    go_to(other, "Directions")
    other.locator(".st-key-pin_pinned_4_1").wait_for()
    assert picked_setting(other, "Read directions by") == "Product"
    other.locator(".st-key-direction_picked_card_4_1").wait_for()
    go_to(other, "Spectrum")
    other.locator(".js-plotly-plot").nth(1).wait_for()
    expect(slider(other, "spectrum_layer")).to_have_value("4")
    assert picked_setting(other, "Singular values as") == "Raw value"


def test_a_link_with_rude_words_is_blurred_and_copied_all_the_same(open_page, server):
    page = open_page("/compare?prompts=own&own=Say+it,+idiot")
    wait_until_ready(page)
    page.get_by_role("button", name="Share this view").click()
    shown = page.locator(".link code")
    shown.wait_for()
    assert "blur" in shown.evaluate("element => getComputedStyle(element).filter")
    page.keyboard.press("Escape")
    assert "idiot" in copy_link(page)
    page.get_by_text("Show toxic words").click()
    wait_until_still(page)
    page.get_by_role("button", name="Share this view").click()
    page.wait_for_function("getComputedStyle(document.querySelector('.link code')).filter === 'none'")


def test_back_goes_to_the_page_before_however_often_the_view_changed(open_page):
    page = open_page("/spectrum?layer=3")
    wait_until_ready(page)
    go_to(page, "Directions")
    wait_until_still(page)
    for layer in (4, 5, 6):
        slider(page, "directions_layer").focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_url(re.compile(rf"directions.*[?&]layer={layer}"))
    page.go_back()
    page.get_by_role("heading", name="Spectrum", level=1).wait_for()
    wait_until_still(page)
    expect(slider(page, "spectrum_layer")).to_have_value("6")


def test_the_sidebar_and_the_content_note_are_reached_by_the_keyboard(open_page):
    # A page that measures nothing, so that nothing comes and goes under way.
    page = open_page("/model_and_pairs?layers=0-7")
    wait_until_ready(page)
    # A kind of widget comes with code of its own, which a busy server sends late.
    page.get_by_role("switch", name="Show toxic words").wait_for(state="attached")
    page.get_by_role("button", name="Go on").wait_for()
    wait_until_still(page)
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                "(one => one.ariaLabel || one.closest('label')?.innerText || one.innerText)(document.activeElement)"
            )
        )
        if reached[-1] == "Go on":
            break
    said = "\n".join(reached)
    for name in ("Model & pairs", "Evaluate", "Rank", "Strength", "Show toxic words", "Share this view", "Go on"):
        assert name in said, name
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Go on").wait_for(state="detached")


def test_a_chart_of_the_spectrum_is_saved_as_a_picture_and_as_a_table(open_page, tmp_path):
    page = open_page("/spectrum?layer=3")
    wait_until_ready(page)
    chart = page.locator("[class*=st-key-chart_spectrum_layer_chart]")
    chart.locator(".js-plotly-plot").wait_for()
    wait_until_still(page)
    for kind, begin in (("SVG", b"<svg"), ("PNG", b"\x89PNG"), ("CSV", b"layer,direction,singular value")):
        button = chart.get_by_role("button", name="CSV" if kind == "CSV" else re.compile(f"Save as {kind}"))
        with page.expect_download() as saved:
            button.click()
        file = tmp_path / kind
        saved.value.save_as(file)
        assert saved.value.suggested_filename == f"spectrum_layer_3.{kind.lower()}"
        assert file.read_bytes().startswith(begin), kind
    rows = file.read_text().splitlines()[1:]
    assert len(rows) == 160 and all(row.startswith("3,") for row in rows)
