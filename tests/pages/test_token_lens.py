"""Token lens: every token coloured by its projection, before and after the edit, whatever the text is."""

import re
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from detox_engine.reading import lens
from detox_engine.reading.lens import TokenScore
from pages.token_lens.picture import lens_figure, tell_text
from tests.pages.conftest import LIMIT, click, fitted_app, open_app, run_until, settings, texts
from ui.show.colours import DARK, LIGHT
from ui.show.tinted import LONG, STRONGEST, Lit, lit_html, say_token, say_value
from ui.work.tasks import Task

PAGE = "token_lens/page.py"


def open_page(folder: str, **link: object):
    session = fitted_app(folder, **link).switch_page(PAGE).run()
    return settled(session)


def settled(session):
    run_until(session, lambda session: lit(session) or session.error or session.info)
    assert not session.exception, session.exception
    return session


def lit(session) -> list[str]:
    return re.findall(r'<p class="lit.*?</p>', texts(session), re.DOTALL)


def numbers(html: str) -> list[tuple[str, str]]:
    """What the hovers say of each token, without what comes next, which changes with the edit by itself."""
    return re.findall(r"([\d.]+)(?: toward |, toward )(\w+)", html)


def write(session, words: str, second: str = ""):
    session.segmented_control(key="lens_kind").set_value("own").run()
    session.text_area(key="lens_own").set_value(words)
    session.text_area(key="lens_second").set_value(second).run()
    return settled(session)


def test_without_a_study_the_page_offers_to_fit_one(tiny_folder):
    session = open_app(model=tiny_folder, limit=LIMIT - 1).switch_page(PAGE).run()
    assert "There is no study to show yet" in texts(session)
    assert not session.button(key="fit_now").disabled


def test_a_pair_is_lit_up_at_once_both_texts_before_and_after(tiny_folder):
    session = open_page(tiny_folder, layers="0-2", rank=1)
    assert len(lit(session)) == 4
    assert texts(session).count('<section class="before">') == texts(session).count('<section class="after">') == 2
    assert [chart.key for chart in session.get("plotly_chart")] == ["lens_heatmap"]


def test_the_edit_changes_what_is_shown_after_it_and_not_before(tiny_folder):
    session = open_page(tiny_folder, layers="0-2", rank=1)
    before, after = map(numbers, lit(session)[:2])
    assert len(before) > 3 and before != after
    session.slider(key="edit_layers_3").set_value((1, 2)).run()
    settled(session)
    assert numbers(lit(session)[0]) == before and numbers(lit(session)[1]) != after


def test_layer_direction_and_measure_change_the_numbers(tiny_folder):
    session = open_page(tiny_folder, layers="0-2", rank=1)
    seen = {lit(session)[0]}
    session.slider(key="lens_layer").set_value(0).run()
    seen.add(lit(session)[0])
    session.number_input(key="lens_direction").set_value(2).run()
    seen.add(lit(session)[0])
    session.segmented_control(key="lens_measure").set_value("length").run()
    seen.add(lit(session)[0])
    assert len(seen) == 4
    assert "toward" not in lit(session)[0] and "length" in lit(session)[0]


def test_picks_and_words_outlast_a_page_change(tiny_folder):
    session = write(open_page(tiny_folder, layers="0-2", rank=1), "A quiet day.")
    session.slider(key="lens_layer").set_value(1).run()
    session.switch_page("spectrum/page.py").run()
    settled(session.switch_page(PAGE).run())
    assert session.text_area(key="lens_own").value == "A quiet day."
    assert session.slider(key="lens_layer").value == 1
    assert len(lit(session)) == 2


def test_words_of_a_pair_can_be_changed_and_rude_ones_are_blurred_in_the_field_too(tiny_folder):
    session = open_page(tiny_folder, layers="0-2", rank=1)
    session.button(key="lens_edit").click().run()
    settled(session)
    assert session.text_area(key="lens_own").value and session.text_area(key="lens_second").value
    assert len(lit(session)) == 4
    blurred = ".st-key-lens_own textarea:not(:focus) { filter: blur"
    write(session, "What an idiot")
    assert blurred in texts(session)
    session.toggle(key="show_words").set_value(True).run()
    assert blurred not in texts(session)
    session.toggle(key="show_words").set_value(False).run()
    write(session, "What a day")
    assert blurred not in texts(session)


