"""Directions: cards for each direction of a layer, pins, and switches in the edit plan."""

import re
import time
from dataclasses import replace

import pytest
import torch

from detox_engine.data.columns import Pair
from detox_engine.forward.embedded_pairs import Embeddings
from detox_engine.forward.tokens import LensText
from detox_engine.reading import causal, lens, pairs
from detox_engine.reading.causal import CausalReading, TokenEffect
from detox_engine.reading.directions import DirectionReading
from detox_engine.reading.lens import Reading, TokenScore
from detox_engine.reading.pairs import CarriedText, knows_poles, separate_pairs
from detox_engine.study.methods.detox import fit_subspace
from pages.directions import figures, work
from pages.directions.pairs import CarriedPair, carried_html, find_end, list_tokens
from pages.directions.poles import describe_polarity, meaning_html
from tests.pages.conftest import LIMIT, fitted_app, open_app, run_until, settings, texts
from ui.session import shared_models
from ui.session.view import Fitted
from ui.show.poles import poles_html
from ui.words.text import ENDING

PAGE = "directions/page.py"


def open_page(folder: str, **link: object):
    session = fitted_app(folder, **link).switch_page(PAGE).run()
    assert not session.exception, session.exception
    return session


def heads(session) -> list[str]:
    """The names of the cards, in order."""
    return re.findall(r'<h3 class="card">((?:Layer \d+ · d|D)irection \d+)</h3>', texts(session))


def keys(session, prefix: str) -> list[str]:
    widgets = [*session.toggle, *session.button]
    return [widget.key for widget in widgets if widget.key and widget.key.startswith(prefix)]


def test_without_a_study_the_page_offers_to_fit_one(tiny_folder):
    session = open_app(model=tiny_folder, limit=LIMIT - 1).switch_page(PAGE).run()
    assert "There is no study to show yet" in texts(session)
    assert not session.button(key="fit_now").disabled
    assert not heads(session)


def test_where_the_pairs_do_not_settle_the_poles_the_ends_have_no_side(tiny_folder, monkeypatch):
    monkeypatch.setattr(pairs, "knows_poles", lambda polarity, count: False)
    shown = texts(open_page(tiny_folder, layers="0-2", rank=2))
    assert shown.count("<h4>End A</h4>") == shown.count("<h4>End B</h4>") >= 2
    assert '<section class="toxic">' not in shown and "Which pole is the toxic one is uncertain" in shown


def test_each_direction_of_the_rank_has_a_card_with_both_poles_and_its_meaning(tiny_folder, monkeypatch):
    monkeypatch.setattr(pairs, "knows_poles", lambda polarity, count: True)
    session = open_page(tiny_folder, layers="0-2", rank=6, measure="lens")
    shown = texts(session)
    assert heads(session) == [f"Direction {number}" for number in range(1, 7)]
    # The mean direction below has a pair of poles too, whose ends are neither toxic nor civil.
    assert shown.count('<section class="toxic">') == shown.count('<section class="civil">') == 6
    assert shown.count('<section class="plain">') == 2
    assert "What centring keeps out" in shown
    assert shown.count(f"of {LIMIT} pairs the toxic text lies nearer") == 6
    assert shown.count("Share of variance") == shown.count("Polarity</span>") == 6


def test_a_change_of_rank_or_layers_in_the_sidebar_changes_the_cards(tiny_folder):
    session = open_page(tiny_folder, layers="0-2", rank=5, layer=2)
    assert len(heads(session)) == len(keys(session, "switch_card_")) == 5
    rank = next(slider for slider in session.sidebar.slider if slider.label == "Rank")
    rank.set_value(7).run()
    assert len(heads(session)) == len(keys(session, "switch_card_")) == 7
    session.slider(key="edit_layers_3").set_value((0, 1)).run()
    assert session.slider(key="directions_layer").value == 2
    assert not keys(session, "switch_card_")
    assert texts(session).count("Its layer is not edited") == 7


def test_walking_through_layers_shows_other_tokens_and_stops_at_the_ends(tiny_folder):
    session = open_page(tiny_folder, layers="0-2", rank=2)
    session.slider(key="directions_layer").set_value(1).run()
    at_one = texts(session)
    session.button(key="layer_up").click().run()
    assert session.slider(key="directions_layer").value == 2
    assert "Layer 2" in texts(session) and texts(session) != at_one
    assert session.button(key="layer_up").disabled and not session.button(key="layer_down").disabled


