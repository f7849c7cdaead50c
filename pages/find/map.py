"""Do toxic and civil texts part? The embeddings of a layer in two dimensions, before and after the edit."""

import csv
import io
import textwrap
from functools import partial
from random import Random

import numpy as np
import streamlit as st

from detox_engine.errors import InputError
from detox_engine.specs import EditPlan, sentence
from detox_engine.views import MapPlan
from ui import charts, commands, frame, jobs, map_charts, mapping, state
from ui.evaluating import describe_edit
from ui.mapping import AFTER, BEFORE, PAPER, Asked, Layout
from ui.pair_list import pairs_html
from ui.text import escape, mask
from ui.writing import effective

TITLES = {BEFORE: "Before", AFTER: "After, really run", PAPER: "After, on paper"}
DIRECTIONS = "Toxic directions"
METHODS = ("PCA", "UMAP", DIRECTIONS)
LINES = {"None": "none", "Join the twins": "pairs", "Before to after": "moves"}
FRAMES = {"The texts before the edit": "before", "All states that are there": "both"}
MOST_DRAWN = 1000
"""Pairs drawn, so that a browser stays quick; the layout, the probes and the download have them all."""
MOST_LISTED = 50
KEPT = {"persist_state": "session"}
CONFIG = {"displaylogo": False, "toImageButtonOptions": {"format": "svg", "filename": "map"}}
STILL = CONFIG | {"modeBarButtonsToRemove": ["zoom2d", "pan2d", "select2d", "lasso2d", "zoomIn2d", "zoomOut2d"]}


def pick_layer() -> int:
    """The layer that is mapped; at first the one last looked at on another page."""
    last = study.layers - 1
    start = st.session_state.get("directions_layer", st.session_state.get("spectrum_layer", study.suggested_layers[-1]))
    st.session_state.setdefault("map_layer", start)
    st.session_state.map_layer = min(st.session_state.map_layer, last)
    if last == 0:
        return 0
    return st.slider("Layer", 0, last, key="map_layer", width=320, **KEPT)


def pick_map() -> MapPlan | None:
    """How texts are laid out; None lays them along the first two directions, which needs no layout."""
    chosen = st.segmented_control(
        "Layout", METHODS if study.kept > 1 else METHODS[:2], default="PCA", key="map_method", required=True,
        help="PCA is a flat shadow, fitted without knowing the sides. UMAP keeps neighbours near. Toxic directions are "
        "the first two of the layer, found from these very pairs.", **KEPT,
    )  # fmt: skip
    if chosen == DIRECTIONS:
        return None
    with st.popover("Settings of the layout", icon=":material/tune:"):
        fitted = st.radio("Fit the layout on", list(FRAMES), key="map_frame", help=sentence(MapPlan, "frame"), **KEPT)
        if chosen == "PCA":
            return MapPlan(frame=FRAMES[fitted])
        st.session_state.setdefault("map_neighbours", MapPlan.neighbours)
        st.session_state.setdefault("map_spread", MapPlan.spread)
        st.session_state.setdefault("map_seed", MapPlan.seed)
        neighbours = st.number_input(
            "Neighbours", 2, 200, key="map_neighbours", help=sentence(MapPlan, "neighbours"), **KEPT
        )
        spread = st.number_input(
            "Least distance", 0.0, 1.0, step=0.05, key="map_spread", help=sentence(MapPlan, "spread"), **KEPT
        )
        seed = st.number_input("Seed", 0, 2**32 - 1, key="map_seed", help=sentence(MapPlan, "seed"), **KEPT)
    return MapPlan("umap", FRAMES[fitted], neighbours, spread, seed)


def pick_states() -> tuple[str, ...]:
    """Which of the states that are there the map shows; before the edit where none is picked."""
    st.session_state.setdefault("map_states", [BEFORE, AFTER])
    chosen = st.pills(
        "Show", list(TITLES), selection_mode="multi", format_func=TITLES.get, key="map_states",
        help="Really run: the edited model read every text again. On paper: the edit's directions are taken out of "
        "the embeddings, and no model is run.", **KEPT,
    )  # fmt: skip
    return tuple(name for name in TITLES if name in chosen) or (BEFORE,)


