"""What stands beside a step's question: before there is a measurement a hint, and then what was measured."""

from __future__ import annotations

from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from detox_engine.plans.lab.factors import FactorPlan
from detox_engine.plans.option import option_of
from pages.learn import figures, markup, work
from pages.learn.answers import ask_of, write_receipt
from pages.learn.picks import MOST_OFFERED, LearnPicks, OwnEdit
from pages.learn.steps import Step
from pages.learn.work import MEASURING, SHARES, Outcome
from ui.session import state
from ui.show.chart import draw_chart
from ui.show.pair_list import pairs_html
from ui.show.poles import poles_html
from ui.show.side_by_side import comparisons_html
from ui.words.rude_words import mask
from ui.words.text import hover_label, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from detox_engine.lab.factor_model import Recovery
    from ui.frame.page import StudyPage
    from ui.show.downloads import Table

SHOWN_PAIRS = 10
"""Pairs whose texts are dots."""
PAIRS_AS_TEXT = 2


def pick_pairs(pairs: int, count: int) -> list[int]:
    """Some pairs, always the same ones."""
    return sorted(Random(0).sample(range(pairs), min(count, pairs)))


def draw_hint(page: StudyPage[LearnPicks], step: Step) -> None:
    """What can be looked at before a prediction is made; it does not give the answer away."""
    study, layer = page.study, work.find_best_layer(page.study)
    if step.name == "embedding":
        draw_places(page, told=False)
        row = min(pick_pairs(len(study.pairs), SHOWN_PAIRS), key=lambda row: len(study.pairs[row].civil_text))
        values = study.embeddings.civil[layer][row].tolist()
        st.html(markup.embedding_html(study.pairs[row].civil_text, values))
    elif step.name == "pairs":
        rows = pick_pairs(len(study.pairs), PAIRS_AS_TEXT)
        st.html(pairs_html([(study.pairs[row], ()) for row in rows]))
    if step.formula:
        with st.container(key="lesson_formula"):
            st.latex(step.formula)
            st.caption(step.symbols)


def draw_evidence(page: StudyPage[LearnPicks], step: Step) -> None:
    """What was measured, as a picture."""
    draw = {
        "embedding": partial(draw_places, page, told=True),
        "pairs": partial(draw_distances, page),
        "centring": partial(draw_mean, page),
        "noise": partial(draw_spectrum, page),
        "reading": partial(draw_poles, page),
        "removing": partial(draw_removal, page, step),
        "breaking": partial(draw_breaking, page, step),
        "labels": partial(draw_labels, page),
        "own": partial(draw_own, page, step),
    }
    draw[step.name]()


def draw_places(page: StudyPage[LearnPicks], told: bool) -> None:
    study, layer = page.study, work.find_best_layer(page.study)
    rows = pick_pairs(len(study.pairs), SHOWN_PAIRS)
    places = work.find_places(page.fitted, study, layer)[:, rows]
    pairs = [study.pairs[row] for row in rows]
    sides = ([getattr(pair, side) for pair in pairs] for side in ("toxic_text", "civil_text"))
    labels = [[hover_label(text, page.shows_words) for text in texts] for texts in sides]
    draw_chart(
        figures.places_figure(places, labels, told, page.colours),
        f"lesson_places_{int(told)}",
        f"Texts at layer {layer}",
        f"{2 * len(rows)} texts as dots at layer {layer}" + ("; twins are joined by a line" if told else ""),
        lambda: (
            ("pair", "side", "x", "y", "text"),
            [
                (row + 1, side, *places[number, place].tolist(), getattr(study.pairs[row], f"{side}_text"))
                for number, side in enumerate(("toxic", "civil"))
                for place, row in enumerate(rows)
            ],
        ),
        f"texts_layer_{layer}",
    )
    if not told:
        st.caption(f"Each dot is a text, two of each of {len(rows)} pairs. Point at one to read it.")


def draw_distances(page: StudyPage[LearnPicks]) -> None:
    layer = work.find_best_layer(page.study)
    found = work.find_distances(page.fitted, page.study, layer)
    draw_chart(
        figures.distances_figure(found, page.colours),
        "lesson_distances",
        f"Distances at layer {layer}",
        f"Distances at layer {layer}: the middle pair is {np.median(found.within):.2f} apart, texts of different pairs "
        f"{np.median(found.between):.2f}",
        lambda: (("sides of a pair", "different pairs"), list(zip(found.within, found.between, strict=True))),
        f"distances_layer_{layer}",
    )


def draw_mean(page: StudyPage[LearnPicks]) -> None:
    found = work.find_mean(page.fitted, page.study, work.find_best_layer(page.study))
    st.html(markup.mean_html(found))


