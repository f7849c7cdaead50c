"""Do toxic and civil texts part? The embeddings of a layer in two dimensions, before and after the edit."""

from random import Random

import numpy as np
import streamlit as st

from detox_engine.errors import InputError
from detox_engine.plans import commands
from detox_engine.plans.edit import effective
from detox_engine.plans.map import MapPlan
from detox_engine.plans.words import describe_edit
from pages.map import figures, work
from pages.map.picks import METHODS, pick_looks, pick_plan, pick_states
from pages.map.selection import draw_selected, find_selected, select_pairs
from pages.map.separability import draw_separability
from pages.map.work import AFTER, BEFORE, PAPER, TITLES, Asked, Layout
from ui.frame import page
from ui.frame.command import draw_commands
from ui.session import state
from ui.show.chart import STILL, draw_chart
from ui.show.figures import palette
from ui.show.notes import draw_error
from ui.widgets.layer import pick_layer
from ui.work import jobs

MOST_DRAWN = 1000
"""Pairs drawn, so that a browser stays quick; the layout, the probes and the download have them all."""
SELECTING = {
    "displaylogo": False,
    "displayModeBar": True,
    "modeBarButtonsToRemove": ["toImage", "zoomIn2d", "zoomOut2d"],
}


def draw_run() -> None:
    """The offer to run the edited model, and what becomes of a run."""
    job = jobs.find_job(work.RUN)
    if job is not None and job.running:
        jobs.watch_job(job, jobs.draw_progress)
        return
    if AFTER in states:
        return
    if AFTER in work.find_states(asked, study):
        # The run ended while this page was being drawn.
        st.rerun()
    with st.container(border=True, horizontal=True, vertical_alignment="center", key="map_run_offer"):
        st.markdown(
            f"The edited model has not read the texts yet ({describe_edit(asked.edit)}). It takes as long as a fit.",
            width="stretch",
        )
        st.button(
            "Run the edited model", key="map_run", type="primary", icon=":material/play_arrow:",
            on_click=work.begin_run, args=(asked,),
            help="It reads every text again, and a linear probe measures every layer before and after.",
        )  # fmt: skip
    if job is not None and job.key == asked and job.snapshot.state == "failed":
        draw_error(job.snapshot.error)
    elif job is not None and job.snapshot.state == "stopped":
        st.info("The run was stopped; nothing of it was kept.", icon=":material/info:")


def find_maps(layers: list[int]) -> list | None:
    """The maps of `layers`; None while UMAP lays them out, with its progress drawn here."""
    layouts = tuple(Layout(asked, plan, tuple(states), layer) for layer in layers)
    found = [work.find_map(layout, study, states) for layout in layouts]
    if all(one is not None for one in found):
        return found
    job = jobs.find_job(work.LAYOUT)
    if job is None or job.key != layouts or job.snapshot.state == "done":
        work.begin_layouts(layouts, states)
        job = jobs.find_job(work.LAYOUT)
    if job.running:
        jobs.watch_job(job, jobs.draw_progress)
        return None
    if job.snapshot.state == "failed":
        draw_error(job.snapshot.error)
    else:
        st.info("The layout was stopped; the layers that were finished are kept.", icon=":material/info:")
    st.button("Lay it out again", key="map_again", on_click=jobs.forget_job, args=(work.LAYOUT,))
    return None


def panels_of(drawn) -> list[figures.Panel]:
    """The states that are shown, as panels of the pairs that are drawn."""
    names = list(states)
    return [figures.Panel(TITLES[name], drawn.points[names.index(name)].numpy()[:, sample]) for name in shown]


def labels_of() -> list[list[str]]:
    labels = work.hover_labels(state.view().study_key, study.made, state.shows_words())
    return [[side[index] for index in sample] for side in labels]


def axes_of(drawn) -> tuple[str, str]:
    if plan is None:
        return f"Direction 1 of layer {layer} (state’s units)", f"Direction 2 of layer {layer} (state’s units)"
    if drawn.shares is None:
        return "UMAP, first axis (no unit)", "UMAP, second axis (no unit)"
    return tuple(
        f"{name} principal axis ({share:.0%} of the variance)"
        for name, share in zip(("First", "Second"), drawn.shares, strict=True)
    )


def draw_picture() -> None:
    """The map of the picked layer, or all layers to be played."""
    lines, together, playing = pick_looks(study, len(shown) > 1)
    found = find_maps(list(range(study.layers)) if playing else [layer])
    if found is None:
        return
    if playing:
        draw_player(found, lines, together)
        return
    places = {index: place for place, index in enumerate(sample)}
    marked = [places[index] for index in find_selected(study) if index in places]
    drawn = found[0]
    figure = figures.map_figure(panels_of(drawn), labels_of(), axes_of(drawn), colours, lines, together, marked)
    draw_chart(
        figure.update_layout(dragmode="select"),
        key="map_chart",
        title=f"Texts at layer {layer}, {METHODS[view['map.layout']]}",
        alt=describe_picture(drawn),
        table=lambda: work.list_points(study, found, tuple(states)),
        filename=f"map_layer_{layer}",
        on_select=take_selection,
        selection_mode=("box", "lasso"),
        config=SELECTING,
    )
    draw_caption()


