"""What a direction card shows on demand: pairs, neurons, effect, note; and directions across layers."""

import json
import re
import time
from dataclasses import replace

import numpy as np
import pytest

from detox_engine.errors import InputError
from detox_engine.plans.fit import FitPlan
from detox_engine.reading import across_layers, neurons, pairs
from detox_engine.reading.lens import Reading, TokenScore
from detox_engine.reading.neurons import find_value_vectors
from detox_engine.scoring import ablation
from pages.directions import figures, notes, work
from pages.directions.neurons import list_neurons, neurons_html
from tests.pages.conftest import forget_results, run_until, texts
from tests.pages.test_directions import PAGE, heads, open_page
from ui.session import shared_models
from ui.session.view import Fitted
from ui.show.colours import DARK, LIGHT


def open_part(session, part: str, name: str = "0"):
    session.button_group(key=f"part_{name}").set_value(part).run()
    assert not session.exception, session.exception
    return session


def open_pairs(session, name: str = "0"):
    """Those of the first direction, which is drawn large, are in sight."""
    count = 1 if name == "0" else 2
    if name != "0":
        open_part(session, "pairs", name)
    return run_until(
        session, lambda session: texts(session).count('<div class="pairs-apart">') == count or session.error
    )


def study_of(session):
    key = session.session_state["view"].study_key
    return key, shared_models.shelf().find_study(key)


def read_view(session, *path: str):
    return session.session_state["view"][".".join(path)]


# Cards are quiet, and links point at them


def test_of_other_directions_nothing_is_worked_out_before_their_part_is_opened(tiny_folder, monkeypatch):
    open_pairs(open_page(tiny_folder, layers="0-2", rank=6, layer=1))
    for module, name in (
        (pairs, "carry_pairs"),
        (neurons, "find_value_vectors"),
        (across_layers, "measure_cosines"),
    ):
        monkeypatch.setattr(module, name, lambda *args: pytest.fail("worked out unasked"))
    work.value_vectors.clear()
    session = open_page(tiny_folder, layers="0-2", rank=6, layer=1)
    assert len(heads(session)) == 6 and texts(session).count('<div class="pairs-apart">') == 1
    assert not session.main.text_area


def test_what_is_open_stays_open_while_walking_through_the_layers(tiny_folder):
    session = open_part(open_page(tiny_folder, layers="0-2", rank=2, layer=0), "neurons", "1")
    session.button(key="layer_up").click().run()
    assert "Value vectors of layer 1" in texts(session)
    session.switch_page("spectrum/page.py").run()
    session.switch_page(PAGE).run()
    assert texts(session).count("Value vectors of layer 1") == 1


def test_the_opened_direction_is_in_the_link_and_is_the_one_that_the_lens_colours_by(tiny_folder):
    session = open_page(tiny_folder, layers="0-2", rank=2, layer=1)
    session.button(key="pick_card_1_1").click().run()
    assert session.query_params["direction"] in ("2", ["2"])
    assert heads(session)[:2] == ["Direction 2", "Direction 1"]
    session.button(key="pick_card_1_0").click().run()
    assert read_view(session, "direction") == 0 and heads(session)[0] == "Direction 1"
    session.switch_page("token_lens/page.py").run()
    assert session.number_input(key="lens_direction").value == 1


def test_a_link_to_a_direction_that_is_not_drawn_at_first_shows_it_first(tiny_folder):
    session = open_page(tiny_folder, layers="0-2", rank=2, layer=1, direction=11)
    assert heads(session) == ["Direction 11", "Direction 1", "Direction 2", "Direction 3", "Direction 4"]
    session.toggle(key="directions_all").set_value(True).run()
    assert heads(session)[:2] == ["Direction 11", "Direction 1"] and heads(session).count("Direction 11") == 1