def test_bundled_prompts_can_be_looked_at(tiny_folder):
    session = open_page(tiny_folder, layers="0-2", rank=1)
    settled(session.segmented_control(key="lens_kind").set_value("prompt").run())
    assert "The prompt" in texts(session) and len(lit(session)) == 2


@pytest.mark.parametrize("words", ["", "   \n\t"])
def test_an_empty_text_asks_for_words(tiny_folder, words):
    session = write(open_page(tiny_folder, layers="0-2", rank=1), words)
    assert "Write some words above" in texts(session)
    assert not session.error and not lit(session)


def test_ten_thousand_tokens_are_cut_and_the_page_says_so(tiny_folder):
    session = write(open_page(tiny_folder, layers="0-2", rank=1), "the goal was fair " * 3000)
    assert len(lit(session)) == 2
    assert re.search(r"its last [\d,]+ tokens of [\d,]+ were left out", texts(session))


@pytest.mark.parametrize(
    "words",
    ["مرحبا يا صديقي", "🙂👍🏽 well", "a\x00b\x07c\u202ed", "<script>alert(1)</script><b>x</b>", "$x$ **b** %{text}"],
)
def test_any_characters_are_shown_as_they_are(tiny_folder, words):
    session = write(open_page(tiny_folder, layers="0-2", rank=1), words)
    assert len(lit(session)) == 2 and not session.error
    assert "<script>" not in lit(session)[0] and "<b>" not in lit(session)[0]
    assert "\x00" not in lit(session)[0] and "\u202e" not in lit(session)[0]
    assert 'dir="auto"' in lit(session)[0]


def test_insults_are_blurred_in_the_text_and_masked_in_hovers_and_the_command(tiny_folder):
    session = write(open_page(tiny_folder, layers="0-2", rank=1), "What an idiot")
    assert 'class="rude"' in lit(session)[0]
    assert "idiot" not in re.sub(r"<[^>]*>", "", re.sub(r'<span class="rude">.*?</span>', "", lit(session)[0]))
    code = "\n".join(block.value for block in session.code)
    assert "i••••" in code and "idiot" not in code
    session.toggle(key="show_words").set_value(True).run()
    code = "\n".join(block.value for block in session.code)
    assert "detox lens my-study --device cpu --text 'What an idiot' --layers all --direction 0" in code
    assert "--edit-layers 0-2 --edit-rank 1" in code


def test_an_edit_that_removes_nothing_leaves_the_model_as_it_is_alone(tiny_folder):
    session = open_page(tiny_folder, layers="1", rank=1, off="1.0")
    assert "there is no after" in texts(session)
    assert len(lit(session)) == 2 and '<section class="after">' not in texts(session)


def test_a_link_restores_the_text_and_what_colours_it(tiny_folder):
    words = {"lens": "own", "text": "A quiet day.", "second": "<b>Shut up</b>"}
    session = open_page(tiny_folder, layers="0-2", rank=1, layer=1, colour="length", lens_rank=3, **words)
    assert session.text_area(key="lens_own").value == "A quiet day."
    assert session.text_area(key="lens_second").value == "<b>Shut up</b>"
    assert session.number_input(key="lens_rank").value == 3 and session.slider(key="lens_layer").value == 1
    assert len(lit(session)) == 4 and "length" in lit(session)[0]
    session.number_input(key="lens_rank").set_value(2).run()
    assert session.query_params["lens_rank"] in ("2", ["2"])


def test_colours_come_first_and_what_comes_next_follows(tiny_folder, monkeypatch):
    held, read = threading.Event(), lens.read_predictions

    def wait(*given):
        held.wait(60)
        return read(*given)

    monkeypatch.setattr(lens, "read_predictions", wait)
    session = write(open_page(tiny_folder, layers="0-2", rank=1), "Colours before all else.")
    run_until(session, lambda session: lit(session))
    early = lit(session)
    assert len(early) == 2 and "next here" not in early[0] and numbers(early[0])
    held.set()
    run_until(session, lambda session: "next here" in lit(session)[0])
    assert numbers(lit(session)[0]) == numbers(early[0]) and "next here" in lit(session)[1]
    assert "Point at a token for its number, and for" in texts(session)


