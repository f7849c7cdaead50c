"""The Directions page: walking, pinning, opening a card's parts, measuring and stopping, and notes that stay."""

from playwright.sync_api import expect

from tests.browser.conftest import PRESS, go_to, hangs_over, set_width, wait_until_ready, wait_until_still


def card(page, name: str):
    """A card by its layer and direction from 0, such as `7_0`; `pinned_5_0` for one among the pins."""
    name = name if name.startswith("pinned") else f"card_{name}"
    return page.locator(f".st-key-direction_{name}, .st-key-direction_picked_{name}")


def open_part(page, name: str, part: str) -> None:
    card(page, name).get_by_role("radio", name=part, exact=True).click()
    wait_until_still(page)


def open_directions(open_page, query: str = "rank=2&layer=7", **size: int):
    page = open_page(f"/directions?{query}", **size)
    wait_until_ready(page)
    page.locator(".poles").first.wait_for()
    return page


def test_walk_pin_and_look_at_pairs_and_neurons(open_page):
    page = open_directions(open_page)
    page.get_by_role("button", name="Previous layer").click()
    page.get_by_role("heading", name="Layer 6", exact=True).wait_for()
    card(page, "6_0").get_by_role("button", name="Pin").click()
    pinned = card(page, "pinned_6_0")
    pinned.wait_for()
    assert "pins=6.0" in page.url and "layer=6" in page.url
    page.get_by_role("button", name="Next layer").click()
    page.get_by_role("heading", name="Layer 7", exact=True).wait_for()
    wait_until_still(page)
    # What it is across layers opens where the direction is not open already.
    pinned.locator(".js-plotly-plot .heatmaplayer image").wait_for(state="attached")
    with page.expect_download() as saved:
        pinned.get_by_role("button", name="CSV").click()
    rows = saved.value.path().read_text().splitlines()
    assert rows[0] == "layer,direction,cosine" and len(rows) > 8 * 12

    pairs = card(page, "7_0").locator(".pairs-apart")
    pairs.wait_for()
    strongest = pairs.locator(".k.toxic").first
    strongest.hover()
    assert "adds" in strongest.get_attribute("data-tip")
    folded = pairs.locator("details")
    assert folded.count() == 2 and not folded.first.locator(".pair").first.is_visible()
    folded.first.locator("summary").click()
    folded.first.locator(".pair").first.wait_for()
    open_part(page, "7_0", "Neurons")
    card(page, "7_0").locator(".neurons tbody tr").nth(7).wait_for()
    assert pairs.is_visible()
    open_part(page, "7_1", "Pairs")
    card(page, "7_1").locator(".pairs-apart").wait_for()


def test_measure_an_effect_stop_it_and_measure_it_again(open_page):
    page = open_directions(open_page)
    open_part(page, "7_3", "Effect")
    start = card(page, "7_3").get_by_role("button", name="Measure its effect")
    start.click()
    page.get_by_test_id("stMain").get_by_role("button", name="Stop", exact=True).click()
    page.get_by_text("The measurement was stopped").wait_for()
    wait_until_still(page)
    start.click()
    effect = card(page, "7_3").locator(".effect")
    effect.wait_for()
    assert effect.locator("h4").count() == 2 and "Without random ones" in effect.inner_text()
    go_to(page, "Spectrum")
    go_to(page, "Directions")
    card(page, "7_3").locator(".effect").wait_for()


def test_a_note_is_there_after_a_reload_and_half_typed_ones_are_not_lost(open_page):
    page = open_directions(open_page, "rank=2&layer=3")
    open_part(page, "3_1", "Effect")
    card(page, "3_1").get_by_role("button", name="Measure its effect").click()
    open_part(page, "3_0", "Note")
    field = page.get_by_label("Note on direction 1 of layer 3")
    field.click()
    page.keyboard.type("Insults at the end of <b>sentences</b>")
    # The page runs again under the field when the measurement has ended.
    card(page, "3_1").locator(".effect").wait_for()
    wait_until_still(page)
    expect(field).to_have_value("Insults at the end of <b>sentences</b>")
    field.click()
    page.keyboard.press("End")
    page.keyboard.type(", and more")
    page.get_by_role("heading", name="Directions", level=1).click(delay=PRESS)
    note = card(page, "3_0").locator("p.note")
    expect(note).to_have_text("Insults at the end of <b>sentences</b>, and more")
    wait_until_still(page)
    go_to(page, "Spectrum")
    go_to(page, "Directions")
    expect(note).to_have_text("Insults at the end of <b>sentences</b>, and more")
    page.reload()
    note.wait_for()
    open_part(page, "3_0", "Note")
    expect(field).to_have_value("Insults at the end of <b>sentences</b>, and more")


def test_a_shared_direction_is_shown_first_and_framed(open_page):
    page = open_directions(open_page, "rank=2&layer=5&direction=20")
    page.locator(".st-key-direction_picked_card_5_19").wait_for()
    assert page.locator("h3.card").first.inner_text() == "Direction 20"
    card(page, "5_1").get_by_role("button", name="Open").click()
    page.locator(".st-key-direction_picked_card_5_1").wait_for()
    wait_until_still(page)
    assert "direction=2" in page.url.split("&") and page.locator("h3.card").first.inner_text() == "Direction 2"


def test_the_first_direction_is_read_by_what_its_removal_changes_before_anything_is_set(open_page):
    page = open_directions(open_page, "rank=1&layer=6")
    picked = page.locator(".st-key-direction_picked_card_6_0")
    picked.get_by_role("heading", name="What it makes the model say").wait_for()
    wait_until_still(page)
    toxic = picked.locator(".poles").first.locator(".toxic li")
    assert toxic.count() == 10 and toxic.locator(".rude").count() >= 8 and toxic.locator(".pale").count() == 0
    assert "95 % interval +" in toxic.first.get_attribute("title")
    lens = picked.locator(".lens-poles")
    assert not lens.locator(".poles").is_visible()
    lens.locator("summary").click()
    lens.locator(".poles").wait_for()


def test_a_card_opens_by_the_keyboard_alone(open_page):
    page = open_directions(open_page, "rank=1&layer=2")
    card(page, "2_0").get_by_role("button", name="Pin").focus()
    # Past the folded texts that stand before the parts.
    for _ in range(8):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.role") == "radio":
            break
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.innerText") == "Neurons"
    page.keyboard.press("Enter")
    card(page, "2_0").locator(".neurons").wait_for()


def test_no_width_makes_the_page_scroll_sideways(open_page):
    page = open_directions(open_page, "rank=2&layer=7&pins=5.0", width=390)
    card(page, "7_0").locator(".pairs-apart").wait_for()
    open_part(page, "7_1", "Neurons")
    card(page, "7_1").locator(".neurons").wait_for()
    inside = "card => [...card.querySelectorAll('*')].every(one => one.getBoundingClientRect().right <= innerWidth + 1)"
    for width in (390, 800, 1440, 2560):
        set_width(page, width)
        assert hangs_over(page) <= 1, width
        assert card(page, "7_0").evaluate(inside) and card(page, "7_1").evaluate(inside), width
