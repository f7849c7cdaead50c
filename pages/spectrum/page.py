"""How many directions stand out, and where? Singular values, layer by layer."""

import numpy as np
import streamlit as st

from pages.spectrum import figures
from pages.spectrum.picks import SCALES
from ui.frame import commands, page
from ui.session import state
from ui.show import notes
from ui.show.chart import draw_chart
from ui.show.downloads import Table
from ui.show.figures import palette
from ui.widgets.layer import pick_layer
from ui.work import jobs

SCALES_IN_FILES = ("values", "shares", "cumulative")
SHOWN_DIRECTIONS = 32
RESAMPLING = "resampling"


def take_click() -> None:
    """A click on the heatmap picks the layer; the selection itself is lost with the next figure."""
    points = st.session_state.spectrum_map["selection"]["points"]
    if points:
        state.put("layer", int(points[0]["y"]))


def describe_suggestion(layer: int, real: int, dominant: int) -> str:
    """How many directions of a layer stand out and how many dominate, in a sentence."""
    kept, count = study.subspaces[layer].kept, len(values[layer])
    if real == 0:
        return f"At layer {layer} no direction is stronger than chance allows."
    if real >= kept:
        sentence = f"At layer {layer} all {kept} directions that were kept are stronger than chance allows"
    else:
        one = "1 direction is" if real == 1 else f"{real} directions are"
        sentence = f"At layer {layer}, {one} stronger than chance allows, of {count}"
    if dominant == real:
        return f"{sentence}."
    return f"{sentence}; {dominant or 'none'} of them stand out even while all the others are left in."


def list_directions(layers) -> Table:
    """Every singular value of `layers`, with what chance gives where that was measured."""
    heads = ("layer", "direction", "singular value", "share", "added up", "chance 5 %", "chance 50 %", "chance 95 %")
    rows = []
    for one in layers:
        columns = [figures.scaled(values[one : one + 1], unit)[0].tolist() for unit in SCALES_IN_FILES]
        chance = study.null_spectra[one].band().T.tolist()
        chance += [(None, None, None)] * (len(columns[0]) - len(chance))
        entries = zip(*columns, chance, strict=True)
        rows += [(one, index, *numbers, *band) for index, (*numbers, band) in enumerate(entries, start=1)]
    return heads, rows


def list_turns(stability) -> Table:
    """How far each layer's subspace turned in each draw."""
    rows = [
        (layer, draw, angle)
        for layer, angles in enumerate(stability.angles.tolist())
        for draw, angle in enumerate(angles, start=1)
    ]
    return ("layer", "draw", "largest principal angle in degrees"), rows


def begin_resampling() -> None:
    """Draw the pairs anew in a worker, for the rank of the edit plan."""
    from detox_engine.study.stability import measure_stability

    fitted, rank = study, edit.rank
    jobs.start_job(
        RESAMPLING,
        (study.made, rank),
        lambda progress: measure_stability(fitted.embeddings, fitted.subspaces, rank, progress=progress),
    )


def draw_stability() -> None:
    """How far each layer's subspace turns when the pairs are drawn anew, on demand."""
    st.subheader("Is it settled?")
    rank = f"the first {edit.rank} directions" if edit.rank > 1 else "the first direction"
    job = jobs.find_job(RESAMPLING)
    if study.embeddings is None:
        st.caption("This study was fitted without keeping its embeddings, so its pairs cannot be drawn anew.")
        return
    if job is not None and job.running:
        jobs.watch_job(job, jobs.draw_progress)
        return
    if job is not None and job.key == (study.made, edit.rank):
        if job.snapshot.state == "failed":
            notes.draw_error(job.snapshot.error)
        elif job.snapshot.state == "done":
            stability = job.snapshot.result
            steadiest = int(stability.median.argmin())
            draw_chart(
                figures.stability_figure(stability.median.numpy(), stability.high.numpy(), edit.layers, colours),
                "stability_chart",
                f"Turn of {rank} of each layer when the pairs are drawn anew",
                f"How far {rank} of each layer turn when the pairs are drawn anew: layer {layer} by "
                f"{stability.median[layer]:.0f}° typically; the steadiest is layer {steadiest} with "
                f"{stability.median[steadiest]:.0f}°",
                lambda: list_turns(stability),
                f"stability_rank_{edit.rank}",
            )
            st.caption(
                f"The pairs were drawn anew {stability.angles.shape[1]} times, with repeats. A dot is how far "
                f"{rank} of a layer typically {'turns' if stability.rank == 1 else 'turn'}, its whisker "
                "reaches to the worst draw in ten: near 0° these "
                "pairs settle the subspace, near 90° other pairs would give another one."
                + (
                    f" A draw has {len(study.pairs):,} pairs, as many as are kept of {study.pair_count:,}, so it turns "
                    "further than another set of so many would."
                    if len(study.pairs) < study.pair_count
                    else ""
                )
            )
            return
    st.button(
        f"Draw the pairs anew, rank {edit.rank}", key="resample", icon=":material/casino:", on_click=begin_resampling
    )
    st.caption(
        "A few seconds of work: it shows in which layers other pairs of the same kind would give the same subspace."
    )