def draw_run() -> None:
    """The offer to run the edited model, and what becomes of a run."""
    job = jobs.find_job(mapping.RUN)
    if job is not None and job.running:
        jobs.watch_job(job, jobs.draw_progress)
        return
    if AFTER in states:
        return
    if AFTER in mapping.find_states(asked, study):
        # The run ended while this page was being drawn.
        st.rerun()
    with st.container(border=True, horizontal=True, vertical_alignment="center", key="map_run_offer"):
        st.markdown(
            f"The edited model has not read the texts yet ({describe_edit(asked.edit)}). It takes as long as a fit.",
            width="stretch",
        )
        st.button(
            "Run the edited model", key="map_run", type="primary", icon=":material/play_arrow:",
            on_click=mapping.begin_run, args=(asked,),
            help="It reads every text again, and a linear probe measures every layer before and after.",
        )  # fmt: skip
    if job is not None and job.key == asked and job.snapshot.state == "failed":
        frame.draw_error(job.snapshot.error)
    elif job is not None and job.snapshot.state == "stopped":
        st.info("The run was stopped; nothing of it was kept.", icon=":material/info:")


def find_map(layer: int):
    """This layer's map, laid out now if that is quick; None where UMAP has not been asked for it yet."""
    if plan is None:
        from detox_engine.map import LayerMap, stack_sides

        axes = study.subspaces[layer].basis[:2].T
        return LayerMap(layer, tuple(stack_sides(found, layer) @ axes for found in states.values()), None)
    layout = Layout(asked, plan, tuple(states), layer)
    return mapping.lay_out(layout, states) if plan.method == "pca" else mapping.find_layout(layout)


def offer_umap(layers: list[int]) -> None:
    """UMAP takes too long to do unasked."""
    job = jobs.find_job(mapping.LAYOUT)
    missing = [Layout(asked, plan, tuple(states), layer) for layer in range(study.layers) if find_map(layer) is None]
    wanted = [layout for layout in missing if layout.layer in layers]
    if not (wanted if layers else missing):
        # The last of them came while this page was being drawn.
        st.rerun()
    if job is not None and job.running:
        jobs.watch_job(job, jobs.draw_progress)
        return
    if job is not None and job.snapshot.state == "failed":
        frame.draw_error(job.snapshot.error)
    with st.container(border=True, key="map_umap_offer"):
        st.markdown("UMAP takes up to a minute for the first layer, and some seconds for each further one.")
        with st.container(horizontal=True):
            if len(wanted) == 1:
                st.button(
                    f"Lay out layer {wanted[0].layer}", key="map_umap_one", type="primary",
                    icon=":material/play_arrow:", on_click=mapping.begin_layouts, args=(wanted, states),
                )  # fmt: skip
            if len(missing) > 1:
                st.button(
                    f"Lay out {'all' if len(missing) == study.layers else 'the other'} {len(missing)} layers",
                    key="map_umap_all", icon=":material/layers:", on_click=mapping.begin_layouts,
                    args=(missing, states),
                )  # fmt: skip


def panels_of(drawn) -> list[map_charts.Panel]:
    """The states that are shown, as panels of the pairs that are drawn."""
    names = tuple(states)
    return [
        map_charts.Panel(TITLES[name], drawn.points[names.index(name)].numpy()[:, sample])
        for name in chosen
        if name in names
    ]


def label(text: str) -> str:
    """A text as a hover says it: masked, wrapped, and with no markup at work."""
    shown = mask(text, state.shows_words())
    lines = textwrap.wrap(shown, 60, max_lines=5, placeholder=" …") or [" "]
    return "<br>".join(escape(line).replace("&#x27;", "'").replace("&quot;", '"') for line in lines)