def test_the_picked_layer_the_measure_and_the_pins_outlast_a_page_change(tiny_folder):
    session = open_page(tiny_folder, layers="0-2", rank=2)
    session.slider(key="directions_layer").set_value(0).run()
    session.button_group(key="directions_measure").set_value("lens").run()
    session.button(key="pin_card_0_1").click().run()
    session.switch_page("spectrum/page.py").run()
    session.switch_page(PAGE).run()
    assert session.slider(key="directions_layer").value == 0
    assert session.button_group(key="directions_measure").value == "lens"
    assert "Layer 0 · direction 2" in heads(session)


def test_the_layer_picked_on_the_spectrum_is_the_one_to_start_with(tiny_folder):
    session = fitted_app(tiny_folder).switch_page("spectrum/page.py").run()
    session.slider(key="spectrum_layer").set_value(0).run()
    session.switch_page(PAGE).run()
    assert session.slider(key="directions_layer").value == 0


def test_the_measure_changes_the_scores_of_every_card(tiny_folder):
    session = open_page(tiny_folder, layers="0-2", rank=1, measure="lens")
    lens = poles_of(session)
    session.button_group(key="directions_measure").set_value("product").run()
    product = poles_of(session)
    assert len(lens) == len(product) > 3
    assert all(one != other for one, other in zip(lens, product, strict=True))


def poles_of(session) -> list[str]:
    return re.findall(r'<div class="poles">.*?</div>', texts(session))


def read_picked(session):
    return run_until(session, lambda session: "What it makes the model say" in texts(session) or unread(session))


def unread(session) -> bool:
    return "Not readable as words here" in texts(session) or "does not read as words" in texts(session)


def test_the_page_opens_on_the_texts_and_words_of_the_first_direction_before_anything_is_set(tiny_folder):
    session = open_page(tiny_folder, layers="0-2", rank=2, layer=1)
    run_until(session, lambda session: '<div class="pairs-apart">' in texts(session))
    assert heads(session)[0] == "Direction 1" and settings(session) == "Settings: causal, then logit lens"
    study = shared_models.shelf().find_study(session.session_state["view"].study_key)
    agreeing = separate_pairs(study.embeddings, 1, study.subspaces[1]).agreeing[0]
    assert f"In {agreeing} of {LIMIT} pairs, which it was found from," in texts(session)


def test_the_opened_direction_is_read_by_what_its_removal_changes(tiny_folder, monkeypatch):
    monkeypatch.setattr(pairs, "knows_poles", lambda polarity, count: True)
    # So that any direction of the tiny model is readable.
    monkeypatch.setattr(lens, "FEWEST_READ", 0)
    session = open_page(tiny_folder, layers="0-2", rank=2, layer=1)
    read_picked(session)
    assert heads(session)[0] == "Direction 1"
    session.button(key="pick_card_1_1").click().run()
    run_until(
        session, lambda session: "Direction 2 of layer 1" in texts(session) and "Its removal changes" in texts(session)
    )
    assert heads(session)[:2] == ["Direction 2", "Direction 1"]
    key = session.session_state["view"].study_key
    study = shared_models.shelf().find_study(key)
    bench = shared_models.shelf().workbench(key.model)
    (expected,) = causal.read_causally(
        bench.model,
        causal.run_clean(bench.model, [1]),
        1,
        study.subspaces[1].basis[1][None],
        off=study.sinks.dimensions,
    )
    drawn = texts(session)
    assert drawn.count("What it makes the model say") == 1 and "Through the logit lens" in drawn
    assert poles_html(expected) in drawn
    assert f"over {causal.PROMPTS} prompts" in drawn
    # It is kept, for this session and others.
    monkeypatch.setattr(causal, "read_causally", lambda *args, **settings: pytest.fail("read again"))
    session.switch_page("spectrum/page.py").run()
    session.switch_page(PAGE).run()
    assert poles_html(expected) in texts(session)
    other = open_page(tiny_folder, layers="0-2", rank=2, layer=1, direction=2)
    assert poles_html(expected) in texts(other)