def test_reading_what_comes_next_can_be_stopped_and_the_colours_stay(tiny_folder, monkeypatch):
    held, read = threading.Event(), lens.read_predictions

    def wait(*given):
        held.wait(60)
        return read(*given)

    monkeypatch.setattr(lens, "read_predictions", wait)
    session = write(open_page(tiny_folder, layers="0-2", rank=1), "Colours without what follows.")
    run_until(session, lambda session: lit(session))
    session.button(key="stop_token lens").click().run()
    held.set()
    run_until(session, lambda session: "was stopped" in texts(session))
    assert len(lit(session)) == 2 and "next here" not in lit(session)[0]
    session.button(key="lens_again").click().run()
    run_until(session, lambda session: lit(session) and "next here" in lit(session)[0])


def test_the_same_number_has_the_same_colour_in_every_text(tiny_folder):
    session = open_page(tiny_folder, layers="0-2", rank=1)
    scale = re.search(r'<div class="lens-scale">.*?</div>', texts(session))[0]
    seen = set()
    for words in ("A quiet day.", "You utter idiot, shut up and go away from here"):
        write(session, words)
        assert re.search(r'<div class="lens-scale">.*?</div>', texts(session))[0] == scale
        end = float(re.search(r"([\d.]+) toward toxic or more", scale)[1])
        for share, number, side in re.findall(
            r'--share: (\d+)%" data-tip="[^"]*? · ([\d.]+) toward (\w+)', "".join(lit(session))
        ):
            assert int(share) == pytest.approx(STRONGEST * min(1, float(number) / end), abs=1)
            seen.add((side, share))
    assert len(seen) > 8


def test_a_text_of_ones_own_is_found_again_in_another_session_with_its_rude_words_masked(tiny_folder):
    link = {"lens": "own", "text": "What an idiot he was"}
    session = fitted_app(tiny_folder, **link).switch_page(PAGE).run()
    run_until(session, lambda session: "token lens" not in session.session_state["jobs"])
    again = fitted_app(tiny_folder, lens="own").switch_page(PAGE).run()
    written = again.selectbox(key="lens_written")
    assert written.options == ["What an i•••• he was"]
    written.select_index(0).run()
    assert not again.exception and again.query_params["text"] == "What an idiot he was"


def test_a_text_that_was_read_is_not_read_again(tiny_folder, monkeypatch):
    session = open_page(tiny_folder, layers="0-2", rank=1)
    monkeypatch.setattr(Task, "begin", lambda *_: pytest.fail("read again"))
    session.slider(key="lens_layer").set_value(0).run()
    assert not session.exception and len(lit(session)) == 4


def no_sinks(values: np.ndarray) -> np.ndarray:
    return np.zeros(values.shape, dtype=bool)


@pytest.fixture
def planted() -> Lit:
    values = np.array([[0.0, 2.0, -3.0], [1.0, 5.0, -0.5]])
    follow = [[(TokenScore(1, "·idiot", 0.5), TokenScore(2, "·day", 0.001))] * 2] * 2
    return Lit(
        "Before", ("you", "·are", "·fine"), ("you", " are", " fine"), values, values / 2.0, follow, no_sinks(values)
    )


def test_warm_is_toxic_cool_is_civil_and_the_scale_ends(planted):
    html = lit_html(planted, 0, True, False)
    shares = re.findall(r'class="k (\w+)" style="--share: (\d+)%"', html)
    assert shares == [("toxic", "0"), ("toxic", "58"), ("civil", "58")]


def test_a_hover_says_token_layer_number_and_what_comes_next(planted):
    words = say_token(planted, 1, 1, True, False)
    assert words == "“·are”, layer 1 · 5.00 toward toxic · next here: ·i•••• 50%, ·day <1%"
    assert say_token(planted, 1, 2, True, False) == "“·fine”, layer 1 · 0.50 toward civil"
    assert say_value(0.0, True) == "0.00, toward neither side"


def test_a_character_of_several_tokens_is_one_piece_that_says_so():
    values = torch.ones(1, 3).numpy()
    emoji = Lit("Before", ("<0xF0>", "<0x9F>", "<0x99>"), ("", "", "🙂"), values, values, [[]], no_sinks(values))
    html = lit_html(emoji, 0, True, False)
    assert html.count('class="k ') == 1 and "the last of 3 tokens" in html