def test_the_parts_of_a_pinned_direction_open_in_one_place_alone(tiny_folder):
    session = open_page(tiny_folder, layers="0-2", rank=2, layer=1, pins="1.0,1.1")
    drawn = texts(session)
    assert "where it is open" in drawn and "opens on its pinned card" in drawn
    part_keys = [group.key for group in session.button_group if group.key and group.key.startswith("part_")]
    assert sorted(part_keys) == ["part_0", "part_2", "part_3", "part_pinned_1_1"]
    open_part(session, "note", "pinned_1_1")
    assert len(session.main.text_area) == 1


def test_the_same_from_the_command_line_names_layer_and_reading(tiny_folder):
    session = open_page(tiny_folder, layers="0-2", rank=6, layer=1, measure="product")
    code = "\n".join(block.value for block in session.code)
    assert "detox fit" in code
    assert re.search(r"detox directions my-study .*--layers 1 --rank 6 --measure product --method detox", code)


# Pairs


def test_pairs_are_shown_with_the_tokens_that_carry_them(tiny_folder):
    session = open_pairs(open_page(tiny_folder, layers="0-2", rank=2, layer=2))
    drawn = texts(session)
    assert "Set apart most" in drawn and "Hardly set apart (2)" in drawn
    key, study = study_of(session)
    found = work.PAIRS.find(work.Asked(Fitted(key, study.made), 2, 0))
    separated = work.separation(Fitted(key, study.made), 2).rank_pairs(0)
    assert [one.index for one in found.most] == [index for index, _ in separated[:3]]
    for one in found.pairs:
        for side, embeddings in ((one.toxic, study.embeddings.toxic), (one.civil, study.embeddings.civil)):
            total = float(embeddings[2, one.index] @ study.subspaces[2].basis[0])
            assert float(side.contributions.sum()) == pytest.approx(total, abs=1e-3)
    assert drawn.count('class="k ') > 20 and re.search(r"data-tip=\"“.*?” adds [+−]\d", drawn)


def test_pairs_that_were_read_are_not_read_again(tiny_folder, monkeypatch):
    session = open_pairs(open_page(tiny_folder, layers="0-2", rank=2, layer=2), "1")
    monkeypatch.setattr(pairs, "carry_pairs", lambda *args: pytest.fail("read again"))
    open_part(session, "neurons", "1")
    open_part(session, "pairs", "1")
    assert "Set apart most" in texts(session)


def test_a_failed_reading_of_pairs_says_why_and_can_be_repeated(tiny_folder, monkeypatch):
    forget_results(work.PAIRS)
    session = open_page(tiny_folder, layers="0-2", rank=2, layer=2)

    def fail(*args):
        raise InputError("There is not enough memory for this text: shorten it.")

    with monkeypatch.context() as patched:
        patched.setattr(pairs, "carry_pairs", fail)
        open_pairs(session, "2")
        assert len(session.error) == 1 and "not enough memory" in session.error[0].value
    session.button(key="again_pairs of 2.2").click().run()
    run_until(session, lambda session: texts(session).count('<div class="pairs-apart">') == 2)
    assert not session.error


# Neurons


def test_neurons_are_those_of_the_layer_nearest_to_the_direction(tiny_folder):
    session = open_part(open_page(tiny_folder, layers="0-2", rank=2, layer=1), "neurons")
    key, study = study_of(session)
    bench = shared_models.shelf().workbench(key.model)
    basis = study.subspaces[1].basis[0]
    expected = find_value_vectors(bench.model, 1, basis)
    shown = re.findall(r"<tr><td>(\d+)</td><td>([+−][\d.]+)</td>", texts(session))
    wanted = [*expected.toward[:4], *expected.away[:4]]
    assert [int(neuron) for neuron, _ in shown] == [one.neuron for one in wanted]
    assert [float(cosine.replace("−", "-")) for _, cosine in shown] == [
        pytest.approx(one.cosine, abs=0.006) for one in wanted
    ]
    assert "Lee et al. 2024" in texts(session) and f"{expected.chance:.2f}" in texts(session)