def test_another_direction_of_the_layer_is_compared_with_the_same_run(tiny_folder, monkeypatch):
    # A fit of its own: of another, a test before this one may have kept the first reading, and not the run.
    session = open_page(tiny_folder, layers="0-2", rank=2, layer=0, direction=1, pooling="last")
    read_picked(session)
    monkeypatch.setattr(causal, "run_clean", lambda *args, **settings: pytest.fail("ran again"))
    session.button(key="pick_card_0_1").click().run()
    read_picked(session)
    assert not session.error


def test_a_direction_that_says_nothing_in_words_is_said_to_and_has_its_texts_beside_it(tiny_folder, monkeypatch):
    session = open_page(tiny_folder, layers="0-2", rank=2, layer=0)
    monkeypatch.setattr(lens, "FEWEST_READ", 10**6)
    session.button(key="pick_card_0_3").click().run()
    run_until(session, lambda session: '<div class="pairs-apart">' in texts(session) and unread(session))
    drawn = texts(session)
    assert drawn.count("Not readable as words here") == 1 and "cannot be read as words" in drawn
    assert re.search(rf"likely after {causal.PROMPTS} prompts, its removal changes (no|\d+) tokens? by more", drawn)


def test_the_causal_reading_can_be_stopped_and_begun_again(tiny_folder, monkeypatch):
    monkeypatch.setattr(lens, "FEWEST_READ", 0)
    session = open_page(tiny_folder, layers="0-2", rank=3, layer=2)

    def endless(*args, progress):
        while True:
            progress("Reading prompts", 3, 40)
            time.sleep(0.02)

    with monkeypatch.context() as patched:
        patched.setattr(causal, "run_clean", endless)
        work.CLEAN.__init__(8)
        session.button(key="pick_card_2_2").click().run()
        session.button(key="stop_causal reading").click().run()
        run_until(session, lambda session: session.info)
        assert "The reading was stopped." in session.info[0].value
    session.button(key="again_causal reading").click().run()
    read_picked(session)
    assert not session.info


def test_a_pinned_direction_that_is_open_is_read_once(tiny_folder, monkeypatch):
    monkeypatch.setattr(lens, "FEWEST_READ", 0)
    session = open_page(tiny_folder, layers="0-2", rank=2, layer=1, direction=1, pins="1.0")
    read_picked(session)
    assert texts(session).count("What it makes the model say") == 1


def test_the_page_shows_the_directions_of_the_edits_method(tiny_folder, monkeypatch):
    monkeypatch.setattr(lens, "FEWEST_READ", 0)
    session = open_page(tiny_folder, layers="0-2", rank=2, layer=1, direction=2, method="fisher", pins="0.1,1.0")
    drawn = texts(session)
    # Fisher's has one direction a layer: of the pins one is there, and of the picked direction there is none.
    assert heads(session) == ["Direction 1", "Layer 1 · direction 1"] and "Layer 1, by Fisher" in drawn
    assert "What centring keeps out" not in drawn
    assert "--method fisher" in "\n".join(block.value for block in session.code)
    read_picked(session)
    study = shared_models.shelf().find_study(session.session_state["view"].study_key)
    bench = shared_models.shelf().workbench(session.session_state["view"].study_key.model)
    (expected,) = causal.read_causally(
        bench.model, causal.run_clean(bench.model, [1]), 1, study.of("fisher")[1].basis, off=study.sinks.dimensions
    )
    assert poles_html(expected) in texts(session)
    run_until(session, lambda session: '<div class="pairs-apart">' in texts(session))
    asked = work.Asked(Fitted(session.session_state["view"].study_key, study.made), 1, 0, "fisher")
    one = work.PAIRS.find(asked).most[0]
    total = float(study.embeddings.toxic[1, one.index] @ study.of("fisher")[1].basis[0])
    assert float(one.toxic.contributions.sum()) == pytest.approx(total, abs=1e-3)