def test_a_long_text_scrolls_in_a_box_of_its_own_that_the_keyboard_reaches():
    values = np.zeros((1, LONG + 1))
    many = Lit("Before", ("a",) * (LONG + 1), ("a",) * (LONG + 1), values, values, [[]], no_sinks(values))
    assert 'class="lit long" tabindex="0"' in lit_html(many, 0, True, False)


@pytest.mark.parametrize("colours", [LIGHT, DARK])
def test_the_heatmap_has_the_fixed_scale_and_the_side_colours(planted, colours):
    drawn = lens_figure([planted, planted], 1, True, colours, False)
    assert (drawn.layout.coloraxis.cmin, drawn.layout.coloraxis.cmax) == (-1, 1)
    ends = drawn.layout.coloraxis.colorscale
    assert (ends[0][1], ends[-1][1]) == (colours.civil, colours.toxic)
    assert [np.shape(trace.z) for trace in drawn.data if trace.type == "heatmap"] == [(2, 3)] * 2
    assert "5.00 toward toxic" in drawn.data[0].text[1][1]


def test_markup_in_a_token_does_not_work_in_the_heatmap(planted):
    bold = Lit(
        "Before", ("<b>", "·&", "x"), ("<b>", " &", "x"), planted.values, planted.shares, [[], []], planted.sinks
    )
    drawn = lens_figure([bold], 0, False, LIGHT, False)
    assert drawn.layout.xaxis.ticktext[0] == "&lt;b&gt;"
    assert "<b>" not in drawn.data[0].text[0][0]


def test_a_sink_is_hatched_and_said_and_has_no_colour_of_the_scale(planted):
    sinks = np.zeros(planted.values.shape, dtype=bool)
    sinks[1, 0] = True
    lit = replace(planted, sinks=sinks, shares=np.where(sinks, 0, planted.shares))
    assert " hatched" in lit_html(lit, 1, True, True) and " hatched" not in lit_html(lit, 0, True, True)
    assert "an attention sink, outside the scale" in say_token(lit, 1, 0, True, True)
    strokes = [trace for trace in lens_figure([lit], 0, True, LIGHT, True).data if trace.type == "scatter"]
    assert [(list(trace.x), list(trace.y)) for trace in strokes if trace.marker.symbol == "line-ne-open"] == [
        ([0], [1])
    ]


def test_every_token_has_its_label_under_both_heatmaps_however_long_the_text():
    values = np.zeros((2, 200))
    words = tuple(f"·w{number}" for number in range(200))
    long = Lit("Before", words, words, values, values, [], no_sinks(values))
    drawn = lens_figure([long, long], 0, True, LIGHT, True)
    for axis in (drawn.layout.xaxis, drawn.layout.xaxis2):
        assert list(axis.ticktext) == list(words) and axis.showticklabels


def test_a_token_is_masked_where_it_is_part_of_a_rude_word_of_its_text_and_not_by_itself():
    values = np.zeros((1, 5))
    pieces = (" k", "ing", " mor", "on", "s")
    lit = Lit("Before", pieces, pieces, values, values, [], no_sinks(values))
    assert [lit.name(place, False) for place in range(5)] == [" k", "ing", " m••", "o•", "s"]
    assert lit.name(2, True) == " mor"


def test_the_verdict_counts_what_lights_up_and_leaves_sinks_out(planted):
    before = tell_text("The toxic text", [planted], 1, True, False)
    assert "2 of its 3 tokens reach half of the scale toward toxic, “are” farthest (5.00 toward toxic)" in before
    sinks = np.zeros(planted.values.shape, dtype=bool)
    sinks[1, 1] = True
    assert "1 of its 3 tokens reaches half of the scale toward toxic, “you” farthest" in tell_text(
        "The toxic text", [replace(planted, sinks=sinks)], 1, True, False
    )


def test_the_page_opens_on_its_verdict_and_says_in_the_folded_bar_what_is_set(tiny_folder):
    session = open_page(tiny_folder, layers="0-2", rank=1, layer=1)
    assert "The toxic text at layer 1: before the edit" in texts(session)
    assert settings(session) == "Settings: along direction 1"


def test_a_click_on_a_cell_picks_its_layer_on_all_pages(tiny_folder):
    session = open_page(tiny_folder, layers="0-2", rank=1, layer=2)
    click(session, "lens_heatmap", x=3, y=0)
    assert session.slider(key="lens_layer").value == 0
    assert session.switch_page("directions/page.py").run().slider(key="directions_layer").value == 0