def test_tokens_of_neurons_are_escaped_blurred_and_listed_in_full():
    reading = Reading((TokenScore(1, "·idiot", 2.0), TokenScore(2, "<b>", 1.0)), (TokenScore(3, "·kind", -1.0),))
    found = neurons.ValueVectors((neurons.ValueVector(7, 0.5, 2.0, reading),), (), 0.3)
    drawn = neurons_html(found)
    assert '<span class="rude">·idiot</span>' in drawn and "&lt;b&gt;" in drawn and "<b>" not in drawn
    heads, rows = list_neurons(found)
    assert [dict(zip(heads, row, strict=True))["token"] for row in rows] == ["·idiot", "<b>", "·kind"]


# Effect


def measure(session, name: str = "0", layer: int = 2):
    session.button(key=f"measure_{layer}_{name}").click().run()
    return run_until(session, lambda session: '<div class="effect">' in texts(session) or session.error or session.info)


def test_the_effect_of_a_direction_is_measured_on_demand_and_kept(tiny_folder, monkeypatch):
    session = open_part(open_page(tiny_folder, layers="0-2", rank=2, layer=2), "effect")
    assert '<div class="effect">' not in texts(session)
    measure(session)
    drawn = texts(session)
    assert "Toxicity" in drawn and "Drift" in drawn and drawn.count("Without random ones") == 2
    assert re.search(r"40 prompts", drawn)
    monkeypatch.setattr(ablation, "ablate", lambda *args, **options: pytest.fail("measured again"))
    session.switch_page("spectrum/page.py").run()
    session.switch_page(PAGE).run()
    assert '<div class="effect">' in texts(session)
    other = open_part(open_page(tiny_folder, layers="0-2", rank=2, layer=2), "effect")
    assert '<div class="effect">' in texts(other)
    heads, rows = direction_effect_table(session)
    assert heads == ("score", "what", "mean", "low", "high", "n")
    assert {row[1] for row in rows} == {"before", "after", "random", "change", "random change"}


def direction_effect_table(session):
    from pages.directions.parts import list_effect

    key, study = study_of(session)
    return list_effect(work.EFFECT.find(work.Asked(Fitted(key, study.made), 2, 0)))


def test_a_measurement_can_be_stopped_and_begun_again(tiny_folder, monkeypatch):
    session = open_part(open_page(tiny_folder, layers="0-2", rank=2, layer=2), "effect", "1")

    def endless(*args, progress):
        while True:
            progress("Continuations", 3, 40)
            time.sleep(0.02)

    with monkeypatch.context() as patched:
        patched.setattr(ablation, "ablate", endless)
        session.button(key="measure_2_1").click().run()
        stop = next(button for button in session.button if button.key.startswith("stop_effect of 2.1"))
        assert session.button(key="measure_2_1").disabled
        stop.click().run()
        run_until(session, lambda session: session.info)
        assert "was stopped" in session.info[0].value
    measure(session, "1")
    assert '<div class="effect">' in texts(session)


def test_a_failed_measurement_says_why(tiny_folder, monkeypatch):
    def fail(*args, progress):
        raise InputError("The states after layer 2 are not finite: load the model in float32.")

    monkeypatch.setattr(ablation, "ablate", fail)
    session = open_part(open_page(tiny_folder, layers="0-2", rank=2, layer=2), "effect", "3")
    measure(session, "3")
    assert [error.value for error in session.error] == [
        r"The states after layer 2 are not finite\: load the model in float32\."
    ]


# Notes


def write(session, words: str, layer: int = 2, direction: int = 0):
    field(session, layer, direction).set_value(words).run()
    assert not session.exception, session.exception
    return session


def field(session, layer: int = 2, direction: int = 0):
    return next(one for one in session.main.text_area if one.key.endswith(f"_{layer}_{direction}"))