def test_what_could_be_chance_is_pale_and_rude_words_are_marked():
    tokens = (TokenEffect(1, "·idiot", 0.5, 0.4, 0.6, True), TokenEffect(2, "<b>", 0.1, -0.1, 0.3, False))
    drawn = poles_html(CausalReading(toxic_pole=tokens, civil_pole=(), read=1, prompts=40, tokens=900, chance=0.2))
    assert '<span class="rude">·idiot</span>' in drawn and "<b>" not in drawn
    assert drawn.count('class="pale"') == 1
    assert 'title="95 % interval −0.10 to +0.30"' in drawn


def test_a_pin_stays_beside_the_layers_that_follow_and_says_how_alike_they_are(tiny_folder):
    session = open_page(tiny_folder, layers="0-2", rank=2)
    session.slider(key="directions_layer").set_value(0).run()
    session.button(key="pin_card_0_0").click().run()
    session.button(key="layer_up").click().run()
    assert heads(session)[:2] == ["Direction 1", "Layer 0 · direction 1"]
    view = session.session_state["view"]
    study = shared_models.shelf().find_study(view.study_key)
    cosine = float(study.subspaces[0].basis[0] @ study.subspaces[1].basis[0])
    said = re.search(r"Most like the pinned direction 1 of layer 0: cosine ([+−][\d.]+)", texts(session))
    assert float(said[1].replace("−", "-")) == pytest.approx(cosine, abs=0.006)
    session.button(key="pin_pinned_0_0").click().run()
    assert "Pinned" not in texts(session)


def test_a_pinned_direction_is_drawn_across_all_layers(tiny_folder):
    session = open_page(tiny_folder, layers="0-2", rank=2, layer=0, pins="1.0")
    charts = {chart.key: chart for chart in session.get("plotly_chart")}
    assert set(charts) == {"cosines_1_0", "angles"}
    key = session.session_state["view"].study_key
    fitted = Fitted(key, shared_models.shelf().find_study(key).made)
    course = figures.describe_course(work.cosines(work.Asked(fitted, 1, 0)), 1)
    assert course in texts(session) and course in charts["cosines_1_0"].alt


def test_switching_a_direction_off_takes_it_out_of_the_plan_of_every_page(tiny_folder):
    session = open_page(tiny_folder, layers="0-2", rank=2, layer=2)
    session.toggle(key="switch_card_2_1").set_value(False).run()
    assert session.session_state["view"].edit.switched_off == {(2, 1)}
    assert "1 direction is switched off" in texts(session)
    session.switch_page("spectrum/page.py").run()
    session.switch_page(PAGE).run()
    assert session.toggle(key="switch_card_2_1").value is False
    assert session.toggle(key="switch_card_2_0").value is True
    session.toggle(key="switch_card_2_1").set_value(True).run()
    assert session.session_state["view"].edit.switched_off == frozenset()


def test_a_plan_with_every_direction_switched_off_is_said_to_remove_nothing(tiny_folder):
    session = open_page(tiny_folder, layers="2", rank=1, layer=2)
    assert "removes nothing" not in texts(session)
    session.toggle(key="switch_card_2_0").set_value(False).run()
    assert "removes nothing" in texts(session)


def test_a_study_without_embeddings_has_cards_and_says_why_it_lists_no_pairs(tiny_folder):
    session = fitted_app(tiny_folder, layers="0-2", rank=1)
    key, shelf = session.session_state["view"].study_key, shared_models.shelf()
    study = shelf.find_study(key)
    with shelf._lock:
        shelf._studies.keep(key, replace(study, embeddings=None, made="without embeddings"))
    try:
        session.switch_page(PAGE).run()
        assert not session.exception
        assert heads(session)
        assert "without keeping the texts' embeddings" in texts(session)
        assert "lies nearer to the toxic pole" not in texts(session)
    finally:
        with shelf._lock:
            shelf._studies.keep(key, study)


def test_swapped_labels_make_the_page_say_that_the_poles_are_uncertain(tiny_folder):
    session = fitted_app(tiny_folder, layers="2", rank=1)
    key, shelf = session.session_state["view"].study_key, shared_models.shelf()
    study = shelf.find_study(key)
    subspace = study.subspaces[2]
    doubtful = replace(subspace, polarity=torch.full_like(subspace.polarity, 0.02))
    with shelf._lock:
        shelf._studies.keep(key, replace(study, subspaces=(*study.subspaces[:2], doubtful), made="with swapped labels"))
    try:
        session.switch_page(PAGE).run()
        session.slider(key="directions_layer").set_value(2).run()
        assert "hardly tell toxic from civil" in texts(session)
        assert "Which pole is the toxic one is uncertain." in texts(session)
    finally:
        with shelf._lock:
            shelf._studies.keep(key, study)


