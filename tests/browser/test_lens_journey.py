"""The Token lens in a real browser: type a text, see it light up, point at tokens, and every odd input."""

import csv
import io
import re
from itertools import pairwise

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import (
    SECONDS,
    hangs_over,
    open_settings,
    pages_opened,
    set_width,
    settled,
    wait_until_ready,
    wait_until_still,
)

BEFORE, AFTER = ".lens section.before .lit", ".lens section.after .lit"


@pytest.fixture
def open_lens(open_page):
    def open_one(query: str = "?lens=own", **size: int):
        page = open_page(f"/token_lens{query}", **size)
        wait_until_ready(page)
        return page

    return open_one


@pytest.fixture(scope="module")
def page(chromium, tabs, server):
    """One session of the page for all that asks for no other: to load it takes longer than to write another text."""
    foreign: list[str] = []
    with pages_opened(chromium, tabs, server, foreign) as (open_one, _):
        session = open_one("/token_lens?lens=own&layers=0-7&rank=2&layer=3")
        wait_until_ready(session)
        yield session
    assert foreign == []


def write(page, words: str) -> None:
    page.get_by_role("textbox", name="Text", exact=True).fill(words)
    with settled(page):
        page.keyboard.press("Control+Enter")


def show(page, words: str) -> None:
    """Write the words, and wait until they are what is lit."""
    write(page, words)
    expect(page.locator(BEFORE)).to_have_text(words, use_inner_text=True)


def tips(page, where: str = BEFORE) -> list[str]:
    """What the tokens say to whoever points at them, once it has been read what comes next."""
    page.wait_for_function(f"document.querySelector('{where} .k')?.dataset.tip.includes('next here')")
    return page.locator(f"{where} .k").evaluate_all("tokens => tokens.map(token => token.dataset.tip)")


def wait_for_change(page, said: list[str]) -> list[str]:
    """What the tokens say once that is something else."""
    page.wait_for_function(
        f"said => {{ const tip = document.querySelector('{BEFORE} .k')?.dataset.tip;"
        " return tip && tip.includes('next here') && tip !== said; }",
        arg=said[0],
    )
    wait_until_still(page)
    return tips(page)


def numbers(said: list[str]) -> list[str]:
    return [re.search(r"[\d.]+(?= toward|, toward)|(?<=length )[\d.]+", words)[0] for words in said]


def test_a_typed_text_lights_up_before_and_after_the_edit(page):
    show(page, "What a day, you utter genius.")
    assert page.locator(BEFORE).inner_text() == page.locator(AFTER).inner_text()
    before, after = numbers(tips(page)), numbers(tips(page, AFTER))
    assert len(before) == len(after) > 5 and before != after
    colours = page.locator(f"{BEFORE} .k").evaluate_all(
        "tokens => tokens.map(token => getComputedStyle(token).backgroundColor)"
    )
    assert len(set(colours)) > 3
    page.locator(".st-key-lens_heatmap .main-svg").first.wait_for()


def test_layer_direction_and_measure_change_the_numbers_and_the_address(open_lens):
    page = open_lens("?layers=0-7&layer=7&lens=own&lens_rank=3&text=What+a+day%2C+you+utter+genius.")
    said = [tips(page)]
    wait_until_still(page)
    page.locator(".st-key-lens_layer input").first.focus()
    page.keyboard.press("ArrowLeft")
    said.append(wait_for_change(page, said[-1]))
    open_settings(page)
    page.get_by_label("Direction", exact=True).fill("2")
    page.keyboard.press("Enter")
    said.append(wait_for_change(page, said[-1]))
    page.get_by_role("radio", name="Length on the subspace").click()
    said.append(wait_for_change(page, said[-1]))
    assert len({tuple(numbers(one)) for one in said}) == 4
    for part in ("layer=6", "direction=2", "colour=length"):
        assert part in page.url


def test_pointing_at_a_token_shows_token_layer_number_and_what_comes_next(page):
    show(page, "What a day")
    said = tips(page)[1]
    page.locator(f"{BEFORE} .k").nth(1).hover()
    shown = page.locator(f"{BEFORE} .k").nth(1).evaluate("token => getComputedStyle(token, '::after').content")
    assert shown.strip('"') == said
    assert re.match(r"“·a”, layer 3 · [\d.]+[ ,].*toward \w+.* · next here: .+ (<?\d+%)(, .+){4}", said)


def test_a_link_opens_the_same_text_and_colours_elsewhere(open_lens, open_page):
    page = open_lens()
    write(page, "A quiet <b>day</b> & more.")
    open_settings(page)
    with settled(page):
        page.get_by_role("radio", name="Length on the subspace").click()
    said, address = tips(page), page.url
    other = open_page(address[address.index("/token_lens") :])
    wait_until_ready(other)
    assert tips(other) == said
    expect(other.get_by_role("textbox", name="Text", exact=True)).to_have_value("A quiet <b>day</b> & more.")