def test_a_note_is_there_in_another_session_and_on_its_own_card_alone(tiny_folder):
    session = open_part(open_page(tiny_folder, layers="0-2", rank=2, layer=2), "note")
    write(session, "Commas, <b>mostly</b>\nand more")
    other = open_page(tiny_folder, layers="0-2", rank=2, layer=2)
    assert texts(other).count('<p class="note" dir="auto">Commas, &lt;b&gt;mostly&lt;/b&gt;\nand more</p>') == 1
    assert field(open_part(other, "note")).value == "Commas, <b>mostly</b>\nand more"
    other.button(key="layer_down").click().run()
    assert field(other, layer=1).value == "" and "Commas" not in texts(other)


def test_a_note_outlasts_a_study_that_is_fitted_anew_with_other_directions_kept(tiny_folder):
    session = open_part(open_page(tiny_folder, layers="0-2", rank=2, layer=2), "note")
    write(session, "Kept")
    _, study = study_of(session)
    again = replace(study, made="tomorrow", plan=FitPlan(study.plan.pairs, keep=3))
    assert notes.find_folder(again) == notes.find_folder(study)
    for changed in (replace(study, pairs_hash="others"), replace(study, plan=FitPlan(max_length=9))):
        assert notes.find_folder(changed) != notes.find_folder(study)


def test_two_sessions_that_write_the_same_note_lose_nothing(tiny_folder):
    one = open_part(open_page(tiny_folder, layers="0-2", rank=2, layer=2), "note")
    two = open_part(open_page(tiny_folder, layers="0-2", rank=2, layer=2), "note")
    write(one, "From one")
    write(two, "From two")
    assert field(two).value == "From one\n\nFrom two"


def test_a_note_that_cannot_be_written_stays_in_the_field_with_a_sentence(tiny_folder, monkeypatch):
    session = open_part(open_page(tiny_folder, layers="0-2", rank=2, layer=2), "note")

    def fail(*args):
        raise InputError("notes.json cannot be written: No space left on device.")

    with monkeypatch.context() as patched:
        patched.setattr(notes, "write_note", fail)
        write(session, "Precious")
        assert "No space left" in session.error[0].value and field(session).value == "Precious"
        session.switch_page("spectrum/page.py").run()
        session.switch_page(PAGE).run()
        assert field(session).value == "Precious"
    write(session, "Precious still")
    assert not session.error and '<p class="note" dir="auto">Precious still</p>' in texts(session)


def test_what_was_typed_on_the_way_to_another_page_is_kept(tiny_folder):
    session = open_part(open_page(tiny_folder, layers="0-2", rank=2, layer=2), "note")
    # As where the words come when their field is gone already: no callback is called for them.
    session.session_state[field(session).key] = "On the way"
    session.run()
    assert '<p class="note" dir="auto">On the way</p>' in texts(session)


def test_broken_notes_are_said_once_and_cards_stay(tiny_folder):
    session = open_page(tiny_folder, layers="0-2", rank=2, layer=2)
    folder = notes.find_folder(study_of(session)[1])
    folder.mkdir(parents=True)
    (folder / "notes.json").write_text("{broken")
    open_part(session, "note")
    assert len(session.error) == 1 and "cannot be read" in session.error[0].value and len(heads(session)) == 4


def test_a_note_with_toxic_words_is_blurred_until_its_field_is_asked_for(tiny_folder):
    session = open_part(open_page(tiny_folder, layers="0-2", rank=2, layer=2), "note")
    write(session, "It says idiot")
    # Whoever typed it sees it; whoever comes later sees it blurred.
    assert field(session).value == "It says idiot"
    other = open_part(open_page(tiny_folder, layers="0-2", rank=2, layer=2), "note")
    assert 'It says <span class="rude">idiot</span>' in texts(other) and not other.main.text_area
    next(button for button in other.button if button.label == "Change the note").click().run()
    assert field(other).value == "It says idiot"
    write(other, "")
    assert '<p class="note"' not in texts(other)
    assert json.loads((notes.find_folder(study_of(other)[1]) / "notes.json").read_text()) == []


# Layers beside each other