def labels_of() -> list[list[str]]:
    return [
        [f"Pair {index + 1:,}<br>{label(getattr(study.pairs[index], side))}" for index in sample]
        for side in ("toxic_text", "civil_text")
    ]


def axes_of(drawn) -> tuple[str, str]:
    if plan is None:
        return f"Direction 1 of layer {layer} (state’s units)", f"Direction 2 of layer {layer} (state’s units)"
    if drawn.shares is None:
        return "UMAP, first axis (no unit)", "UMAP, second axis (no unit)"
    return tuple(
        f"{name} principal axis ({share:.0%} of the variance)"
        for name, share in zip(("First", "Second"), drawn.shares, strict=True)
    )


def take_selection() -> None:
    """Box and lasso pick pairs, kept when another layer is drawn; an empty one lets them go."""
    points = st.session_state.map_chart["selection"]["points"]
    found = sorted({int(sample[point["point_index"]]) for point in points})
    st.session_state.map_picked = {(view.study_key, study.made): found}


def picked_pairs() -> list[int]:
    return st.session_state.get("map_picked", {}).get((view.study_key, study.made), [])


def draw_picture() -> None:
    """The map of the picked layer, or all layers to be played."""
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        several = len([name for name in chosen if name in states]) > 1
        together = several and st.toggle("One over the other", key="map_together", help=OVER, **KEPT)
        kinds = [name for name in LINES if name != "Before to after" or together]
        if st.session_state.get("map_lines") not in kinds:
            st.session_state.map_lines = kinds[0]
        lines = LINES[st.selectbox("Lines", kinds, key="map_lines", width=180, **KEPT)]
        playing = study.layers > 1 and st.toggle("Play through the layers", key="map_play", help=PLAY, **KEPT)
    if playing:
        draw_player(lines, together)
        return
    drawn = find_map(layer)
    if drawn is None:
        offer_umap([layer])
        return
    places = {index: place for place, index in enumerate(sample)}
    marked = [places[index] for index in picked_pairs() if index in places]
    figure = map_charts.map_figure(panels_of(drawn), labels_of(), axes_of(drawn), colours, lines, together, marked)
    figure.update_layout(dragmode="select")
    st.plotly_chart(
        figure,
        key="map_chart",
        on_select=take_selection,
        selection_mode=("box", "lasso"),
        config=CONFIG | {"modeBarButtonsToRemove": ["zoomIn2d", "zoomOut2d"], "displayModeBar": True},
        alt=describe_picture(drawn),
    )
    draw_caption(drawn)


def draw_player(lines: str, together: bool) -> None:
    from detox_engine.map import orient_maps

    drawn = [find_map(layer) for layer in range(study.layers)]
    if any(one is None for one in drawn):
        offer_umap([])
        return
    frames = [(one.layer, panels_of(one)) for one in orient_maps(drawn)]
    st.plotly_chart(
        map_charts.play_figure(frames, labels_of(), colours, lines, together, layer),
        key="map_player",
        config=STILL,
        alt=f"The map of all {study.layers} layers, one after the other",
    )
    st.caption(
        "Each layer is centred, scaled to the same size, and turned (or mirrored) to lie as close to the layer before "
        "it as it goes, which leaves the distances within a layer as they are; so the axes have no meaning of their "
        "own here. To select texts, stop playing through the layers."
    )


def describe_picture(drawn) -> str:
    """The picture in words: how far twins lie apart in each state."""
    parts = [f"Map of {2 * len(study.pairs):,} texts at layer {layer}"]
    for panel in panels_of(drawn):
        apart = np.linalg.norm(panel.points[0] - panel.points[1], axis=-1).mean()
        centres = np.linalg.norm(panel.points[0].mean(0) - panel.points[1].mean(0))
        parts.append(f"{panel.title}: twins {apart:.3g} apart on average, the centres of the sides {centres:.3g}")
    return "; ".join(parts)