def test_prompts_and_pairs_are_at_hand(open_lens):
    page = open_lens("")
    tips(page)
    assert page.locator(BEFORE).count() == page.locator(AFTER).count() == 2
    pair = page.locator(BEFORE).first.inner_text()
    page.get_by_role("radio", name="A prompt").click()
    page.wait_for_function(f"document.querySelectorAll('{BEFORE}').length === 1")
    wait_until_still(page)
    assert page.locator(BEFORE).inner_text() not in ("", pair)


def test_an_empty_text_asks_for_words_and_says_nothing_else(page):
    write(page, "   ")
    page.get_by_text("Write some words above").wait_for()
    assert page.get_by_test_id("stAlertContentError").count() == 0 and page.locator(".lit").count() == 0


def test_ten_thousand_tokens_are_cut_and_the_page_says_so(page):
    write(page, "the goal was fair " * 3000)
    page.get_by_text("tokens of 1").filter(has_text="were left out").first.wait_for()
    assert page.get_by_text("too long for a link").count() == 1 and "text=" not in page.url
    assert len(tips(page)) > 50


ODD = (
    "مرحبا يا صديقي العزيز",
    "well 🙂👍🏽 done 👩‍🚒",
    "a\x07b \u202ecba",
    '<script>document.title = "broken"</script><img src=x onerror="document.title = \'broken\'"> **x** $y$ %{text}',
)
"""From right to left, emoji, control characters, HTML."""


def test_odd_characters_are_shown_as_they_are_and_nothing_of_them_works(page):
    lit = page.locator(BEFORE)
    for words in ODD:
        write(page, words)
        shown = "".join({"\x07": "␇", "\u202e": "�"}.get(character, character) for character in words)
        expect(lit).to_have_text(shown, use_inner_text=True, timeout=1000 * SECONDS)
        tips(page)
        assert lit.inner_text() == shown
        assert page.get_by_test_id("stAlertContentError").count() == 0
        assert page.locator(".lens script, .lens img").count() == 0 and page.title() != "broken"


def test_rude_words_are_blurred_in_the_text_and_masked_in_hovers_until_they_are_asked_for(open_lens):
    page = open_lens("?lens=own&text=What+an+idiot")
    field, word = page.get_by_role("textbox", name="Text", exact=True), page.locator(f"{BEFORE} .rude").first
    tips(page)
    for blurred in (field, word):
        assert "blur" in blurred.evaluate("element => getComputedStyle(element).filter")
    assert "idiot" not in " ".join(tips(page))
    heat = page.locator(".st-key-lens_heatmap .js-plotly-plot")
    assert "idiot" not in heat.evaluate("plot => JSON.stringify(plot.data) + JSON.stringify(plot.layout)")
    page.get_by_test_id("stSidebar").get_by_text("Show toxic words").click()
    page.wait_for_function(
        f"(word => word && getComputedStyle(word).filter === 'none')(document.querySelector('{BEFORE} .rude'))"
    )


def test_the_heatmap_is_saved_with_every_token_and_layer(page):
    show(page, "What an idiot")
    count = len(tips(page))
    with page.expect_download() as download:
        page.locator(".st-key-csv_lens_heatmap button").click()
    rows = list(csv.DictReader(io.StringIO(download.value.path().read_text(encoding="utf-8"))))
    assert len(rows) >= 8 * count and {row["layer"] for row in rows} == set(map(str, range(8)))
    assert all(row["before"] and row["after"] and row["measure"] == "along direction 1" for row in rows)
    with page.expect_download() as download:
        page.locator(".st-key-save_lens_heatmap button[data-picture=png]").click()
    assert download.value.path().read_bytes().startswith(b"\x89PNG")


def test_the_numbers_can_be_read_without_pointing(page):
    show(page, "What a day")
    tips(page)
    page.locator("summary", has_text="The numbers of this layer as a table").press("Enter")
    page.get_by_test_id("stDataFrame").wait_for()


def test_nothing_hangs_over_the_edge_of_a_narrow_window(open_lens):
    page = open_lens("", width=390)
    tips(page)
    for width in (390, 800):
        set_width(page, width)
        assert hangs_over(page) <= 0, width


def test_every_token_of_a_long_text_has_its_label_in_a_picture_that_scrolls(open_lens):
    page = open_lens("?lens=own&text=" + "+".join(f"the+goal+was+fair+{number}" for number in range(30)), width=800)
    count = len(tips(page))
    labels = page.locator(".st-key-lens_heatmap .xaxislayer-above .xtick text, .st-key-lens_heatmap .x2tick text")
    labels.nth(2 * count - 1).wait_for()
    ends = labels.evaluate_all(
        "texts => texts.map(text => text.getBoundingClientRect()).map(one => [one.left, one.right])"
    )
    first = sorted(ends[:count])
    gaps = [left - right for (_, right), (left, _) in pairwise(first)]
    assert min(gaps) >= -1, "labels run into one another"
    assert hangs_over(page) <= 0