page.open_page("Spectrum", "How many directions stand out, and where?")
study = page.require_study()
edit = state.view().edit
colours = palette(st.context.theme.type)

scale = st.segmented_control(
    "Show", list(SCALES), format_func=SCALES.get, required=True, **state.bind("spectrum_scale", "spectrum.scale")
)
values = np.stack([subspace.singular_values.numpy() for subspace in study.subspaces])
heatmap, detail = st.container(), st.container()
with detail:
    layer = pick_layer(study, "spectrum_layer")
with heatmap:
    first = figures.scaled(values, "shares")[:, 0]
    draw_chart(
        figures.heatmap_figure(
            figures.scaled(values, scale)[:, :SHOWN_DIRECTIONS], scale, layer, edit.layers, edit.rank, colours
        ),
        "spectrum_map",
        f"{figures.AXIS_OF_SCALE[scale]} of the directions of all layers",
        f"{figures.AXIS_OF_SCALE[scale]} of {study.layers} layers by directions; the first direction has its largest "
        f"share of the variance, {first.max():.0%}, at layer {first.argmax()}, and its smallest, {first.min():.0%}, "
        f"at layer {first.argmin()}",
        lambda: list_directions(range(study.layers)),
        "spectrum",
        on_select=take_click,
    )
    st.caption("A click picks a layer (framed grey). The green frame holds what the edit plan removes.")
with detail:
    real, dominant = study.suggested_ranks[layer], study.dominant_ranks[layer]
    marks = {dominant: f"{dominant} dominate"} | {real: f"{real} stand out" if real > 1 else "1 stands out"}
    draw_chart(
        figures.spectrum_figure(
            values[layer],
            SHOWN_DIRECTIONS,
            scale,
            edit.rank if layer in edit.layers else None,
            marks,
            study.null_spectra[layer].band().numpy(),
            colours,
        ),
        "spectrum_layer_chart",
        f"Spectrum of layer {layer}",
        f"{figures.AXIS_OF_SCALE[scale]} of the directions of layer {layer}, and what chance gives: {real} stand out, "
        f"{dominant} dominate; the first three hold {figures.scaled(values, 'cumulative')[layer][:3][-1]:.0%} of the "
        "variance",
        lambda: list_directions([layer]),
        f"spectrum_layer_{layer}",
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        if real:
            rank = min(dominant or real, study.kept)
            st.button(
                f"Take rank {rank} for the edit",
                key="take_rank",
                icon=":material/check:",
                on_click=state.put,
                args=("edit.rank", rank),
                disabled=edit.rank == rank,
            )
        st.caption(describe_suggestion(layer, real, dominant))
    draw_stability()
commands.draw_commands(
    [
        commands.fit_command(state.view().study_key),
        commands.directions_command(state.view().study_key, range(study.layers), study.kept, as_json=True),
    ],
    "The second command gives the singular value and the share of every kept direction, and its tokens; what chance "
    "gives, and the pairs drawn anew, are on this page only.",
)
page.explain(
    "Each singular value says how much of the differences between toxic and civil texts lies along one direction; "
    "the square, as a share of all squares, is that direction's share of the variance. "
    "A steep start followed by a long flat tail means that few directions carry what the pairs have in common. "
    "A direction stands out where its singular value is above what chance gives: the same differences with random "
    "signs, once the directions before it are taken out; it dominates where it is so with nothing taken out.",
    r"T = U S V, \qquad \text{share}_i = \frac{s_i^2}{\sum_j s_j^2}",
)