def draw_caption(drawn) -> None:
    words = []
    if plan is None:
        words.append("These directions were found from these very pairs, so new texts would part less clearly.")
    if AFTER in states and AFTER in chosen:
        words.append("“Really run”: the edited model has read every text again.")
    if PAPER in chosen and PAPER in states:
        words.append(
            "“On paper” takes the edit's directions out of the embeddings of the edited layers and runs no model, "
            "as if nothing else wrote along them."
        )
        if layer not in view.edit.layers:
            words.append(f"Layer {layer} is not edited, so on paper nothing changes here.")
    if len(sample) < len(study.pairs):
        words.append(f"{len(sample):,} of the {len(study.pairs):,} pairs are drawn; everything else counts them all.")
    words.append("Drag a box or a lasso around dots to list their pairs.")
    st.caption(" ".join(words))


def draw_picked() -> None:
    """The selected pairs as a list, and everything as files."""
    picked = picked_pairs()
    if picked:
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
            st.subheader(f"{len(picked):,} selected pair{'s' if len(picked) > 1 else ''}", anchor=False)
            with st.container(horizontal=True, width="content"):
                st.download_button(
                    "Selected pairs as CSV", partial(csv_of_pairs, picked), "selected_pairs.csv", "text/csv",
                    key="map_picked_csv", icon=":material/download:", on_click="ignore",
                )  # fmt: skip
                st.button("Let them go", key="map_clear", icon=":material/close:", on_click=let_go)
        listed = [(study.pairs[index], (f"pair {index + 1:,}",)) for index in picked[:MOST_LISTED]]
        with st.container(height=420 if len(listed) > 4 else "content", border=len(listed) > 4):
            st.html(pairs_html(listed))
        if len(picked) > MOST_LISTED:
            st.caption(f"The first {MOST_LISTED}; the file has all {len(picked):,}.")


def let_go() -> None:
    st.session_state.pop("map_picked", None)


def csv_of_pairs(picked: list[int]) -> str:
    """The pairs in full, whatever is blurred on the page."""
    heads = ("prompt", "toxic", "civil")
    rows = [(index + 1, *(getattr(study.pairs[index], head) for head in heads)) for index in picked]
    return write_csv(("pair", *heads), rows)


def csv_of_map(drawn) -> str:
    """Every text's place in every state, all pairs."""
    from detox_engine.explore import POINT, list_points

    rows = [(layer, *row) for row in list_points(study, drawn, tuple(states))]
    return write_csv(("layer", *POINT), rows)


def csv_of_probes(probes) -> str:
    rows = [
        (name, probe.layer, measure, one.mean, one.low, one.high, one.n)
        for name, found in probes.items()
        for probe in found
        for measure, one in (("accuracy", probe.accuracy), ("auc", probe.auc))
    ]
    return write_csv(("state", "layer", "measure", "mean", "low", "high", "pairs"), rows)


def write_csv(heads, rows) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(rows)
    return out.getvalue()


def draw_downloads() -> None:
    drawn, probes = find_map(layer), mapping.find_probes(asked)
    with st.container(horizontal=True):
        if drawn is not None:
            st.download_button(
                "The map as CSV", partial(csv_of_map, drawn), f"map_layer_{layer}.csv", "text/csv",
                key="map_csv", icon=":material/download:", on_click="ignore",
            )  # fmt: skip
        if probes:
            st.download_button(
                "The probes as CSV", partial(csv_of_probes, probes), "probes.csv", "text/csv",
                key="map_probes_csv", icon=":material/download:", on_click="ignore",
            )  # fmt: skip


def draw_separability() -> None:
    """The probes of every layer and the picked layer along its first direction."""
    st.subheader("How well do the sides part?", anchor=False)
    with st.container(key="map_beside"):
        with st.container():
            draw_histograms()
        probes = mapping.find_probes(asked)
        if probes is None:
            st.caption(
                "Run the edited model: then a linear probe says here for every layer how well the sides part, before "
                "and after."
            )
        elif not probes:
            st.caption("A probe needs 10 pairs or more.")
        else:
            draw_probes(probes)