def draw_player(found: list, lines: str, together: bool) -> None:
    from detox_engine.reading.map import orient_maps

    oriented = orient_maps(found)
    frames = [(one.layer, panels_of(one)) for one in oriented]
    draw_chart(
        figures.play_figure(frames, labels_of(), colours, lines, together, layer),
        key="map_player",
        title=f"Texts layer by layer, {METHODS[view['map.layout']]}, layer {layer}",
        alt=f"The map of all {study.layers} layers, one after the other. {describe_picture(oriented[layer])}",
        table=lambda: work.list_points(study, oriented, tuple(states)),
        filename="map_all_layers",
        config=STILL,
    )
    st.caption(
        "Each layer is centred, scaled to the same size, and turned (or mirrored) to lie as close to the layer before "
        "it as it goes, which leaves the distances within a layer as they are; so the axes have no meaning of their "
        "own here. To select texts, stop playing through the layers."
    )


def describe_picture(drawn) -> str:
    """The picture in words: how far twins lie apart in each state."""
    parts = [f"Map of {2 * len(study.pairs):,} texts at layer {drawn.layer}"]
    for panel in panels_of(drawn):
        apart = np.linalg.norm(panel.points[0] - panel.points[1], axis=-1).mean()
        centres = np.linalg.norm(panel.points[0].mean(0) - panel.points[1].mean(0))
        parts.append(f"{panel.title}: twins {apart:.3g} apart on average, the centres of the sides {centres:.3g}")
    return "; ".join(parts)


def draw_caption() -> None:
    words = []
    if plan is None:
        words.append("These directions were found from these very pairs, so new texts would part less clearly.")
    if AFTER in shown:
        words.append("“Really run”: the edited model has read every text again.")
    if PAPER in shown:
        words.append(
            "“On paper” takes the edit's directions out of the embeddings of the edited layers and runs no model, "
            "as if nothing else wrote along them."
        )
        if layer not in view.edit.layers:
            words.append(f"Layer {layer} is not edited, so on paper nothing changes here.")
    if len(sample) < len(study.pairs):
        words.append(f"{len(sample):,} of the {len(study.pairs):,} pairs are drawn; everything else counts them all.")
    words.append("Drag a box or a lasso around dots to list their pairs, or find pairs by their words.")
    st.caption(" ".join(words))


def take_selection() -> None:
    points = st.session_state.map_chart["selection"]["points"]
    select_pairs(study, sorted({int(sample[point["point_index"]]) for point in points}))


def draw_command() -> None:
    notes = []
    if plan is None:
        notes.append("The command line lays texts out by PCA or UMAP.")
    made = commands.map_command(view.study_key, layer, plan or MapPlan(), asked.edit)
    draw_commands([commands.fit_command(view.study_key), made], " ".join(notes))


page.open_page("Map", "Do toxic and civil texts part?")
study = page.require_study()
view = state.view()
asked = Asked(view.study_key, study.made, effective(view.edit))
colours = palette(st.context.theme.type)
with st.container(horizontal=True, vertical_alignment="top", gap="medium"):
    layer = pick_layer(study, "map_layer", 320)
    plan = pick_plan(study)
    chosen = pick_states()
states = work.find_states(asked, study)
sample = np.array(sorted(Random(0).sample(range(len(study.pairs)), min(MOST_DRAWN, len(study.pairs)))))
try:
    if BEFORE in states:
        states[PAPER] = work.find_paper(asked, study, states[BEFORE])
except InputError as error:
    draw_error(str(error))
draw_run()
if BEFORE in states:
    shown = [name for name in chosen if name in states] or [BEFORE]
    # On a wide screen the second stands beside the first.
    with st.container(key="map_whole"):
        with st.container():
            try:
                draw_picture()
            except InputError as error:
                draw_error(str(error))
            draw_selected(study)
        with st.container():
            draw_separability(study, layer, {name: states[name] for name in shown}, work.find_probes(asked), colours)
else:
    st.caption("This study was fitted without keeping the texts' embeddings; they come back with the run.")
draw_command()
page.explain(
    "Each dot is a text: the mean of the model's states over its tokens, after the picked layer, laid out in two "
    "dimensions; the axes are those of the texts before the edit, so dots before and after can be compared. "
    "Where the two colours part, the layer knows toxic from civil; a picture can hide what is there, so a probe "
    "measures it in all dimensions, on pairs that it was not fitted on: 1 is a clean cut, 0.5 is guessing. "
    "An edit that takes out what tells the sides apart brings the curves nearer to 0.5; whatever is left above it "
    "is still there for the model to use.",
    r"(x, y) = (e - \bar e)\,A^{\top}, \qquad A = \text{two principal axes of the texts before the edit}",
)