def chart(session, key: str):
    return next(one for one in session.get("plotly_chart") if one.key == key)


def test_angles_follow_the_number_of_directions_and_say_what_they_are(tiny_folder):
    session = open_page(tiny_folder, layers="0-2", rank=2)
    key, study = study_of(session)
    one = work.angles(Fitted(key, study.made), 1)
    assert figures.describe_angles(one[..., 0]) in chart(session, "angles").alt
    session.number_input(key="angles_rank").set_value(3).run()
    three = work.angles(Fitted(key, study.made), 3)
    assert figures.describe_angles(three.mean(axis=-1)) in chart(session, "angles").alt
    session.button_group(key="angles_summary").set_value("Largest angle").run()
    assert figures.describe_angles(three.max(axis=-1)) in chart(session, "angles").alt
    assert len(figures.list_angles(three)[0]) == 5


def test_the_course_of_a_direction_ends_where_no_direction_is_like_it():
    cosines = np.array([[0.1, 0.2], [0.3, -0.8], [1.0, 0.0], [0.75, 0.1], [0.1, 0.6], [0.9, 0.0]])
    words = figures.describe_course(cosines, 2)
    assert words.startswith("It appears first in layer 1 and lasts to layer 3:")
    assert "in layer 5 alone" in figures.describe_course(cosines, 5)
    assert "from the first layer and lasts to the last" in figures.describe_course(cosines[1:4], 1)


@pytest.mark.parametrize("colours", [LIGHT, DARK])
def test_the_cosine_chart_has_a_cell_for_each_direction_of_each_layer(colours):
    cosines = np.linspace(-1, 1, 60).reshape(3, 20)
    figure = figures.cosines_figure(cosines, 2, 19, colours)
    assert np.shape(figure.data[0].z) == (figures.MOST_DIRECTIONS, 3) and not figure.layout.shapes
    framed = figures.cosines_figure(cosines, 2, 4, colours).layout.shapes[0]
    assert (framed.x0, framed.x1, framed.y0, framed.y1) == (1.5, 2.5, 4.5, 5.5)
    assert figure.data[0].hovertext[0][0] == "Layer 0, direction 1: cosine −1.000"
    heads, rows = figures.list_cosines(cosines)
    assert len(rows) == 60 and rows[0] == (0, 0, -1.0)


@pytest.mark.parametrize("colours", [LIGHT, DARK])
def test_the_angle_chart_writes_its_cells_and_frames_the_picked_layer(colours):
    angles = np.array([[[0, 0], [10, 50]], [[10, 50], [0, 0]]], dtype=float)
    figure = figures.angles_figure(angles, angles.max(-1), 1, "Largest angle", colours)
    assert figure.data[0].hovertext[0][1] == "Layers 0 and 1: 10°, 50°"
    assert list(figure.data[1].text) == ["0°", "50°", "50°", "0°"]
    # Ink and cell are never both dark or both light.
    assert figure.data[1].textfont.color[0] != figure.data[1].textfont.color[1]
    assert figure.layout.shapes[0].y0 == 0.5 and figure.layout.xaxis.range == figure.layout.yaxis.range == (-0.5, 1.5)
    assert figures.list_angles(angles) == (
        ("layer", "other_layer", "angle_1", "angle_2"),
        [(0, 1, 10.0, 50.0)],
    )
    wide = np.zeros((40, 40, 1))
    assert len(figures.angles_figure(wide, wide[..., 0], 0, "Angle", colours).data) == 1


def test_on_a_server_for_others_no_note_is_kept_or_shown(tiny_folder, monkeypatch):
    session = open_part(open_page(tiny_folder, layers="0-2", rank=2, layer=2), "note")
    write(session, "Mine alone")
    monkeypatch.setattr(notes, "keeps_results", lambda: False)
    other = open_part(open_page(tiny_folder, layers="0-2", rank=2, layer=2), "note")
    assert "Mine alone" not in texts(other) and "no notes are kept" in texts(other) and not other.main.text_area