def test_swapping_half_of_the_labels_leaves_the_direction_and_takes_away_its_poles():
    generator = torch.Generator().manual_seed(0)
    pairs, hidden = 200, 12
    planted, mean = torch.eye(hidden)[:2]
    civil = torch.randn(pairs, hidden, generator=generator) + 20 * mean
    toxic = civil + 3 * planted + 0.1 * torch.randn(pairs, hidden, generator=generator)
    swap = (torch.arange(pairs) % 2 == 0)[:, None]
    clean = fit_subspace(toxic, civil, 1)
    noisy = fit_subspace(torch.where(swap, civil, toxic), torch.where(swap, toxic, civil), 1)
    assert abs(float(clean.basis[0] @ noisy.basis[0])) > 0.99
    assert knows_poles(float(clean.polarity[0]), pairs) and not knows_poles(float(noisy.polarity[0]), pairs)
    agreeing = separate_pairs(Embeddings(toxic[None], civil[None], 0, ()), 0, clean).agreeing
    assert agreeing == (pairs,)


def test_pairs_are_ranked_by_their_difference_along_the_direction():
    subspace = fit_subspace(torch.tensor([[3.0, 1, 0], [9, 1, 0], [-1, 1, 0.1]]), torch.tensor([[0.0, 1, 0]] * 3), 1)
    toxic = torch.tensor([[[3.0, 1, 0], [9, 1, 0], [-1, 1, 0.1]]])
    found = separate_pairs(Embeddings(toxic, torch.tensor([[[0.0, 1, 0]] * 3]), 0, ()), 0, subspace)
    ranked = found.rank_pairs(0)
    assert [index for index, _ in ranked] == [1, 0, 2]
    assert sum(times**2 for _, times in ranked) / 3 == pytest.approx(1)
    assert ranked[-1][1] < 0 and found.agreeing == (2,)


def carry(pair: Pair, *added: float) -> CarriedPair:
    """A pair whose texts are tokens of a character each; all but the first few add nothing."""
    sides = []
    for text in (pair.toxic_text, pair.civil_text):
        contributions = torch.zeros(len(text))
        contributions[: len(added)] = torch.tensor(added)
        sides.append(CarriedText(LensText((0,) * len(text), tuple(text), tuple(text), 0), contributions, contributions))
    return CarriedPair(0, pair, 1.5, *sides)


def test_no_pair_stands_among_most_least_and_against_at_once():
    subspace = fit_subspace(torch.tensor([[3.0, 1, 0], [9, 1, 0], [-1, 1, 0.1]]), torch.tensor([[0.0, 1, 0]] * 3), 1)
    toxic = torch.tensor([[[3.0, 1, 0], [9, 1, 0], [-1, 1, 0.1], [-0.1, 1, 0], [0.2, 1, 0], [0, 1, 0]]])
    found = separate_pairs(Embeddings(toxic, torch.tensor([[[0.0, 1, 0]] * 6]), 0, ()), 0, subspace)
    picked = found.pick_pairs(0, most=2, least=2, against=2)
    assert [index for index, _ in picked.most] == [1, 0]
    assert [index for index, _ in picked.against] == [2, 3]
    assert [index for index, _ in picked.least] == [5, 4]
    few = found.pick_pairs(0, most=9, least=9, against=9)
    indices = [index for group in (few.most, few.least, few.against) for index, _ in group]
    assert sorted(indices) == list(range(6)) and [index for index, _ in few.most] == [1, 0, 4]


