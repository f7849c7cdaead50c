"""Do toxic and civil texts part? The embeddings of a layer in two dimensions, before and after the edit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from random import Random

import numpy as np
import streamlit as st

from detox_engine.errors import InputError
from detox_engine.plans import commands
from detox_engine.plans.edit import describe_edit
from detox_engine.plans.read import MapPlan
from detox_engine.reading.map import LayerMap
from pages.map import figures, work
from pages.map.picks import METHODS, MapPicks, pick_settings
from pages.map.reading import draw_reading, find_pair, take_pair
from pages.map.selection import draw_selected, find_selected, select_pairs
from pages.map.separability import draw_separability
from pages.map.verdict import tell_texts
from pages.map.work import LAYOUT, TITLES, Layout, Scene
from ui.frame.command import draw_commands
from ui.frame.page import Head, Help, StudyPage, show
from ui.session.view import Fitted
from ui.show.chart import STILL, clicked, draw_chart
from ui.show.notes import draw_error, draw_verdict
from ui.widgets.layer import pick_layer
from ui.work.parting import AFTER, BEFORE, PAPER, PROBING, RUN, AskedOfEdit, AskedOfStudy, Probed
from ui.work.tasks import draw_task, draw_unfinished

HEAD = Head("Map", "Do toxic and civil texts part?", "map")
HELP = Help(
    "Each dot is a text: the mean of the model's states over its tokens, after the picked layer, laid out in two "
    "dimensions; the axes are those of the texts before the edit, so dots before and after can be compared. "
    "Where the two colours part, the layer knows toxic from civil; a picture can hide what is there, so a probe "
    "measures it in all dimensions, on pairs that it was not fitted on: 1 is a clean cut, 0.5 is guessing. "
    "An edit that takes out what tells the sides apart brings the curves nearer to 0.5; whatever is left above it "
    "is still there for the model to use.",
    r"(x, y) = (e - \bar e)\,A^{\top}, \qquad A = \text{two principal axes of the texts before the edit}",
)
MOST_DRAWN = 1000
"""Pairs drawn, so that a browser stays quick; the layout, the probes and the download have them all."""
SELECTING = {
    "displaylogo": False,
    "displayModeBar": True,
    "modeBarButtonsToRemove": ["toImage", "zoomIn2d", "zoomOut2d"],
}


def draw(page: StudyPage[MapPicks]) -> None:
    study, asked = page.study, AskedOfEdit(page.fitted, page.edit)
    states = work.find_states(asked, study)
    trouble = ""
    try:
        if BEFORE in states:
            states[PAPER] = work.find_paper(asked, study, states[BEFORE])
    except InputError as error:
        trouble = str(error)
    probes = work.find_probes(asked, study) if BEFORE in states else None
    if BEFORE in states:
        draw_verdict(tell_texts(study, page.layer, states, probes))
    with st.container(horizontal=True, vertical_alignment="top", gap="medium"):
        layer = pick_layer(study, "map_layer", 320)
        settings = pick_settings(study, page.picks, states)
    if trouble:
        draw_error(trouble)
    if BEFORE in states:
        shown = tuple(name for name in settings.shown if name in states) or (BEFORE,)
        draw_whole(page, asked, Scene(layer, states, shown, pick_sample(len(study.pairs)), settings), probes)
    else:
        st.caption("This study was fitted without keeping the texts' embeddings; they come back with the run.")
        draw_run(asked, AFTER in states)
    draw_command(page, layer, settings.plan)


def draw_run(asked: AskedOfEdit, has_run: bool) -> None:
    """The offer to run the edited model, and what becomes of a run."""
    job = RUN.job(asked)
    if has_run and (job is None or not job.running):
        return
    offer = f"The edited model has not read the texts yet ({describe_edit(asked.edit)}). It takes as long as a fit."
    draw_task(
        RUN,
        asked,
        "map_run",
        "Run the edited model",
        "" if has_run else offer,
        "The run was stopped; nothing of it was kept.",
        help="It reads every text again, and a linear probe measures every layer before and after.",
    )


def pick_sample(pairs: int) -> np.ndarray:
    """Indices of the pairs that are drawn, always the same ones."""
    return np.array(sorted(Random(0).sample(range(pairs), min(MOST_DRAWN, pairs))))


def draw_whole(
    page: StudyPage[MapPicks], asked: AskedOfEdit, scene: Scene, probes: Mapping[str, Sequence[Probed]] | None
) -> None:
    """The map with the picked pair beside it, and below how well the sides part."""
    with st.container(key="opened_map"):
        with st.container(key="map_picture", gap="xsmall"):
            try:
                draw_picture(page, asked, scene)
            except InputError as error:
                draw_error(str(error))
            draw_run(asked, AFTER in scene.states)
            draw_selected(page.fitted, page.study)
        with st.container(key="map_reading", gap="xsmall"):
            draw_reading(page, scene.layer)
    states = {name: scene.states[name] for name in scene.shown}
    draw_separability(page.study, scene.layer, states, probes, page.colours)
    if probes is None and PROBING.job() is not None:
        draw_unfinished(PROBING, AskedOfStudy(page.fitted), "probe_again", "Probe again", "The probing was stopped.")


def draw_picture(page: StudyPage[MapPicks], asked: AskedOfEdit, scene: Scene) -> None:
    """The map of the picked layer, or all layers to be played."""
    maps = find_maps(page, asked, scene, range(page.study.layers) if scene.settings.playing else [scene.layer])
    if maps is None:
        return
    if scene.settings.playing:
        draw_player(page, scene, maps)
    else:
        draw_map(page, scene, maps[0])


def find_maps(
    page: StudyPage[MapPicks], asked: AskedOfEdit, scene: Scene, layers: Sequence[int]
) -> tuple[LayerMap, ...] | None:
    """The maps of `layers`; None while UMAP lays them out, with its progress drawn here."""
    if scene.settings.plan is None:
        return work.lay_along_directions(page.study, scene.states, layers)
    layout = Layout(asked, scene.settings.plan, tuple(scene.states), tuple(layers))
    if scene.settings.plan.method == "pca":
        return _remember(layout, work.lay_out_now(layout, scene.states))
    found = LAYOUT.ask(layout)
    if found is not None:
        return _remember(layout, found)
    stopped = "The layout was stopped; the layers that were finished are kept."
    draw_unfinished(LAYOUT, layout, "map_again", "Lay it out again", stopped)
    # The picture from before stays while the new one is worked out.
    before, maps = st.session_state.get("map_drawn", (None, None))
    return maps if before is not None and (before.asked, before.layers) == (asked, layout.layers) else None


def _remember(layout: Layout, maps: tuple[LayerMap, ...]) -> tuple[LayerMap, ...]:
    st.session_state.map_drawn = (layout, maps)
    return maps


def draw_map(page: StudyPage[MapPicks], scene: Scene, drawn: LayerMap) -> None:
    places = {index: place for place, index in enumerate(scene.sample)}
    marked = [places[index] for index in find_selected(page.fitted) if index in places]
    figure = figures.map_figure(
        panels_of(scene, drawn),
        labels_of(page, scene),
        axes_of(scene, drawn),
        page.colours,
        scene.settings.lines,
        scene.settings.together,
        marked,
        places.get(find_pair(page) - 1),
    )
    draw_chart(
        # While a box or a lasso is drawn Streamlit hears of no click: both wait among the chart's tools.
        figure.update_layout(dragmode="pan"),
        key="map_chart",
        title=f"Texts at layer {scene.layer}, {METHODS[page.picks.layout]}",
        alt=describe_picture(page, scene, drawn),
        table=partial(work.list_points, page.study, [drawn], tuple(scene.states)),
        filename=f"map_layer_{scene.layer}",
        on_select=partial(take_selection, page.fitted, scene.sample),
        selection_mode=("points", "box", "lasso"),
        config=SELECTING,
    )
    draw_caption(page, scene)


def draw_player(page: StudyPage[MapPicks], scene: Scene, maps: Sequence[LayerMap]) -> None:
    from detox_engine.reading.map import orient_maps

    oriented = orient_maps(maps)
    frames = [(one.layer, panels_of(scene, one)) for one in oriented]
    described = describe_picture(page, scene, oriented[scene.layer])
    draw_chart(
        figures.play_figure(
            frames, labels_of(page, scene), page.colours, scene.settings.lines, scene.settings.together, scene.layer
        ),
        key="map_player",
        title=f"Texts layer by layer, {METHODS[page.picks.layout]}, layer {scene.layer}",
        alt=f"The map of all {page.study.layers} layers, one after the other. {described}",
        table=partial(work.list_points, page.study, oriented, tuple(scene.states)),
        filename="map_all_layers",
        config=STILL,
    )
    st.caption(
        "Each layer is centred, scaled to the same size, and turned (or mirrored) to lie as close to the layer before "
        "it as it goes, which leaves the distances within a layer as they are; so the axes have no meaning of their "
        "own here. To select texts, stop playing through the layers."
    )


def panels_of(scene: Scene, drawn: LayerMap) -> list[figures.Panel]:
    """The states that are shown, as panels of the pairs that are drawn."""
    points = dict(zip(scene.states, drawn.points, strict=True))
    return [figures.Panel(TITLES[name], points[name].numpy()[:, scene.sample]) for name in scene.shown]


def labels_of(page: StudyPage[MapPicks], scene: Scene) -> list[list[str]]:
    """`[sides][pairs]` what the dots that are drawn say."""
    labels = work.hover_labels(page.fitted, page.shows_words)
    return [[side[index] for index in scene.sample] for side in labels]


def axes_of(scene: Scene, drawn: LayerMap) -> tuple[str, str]:
    """What the axes are called."""
    if scene.settings.plan is None:
        first, second = (f"Direction {number} of layer {scene.layer} (length along it)" for number in (1, 2))
    elif drawn.shares is None:
        first, second = "UMAP, first axis (no unit)", "UMAP, second axis (no unit)"
    else:
        first, second = (
            f"{name} principal axis ({share:.0%} of the variance)"
            for name, share in zip(("First", "Second"), drawn.shares, strict=True)
        )
    return first, second


def describe_picture(page: StudyPage[MapPicks], scene: Scene, drawn: LayerMap) -> str:
    """The picture in words: how far twins lie apart in each state."""
    parts = [f"Map of {2 * len(page.study.pairs):,} texts at layer {drawn.layer}"]
    for panel in panels_of(scene, drawn):
        apart = np.linalg.norm(panel.points[0] - panel.points[1], axis=-1).mean()
        centres = np.linalg.norm(panel.points[0].mean(0) - panel.points[1].mean(0))
        parts.append(f"{panel.title}: twins {apart:.3g} apart on average, the centres of the sides {centres:.3g}")
    return "; ".join(parts)


def draw_caption(page: StudyPage[MapPicks], scene: Scene) -> None:
    drawn, pairs, words = len(scene.sample), len(page.study.pairs), []
    if scene.settings.plan is None:
        words.append("These directions were found from these very pairs, so new texts would part less clearly.")
    if AFTER in scene.shown:
        words.append("“By the edited model”: it has read every text again.")
    if PAPER in scene.shown:
        words.append(
            "“Computed alone” takes the edit's directions out of the embeddings of the edited layers, with no model, "
            "as if nothing else wrote along them."
        )
        if scene.layer not in page.edit.layers:
            words.append(f"Layer {scene.layer} is not edited, so nothing is taken out here.")
    if drawn < pairs:
        words.append(f"{drawn:,} of the {pairs:,} pairs are drawn; everything else counts them all.")
    words.append(
        "Click a dot to read its pair; the box and the lasso among the chart's tools list the pairs around which they "
        "are drawn."
    )
    st.caption(" ".join(words))


def take_selection(fitted: Fitted, sample: np.ndarray) -> None:
    """A click on a dot picks its pair on all pages; a box or a lasso selects pairs to be listed."""
    indices = sorted({int(sample[index]) for index in clicked("map_chart", "point_index")})
    if not indices:
        # A chart that is drawn anew loses its selection; the pairs stay selected until they are let go.
        return
    drawn = st.session_state["map_chart"]["selection"]
    if len(indices) == 1 and not drawn.get("box") and not drawn.get("lasso"):
        take_pair(indices[0] + 1)
    else:
        select_pairs(fitted, indices)


def draw_command(page: StudyPage[MapPicks], layer: int, plan: MapPlan | None) -> None:
    key = page.fitted.study
    made = commands.map_command(key, layer, plan or MapPlan(), page.edit)
    note = "" if plan else "The command line lays texts out by PCA or UMAP."
    draw_commands([commands.fit_command(key), made], note)


show(draw, HEAD, HELP)
