"""The whole story: a first visit by phone, what is found again, two studies side by side, the lesson, a keyboard."""

import re
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from pages.learn.questions import QUESTIONS
from pages.learn.steps import STEPS
from tests.browser.conftest import go_to, hangs_over, settled, wait_until_ready, wait_until_still, write_texts
from tests.models import save_tiny_model

OWN = "The new neighbour is"


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory) -> str:
    return str(save_tiny_model("gpt2", tmp_path_factory.mktemp("models") / "tiny"))


def open_tiny(open_page, folder: str, name: str, **link: object):
    """A page on a study of the tiny model, which is fitted where it is not kept."""
    more = "".join(f"&{key}={quote(str(value))}" for key, value in link.items())
    page = open_page(f"/{name}?model={quote(folder, safe='')}&device=cpu&limit=40&layers=1-2&rank=8{more}", height=1400)
    fit = page.get_by_role("button", name="Fit it now").or_(page.get_by_role("button", name="Fit", exact=True))
    ready = page.locator("[class*=st-key-edit_strength] input")
    fit.or_(ready).first.wait_for(state="attached")
    wait_until_still(page)
    if not ready.count():
        fit.first.click()
    wait_until_ready(page)
    return page


def test_a_first_visitor_with_a_phone_sees_the_story_and_goes_on_with_words_of_their_own(open_page):
    page = open_page("/overview", width=390, height=844)
    assert page.get_by_role("dialog").count() == 0, "the address is not found"
    page.locator(".st-key-overview .compared article").wait_for()
    page.locator(".st-key-overview .js-plotly-plot").nth(1).wait_for()
    wait_until_still(page)
    assert hangs_over(page) == 0
    # Three screens of a phone hold it: the sentences, the text, and the two pictures.
    assert page.locator(".st-key-overview").bounding_box()["height"] <= 4 * 844
    before = page.locator(".st-key-overview .compared .written").all_inner_texts()
    page.locator(".st-key-overview_own textarea").fill(OWN)
    page.get_by_role("button", name="Write", exact=True).click()
    expect(page.locator(".st-key-overview .compared .written").first).not_to_have_text(before[0])
    expect(page.locator(".st-key-overview_own textarea")).to_have_value(OWN)
    assert hangs_over(page) == 0


def test_what_was_written_is_there_after_a_reload_and_in_another_session(open_page, tiny_folder):
    page = open_tiny(open_page, tiny_folder, "compare", prompts="own", own=f"{OWN}\nHello", tokens=6)
    write_texts(page)
    page.locator(".compared article").nth(1).wait_for()
    written = page.locator(".compared .written").all_inner_texts()
    page.reload()
    page.locator(".compared article").nth(1).wait_for()
    wait_until_still(page)
    assert page.locator(".compared .written").all_inner_texts() == written
    other = open_tiny(open_page, tiny_folder, "compare", rank=8)
    other.locator(".compared article").nth(1).wait_for()
    assert other.locator(".compared .written").all_inner_texts() == written


def test_two_studies_are_held_side_by_side(open_page, tiny_folder):
    open_tiny(open_page, tiny_folder, "model_and_pairs", pooling="last")
    page = open_tiny(open_page, tiny_folder, "model_and_pairs")
    page.get_by_text("Studies on this machine").wait_for()
    others = page.locator("[class*=st-key-study_]").filter(has_text="tiny ×").filter(has_not_text="in use")
    others.first.get_by_role("button", name="Beside").click()
    page.get_by_text("Two studies side by side").wait_for()
    page.locator(".st-key-two_strengths .main-svg").first.wait_for()
    assert page.locator("table.facts tr").count() > 5 and hangs_over(page) == 0


def test_the_lesson_from_start_to_end(open_page):
    page = open_page("/learn")
    wait_until_ready(page)
    for step in STEPS:
        page.get_by_role("heading", name=f"{step.number}. {step.title}").wait_for()
        wait_until_still(page)
        with settled(page):
            if step.answers:
                page.locator(f".st-key-lesson_predict_{step.name}").get_by_role("radio").first.check(force=True)
            else:
                handle = page.locator(f".st-key-lesson_predict_{step.name} input")
                handle.focus()
                page.keyboard.press("ArrowRight")
        page.get_by_role("button", name="Show what is measured").click()
        page.get_by_text("Your prediction was").wait_for()
        wait_until_still(page)
        page.locator(".st-key-lesson_next button").click()
    page.get_by_role("heading", name="Ten closing questions").wait_for()
    for number in range(1, len(QUESTIONS) + 1):
        with settled(page):
            page.locator(f".st-key-lesson_question_{number}").get_by_role("radio").first.check(force=True)
    page.get_by_role("button", name="Score my answers").click()
    page.get_by_text(f"of {len(QUESTIONS)} right.").wait_for()


def test_the_overview_is_moved_by_the_keyboard_alone(open_page):
    page = open_page("/")
    wait_until_ready(page)
    page.locator(".st-key-overview .compared article").wait_for()
    handle = page.locator("[class*=st-key-overview_strength_] input")
    for _ in range(80):
        page.keyboard.press("Tab")
        if handle.evaluate("one => one === document.activeElement"):
            break
    assert handle.evaluate("one => one === document.activeElement"), "the slider was not reached"
    before = handle.input_value()
    with settled(page):
        for _ in range(4):
            page.keyboard.press("ArrowLeft")
    expect(handle).not_to_have_value(before)
    expect(page).to_have_url(re.compile(r"[?&]strength=\d\.\d"))
    go_to(page, "Spectrum")
    expect(page).to_have_url(re.compile(r"[?&]strength=\d\.\d"))