def test_hostile_tokens_and_texts_are_shown_as_text():
    bad = "<script>alert(1)</script>"
    reading = Reading((TokenScore(1, bad, 2.0),), (TokenScore(2, "·<img src=x>", -1.0),))
    whole = CarriedText(LensText((1,), (bad,), (bad,), 0), torch.ones(1), torch.ones(1))
    carried = CarriedPair(0, Pair("", bad, bad), 1.0, whole, whole)
    drawn = poles_html(reading) + carried_html(carried, 1.0, shown=True)
    assert "<script" not in drawn and "<img" not in drawn
    assert drawn.count("&lt;script&gt;") == 1 + 2 * 2
    prompted = carried_html(carry(Pair(bad, "a", "b"), 0.1), 1.0, shown=True)
    assert "<script" not in prompted and prompted.count("&lt;script&gt;") == 1


def test_toxic_tokens_and_words_are_marked_for_the_blur():
    reading = Reading((TokenScore(1, "·idiot", 2.0),), (TokenScore(2, "·kind", -1.0),))
    assert '<span class="rude">·idiot</span>' in poles_html(reading)
    begun = TokenEffect(9, "·id", 1.0, 0.5, 1.5, True, ending="iot<")
    drawn = poles_html(CausalReading(toxic_pole=(begun,), civil_pole=(), read=9, prompts=4, tokens=90, chance=0.2))
    assert f'<span class="rude">·id<i class="ending" title="{ENDING}">iot&lt;</i></span>' in drawn
    moron = CarriedText(LensText((1, 2), ("mor", "on"), ("mor", "on"), 0), torch.ones(2), torch.ones(2))
    carried = CarriedPair(0, Pair("", "moron", "moron"), 1.0, moron, moron)
    assert carried_html(carried, 1.0, shown=False).count('<span class="rude">mor</span>') == 2
    whole = CarriedText(LensText((1,), ("moron",), ("moron",), 0), torch.ones(1), torch.ones(1))
    hidden = carried_html(CarriedPair(0, Pair("", "moron", "moron"), 1.0, whole, whole), 1.0, shown=False)
    assert "“m••••” adds +1.00" in hidden and "“moron” adds" not in hidden


def test_a_pairs_tokens_are_coloured_by_what_they_add_and_its_prompt_is_not():
    one = carry(Pair("So ", "hm", "ah"), 9.0, 0.0, 0.0, 2.0, -1.0)
    assert find_end([one]) == 2.0
    drawn = carried_html(one, 2.0, shown=False)
    assert re.findall(r'class="k (\w+)" style="--share: (\d+)%" data-tip="(.*?)"', drawn) == [
        ("toxic", "58", "“h” adds +2.00"), ("civil", "29", "“m” adds −1.00"),
        ("toxic", "58", "“a” adds +2.00"), ("civil", "29", "“h” adds −1.00"),
    ]  # fmt: skip
    assert '<div class="prompt">So </div>' in drawn and drawn.count("+10.00") == 2
    heads, rows = list_tokens([one])
    assert dict(zip(heads, rows[3], strict=True)) == {
        "pair": 1, "times": 1.5, "side": "toxic", "place": 4, "token": "h", "contribution": 2.0, "projection": 2.0,
    }  # fmt: skip
    assert len(rows) == 10


def test_a_text_that_is_cut_within_its_prompt_says_so():
    one = carry(Pair("So what", "hm", "ah"), 1.0)
    cut = replace(one.toxic.text, tokens=("S", "o"), pieces=("S", "o"), cut=7)
    drawn = carried_html(replace(one, toxic=replace(one.toxic, text=cut, contributions=torch.ones(2))), 1.0, False)
    assert drawn.count("Cut off before it begins.") == 1


def test_bars_of_both_poles_share_one_scale():
    reading = Reading((TokenScore(1, "a", 4.0), TokenScore(2, "b", 2.0)), (TokenScore(3, "c", -1.0),))
    assert re.findall(r"width: ([\d.]+)%", poles_html(reading)) == ["100.0", "50.0", "25.0"]


def test_polarity_is_told_in_words():
    assert describe_polarity(0.9) == "Tells toxic from civil."
    assert describe_polarity(0.4).startswith("Partly")
    assert describe_polarity(0.1).startswith("Varies within toxic text")
    entry = DirectionReading(0, 0, 1.0, 0.5, 0.1, Reading((), ()))
    assert "uncertain" in meaning_html(entry, 10, 5, sure=False)
    assert "uncertain" not in meaning_html(entry, 10, 5, sure=True)