def draw_spectrum(page: StudyPage[LearnPicks]) -> None:
    study, layer = page.study, work.find_best_layer(page.study)
    values, noise = study.subspaces[layer].singular_values.numpy(), study.noise_thresholds[layer]
    draw_chart(
        figures.spectrum_figure(values, noise, page.colours),
        "lesson_spectrum",
        f"Singular values of layer {layer}",
        f"Singular values of layer {layer}: the first is {values[0]:.3g}, and noise reaches up to {noise:.3g}",
        lambda: (("direction", "singular value", "noise"), [(n + 1, v, noise) for n, v in enumerate(values.tolist())]),
        f"singular_values_layer_{layer}",
    )


def draw_world(page: StudyPage[LearnPicks]) -> None:
    """The synthetic world to play with: fewer pairs and more noise, and what is found against the truth."""
    st.subheader("To play with: a world whose truth is known", anchor=False)
    picks = page.picks
    left, right = st.columns([2, 3], gap="large")
    with left:
        st.markdown(
            "Here the pairs are made up, with 2 toxic directions planted among 64. Take fewer pairs, or more noise: "
            "when does the truth disappear?"
        )
        ask_slider("world_pairs", "Pairs")
        ask_slider("world_noise", "Noise (a toxic direction has strength 1)")
        plan = FactorPlan(pairs=picks.world_pairs, noise=picks.world_noise)
        found = work.judge_world(plan)
        st.markdown(f"**{plain(describe_world(found))}**")
        draw_chart(
            figures.world_figure(found, page.colours),
            "lesson_world_angles",
            "Angle from the truth",
            f"Angle from the planted directions: DeTox’s first {found.first_detox:.0f}°, both of DeTox’s "
            f"{found.detox[-1]:.0f}°, mean difference {found.mean_difference:.0f}°, chance {found.chance.mean:.0f}°",
            partial(list_angles, found),
            "synthetic_angles",
        )
    values = found.singular_values.numpy()
    with right:
        draw_chart(
            figures.spectrum_figure(values, found.threshold, page.colours, planted=found.planted),
            "lesson_world_spectrum",
            "Singular values of the synthetic world",
            f"Singular values of the synthetic world: {found.standing} above the noise, {found.planted} were planted",
            lambda: (("direction", "singular value"), list(enumerate(values.tolist(), start=1))),
            "synthetic_singular_values",
        )


def ask_slider(name: str, label: str) -> None:
    """A slider for a number of the lesson's picks, within what it declares."""
    declared = option_of(LearnPicks, name)
    st.slider(label, declared.low, declared.high, step=declared.step, **state.bind(f"lesson_{name}", f"learn.{name}"))


def describe_world(found: Recovery) -> str:
    """What is found of the truth, in a sentence."""
    angle = found.detox[-1]
    told = (
        f"DeTox finds both planted directions to within {angle:.0f}°"
        if angle <= 15
        else f"DeTox finds them in part: one of them to within {found.first_detox:.0f}°, both to within {angle:.0f}°"
        if angle < found.chance.low
        else f"DeTox does not find them: at {angle:.0f}° it is no better than chance"
    )
    rise = "1 direction rises" if found.standing == 1 else f"{found.standing or 'No'} directions rise"
    return f"{told}. {rise} above the noise, and {found.planted} were planted."


def list_angles(found: Recovery) -> Table:
    rows = [
        ("DeTox, first direction", found.first_detox),
        ("DeTox, both directions", found.detox[-1]),
        ("mean difference, one direction", found.mean_difference),
        ("chance, both directions", found.chance.mean),
    ]
    return ("method", "angle in degrees"), rows


def draw_poles(page: StudyPage[LearnPicks]) -> None:
    found = work.find_poles(page.fitted, page.study, work.find_best_layer(page.study))
    st.html(f'<div class="lesson-poles">{poles_html(found.reading)}</div>')
    if not page.shows_words:
        st.caption("Rude words are blurred; the switch for them is in the sidebar.")


def find_outcome(page: StudyPage[LearnPicks], step: Step) -> tuple[work.Asked, Outcome]:
    asked = ask_of(step.name, page.fitted, page.study, page.picks)
    return asked, MEASURING.find(asked)


def draw_removal(page: StudyPage[LearnPicks], step: Step) -> None:
    asked, found = find_outcome(page, step)
    draw_changes(asked, found)
    draw_texts(page, found, 0, "removal")


def draw_changes(asked: work.Asked, found: Outcome) -> None:
    names = map(figures.name_edit, asked.edits)
    st.html(markup.changes_html(list(zip(names, found.rude, found.perplexity, strict=True))))


def draw_texts(page: StudyPage[LearnPicks], found: Outcome, edit: int, key: str) -> None:
    """One prompt before and after, at first the one that is continued most rudely; others can be chosen."""
    comparisons = found.comparisons[edit]
    first = work.pick_rudest(comparisons)
    order = [first, *(place for place in range(len(comparisons)) if place != first)]
    chosen = st.selectbox(
        "Prompt",
        order,
        format_func=lambda place: shorten(mask(comparisons[place].prompt, page.shows_words)),
        key=f"lesson_prompt_{key}",
        persist_state="session",
    )
    st.html(comparisons_html([comparisons[chosen]], several=False))