def draw_probes(probes) -> None:
    wanted = {TITLES[name]: found for name, found in probes.items() if name in chosen} or {
        TITLES[BEFORE]: probes[BEFORE]
    }
    for measure, name in (("accuracy", "Accuracy"), ("auc", "AUC")):
        values = "; ".join(f"{title} {getattr(found[layer], measure).mean:.2f}" for title, found in wanted.items())
        st.plotly_chart(
            map_charts.probe_figure(wanted, measure, layer, colours),
            key=f"map_probe_{measure}",
            config=STILL,
            alt=f"{name} of a linear probe by layer; at layer {layer}: {values}",
        )


def draw_histograms() -> None:
    from detox_engine.probe import count_projections, project_sides

    direction = study.subspaces[layer].basis[0]
    names = [name for name in chosen if name in states] or [BEFORE]
    sides = [project_sides(states[name].toxic[layer], states[name].civil[layer], direction) for name in names]
    counted = dict(zip((TITLES[name] for name in names), count_projections(sides, 30), strict=True))
    gaps = "; ".join(
        f"{TITLES[name]}: toxic {float(toxic.mean()):.2f}, civil {float(civil.mean()):.2f}"
        for name, (toxic, civil) in zip(names, sides, strict=True)
    )
    st.plotly_chart(
        map_charts.histogram_figure(counted, layer, colours),
        key="map_histogram",
        config=STILL,
        alt=f"Projection on direction 1 of layer {layer}, means: {gaps}",
    )


def draw_command() -> None:
    note = ""
    if asked.edit.switched_off:
        note = "The command line removes whole ranks: it has no option for directions that are switched off."
    edit = EditPlan(asked.edit.layers, asked.edit.rank, asked.edit.strength)
    key = view.study_key
    if plan is None:
        note = f"The command line lays texts out by PCA or UMAP. {note}"
    made = commands.map_command(key, layer, plan or MapPlan(), edit)
    commands.draw_commands([commands.fit_command(key), made], note)


OVER = "All states in one picture: hollow before, full after, with a dot on paper."
PLAY = "All layers one after the other, turned so that the eye can follow a text."

frame.open_page("Map", "Do toxic and civil texts part?")
study = frame.require_study()
view = state.view()
asked = Asked(view.study_key, study.made, effective(view.edit))
colours = charts.palette(st.context.theme.type)
with st.container(horizontal=True, vertical_alignment="top", gap="medium"):
    layer = pick_layer()
    plan = pick_map()
    chosen = pick_states()
states = mapping.find_states(asked, study)
sample = np.array(sorted(Random(0).sample(range(len(study.pairs)), min(MOST_DRAWN, len(study.pairs)))))
try:
    if BEFORE in states:
        states[PAPER] = mapping.find_paper(asked, study, states[BEFORE])
except InputError as error:
    frame.draw_error(str(error))
draw_run()
if BEFORE in states:
    try:
        draw_picture()
    except InputError as error:
        frame.draw_error(str(error))
    draw_picked()
    draw_separability()
    draw_downloads()
else:
    st.caption("This study was fitted without keeping the texts' embeddings; they come back with the run.")
draw_command()
frame.explain(
    "Each dot is a text: the mean of the model's states over its tokens, after the picked layer, laid out in two "
    "dimensions; the axes are those of the texts before the edit, so dots before and after can be compared. "
    "Where the two colours part, the layer knows toxic from civil; a picture can hide what is there, so the probe "
    "below measures it in all dimensions, on pairs that it was not fitted on: 1 is a clean cut, 0.5 is guessing. "
    "An edit that takes out what tells the sides apart brings the curves nearer to 0.5; whatever is left above it "
    "is still there for the model to use.",
    r"(x, y) = (e - \bar e)\,A^{\top}, \qquad A = \text{two principal axes of the texts before the edit}",
)