def shorten(prompt: str) -> str:
    """The end of a prompt, from the beginning of a word on."""
    return prompt if len(prompt) <= 60 else f"… {prompt[-60:].partition(' ')[2]}"


def draw_breaking(page: StudyPage[LearnPicks], step: Step) -> None:
    asked, found = find_outcome(page, step)
    gentle = MEASURING.find(ask_of("removing", page.fitted, page.study, page.picks))
    edits, shown = asked.edits, found
    if gentle is not None:
        # The edit of the step before beside them, where it was measured.
        edits = (work.gentle_edit(page.study), *edits)
        shown = Outcome(gentle.rude + found.rude, gentle.perplexity + found.perplexity, found.comparisons, found.texts)
    draw_chart(
        figures.cost_figure(shown, edits, page.colours),
        "lesson_cost",
        "What edits do, and what they cost",
        "; ".join(
            f"{figures.name_edit(edit)}: perplexity {cost.after:.3g}, rude words {rude.after:.3g}"
            for edit, rude, cost in zip(edits, shown.rude, shown.perplexity, strict=True)
        ),
        lambda: (
            ("edit", "rude words before", "rude words after", "perplexity before", "perplexity after"),
            [
                (figures.name_edit(edit), rude.before, rude.after, cost.before, cost.after)
                for edit, rude, cost in zip(edits, shown.rude, shown.perplexity, strict=True)
            ],
        ),
        "cost_of_edits",
    )
    names = [figures.name_edit(edit) for edit in asked.edits]
    chosen = st.radio(
        "Texts with", range(len(names)), format_func=names.__getitem__, horizontal=True, key="lesson_broken",
        persist_state="session",
    )  # fmt: skip
    draw_texts(page, found, chosen, "breaking")


def draw_labels(page: StudyPage[LearnPicks]) -> None:
    found = work.find_turned(page.fitted, page.study, work.find_best_layer(page.study))
    bound = state.bind("lesson_flipped", "learn.flipped", SHARES)
    share = st.select_slider("Labels that are swapped (%)", SHARES, **bound)
    detox, mean, left = found.middle(share)
    st.markdown(
        f"**With {share} % swapped DeTox turns by {detox:.0f}°, the mean difference by {mean:.0f}°, and {left:.0%} of "
        "its length is left.**"
    )
    draw_chart(
        figures.labels_figure(found, share, page.colours),
        "lesson_labels",
        "How far directions turn where labels are swapped",
        f"With half of the labels swapped DeTox turns by {found.middle(50)[0]:.0f}°, the mean difference by "
        f"{found.middle(50)[1]:.0f}°",
        lambda: (
            ("swapped in %", "draw", "DeTox in degrees", "mean difference in degrees", "share of its length left"),
            [
                (share, draw + 1, found.detox[row, draw], found.mean_difference[row, draw], found.left[row, draw])
                for row, share in enumerate(SHARES)
                for draw in range(work.DRAWS)
            ],
        ),
        "swapped_labels",
    )
    st.caption(f"A mark is the middle of {work.DRAWS} draws of which labels are swapped; bars go from least to most.")


def draw_own_widgets(page: StudyPage[LearnPicks]) -> None:
    """What is edited; a change takes the prediction back, since it was about another edit."""
    study = page.study
    if study.layers > 1:
        bound = bind_own("layers", lambda own: own.ends(study), lambda ends: {"first": ends[0], "last": ends[1]})
        st.slider("Layers", 0, study.layers - 1, **bound)
    most = min(study.kept, MOST_OFFERED)
    if most > 1:
        bound = bind_own("rank", lambda own: min(own.rank, most), lambda rank: {"rank": rank})
        st.slider("Rank (directions of each layer)", 1, most, **bound)
    declared = option_of(OwnEdit, "strength")
    bound = bind_own("strength", lambda own: own.strength, lambda strength: {"strength": strength})
    label = "Strength (1 takes a direction out, 0 leaves it)"
    st.slider(label, declared.low, declared.high, step=declared.step, **bound)


def bind_own(name: str, show: Callable[[OwnEdit], Any], take: Callable[[Any], Mapping[str, Any]]) -> dict[str, Any]:
    """Settings of the widget for a part of one's own edit; `take` makes the parts that change of the widget's value."""
    return state.bind(
        f"lesson_own_{name}",
        "learn",
        show=lambda picks: show(picks.own),
        take=lambda value: state.view()["learn"].with_own(**take(value)),
    )


def draw_own(page: StudyPage[LearnPicks], step: Step) -> None:
    asked, found = find_outcome(page, step)
    draw_changes(asked, found)
    st.subheader("Your receipt", anchor=False)
    st.code(write_receipt(page, asked, found), language=None, wrap_lines=True)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Make it the edit plan",
            key="lesson_take",
            icon=":material/input:",
            disabled=asked.edits[0] == page.edit,
            on_click=partial(state.put, "edit", asked.edits[0]),
        )
        st.caption("Then every page looks at this edit, and Take away writes it as an adapter.")
    draw_texts(page, found, 0, "own")
