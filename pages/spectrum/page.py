"""Which layers carry it, and how many directions stand out? Strength, parting and effect, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from detox_engine.plans import commands
from detox_engine.plans.edit import EditPlan, describe_edit
from detox_engine.plans.fit import PAPER
from detox_engine.study.methods import title_of
from pages.spectrum import figures
from pages.spectrum.layers import (
    Layers,
    layers_figure,
    list_layers,
    tell_effects,
    tell_layers,
    tell_parting,
    tell_picked,
)
from pages.spectrum.picks import SCALES, Scale, SpectrumPicks
from pages.spectrum.work import PARALLEL_ANALYSIS, RESAMPLING, Asked, AskedOfChance, find_null_spectra
from ui.frame import command
from ui.frame.page import Head, Help, StudyPage, show
from ui.session import state
from ui.show.chart import clicked, draw_chart
from ui.show.downloads import Table
from ui.show.notes import draw_verdict
from ui.widgets.layer import pick_layer, tell_first
from ui.widgets.option import ask
from ui.widgets.settings import fold_settings
from ui.words.text import plain
from ui.work.parting import (
    MEASURING,
    PROBING,
    RUN,
    AskedOfEdit,
    AskedOfStudy,
    can_measure,
    find_by_layer,
    find_probes,
    find_probes_after,
)
from ui.work.tasks import draw_task, draw_unfinished

if TYPE_CHECKING:
    from detox_engine.study.noise.null_spectra import NullSpectrum
    from detox_engine.study.stability import Stability
    from detox_engine.study.study import Study

HEAD = Head("Spectrum", "Which layers carry it, and how many directions stand out?", picks="spectrum")
HELP = Help(
    "The first picture asks three things of every layer: how far its first direction stands above what noise reaches, "
    "how well a linear probe of all dimensions tells the sides of pairs that it was not fitted on, and how much civil "
    "text gains on toxic where the first direction is removed there alone, on pairs that fitted nothing. "
    "Each singular value says how much of the differences between toxic and civil texts lies along one direction; "
    "the square, as a share of all squares, is that direction's share of the variance. "
    "A steep start followed by a long flat tail means that few directions carry what the pairs have in common. "
    "A direction stands out where its singular value lies above the noise band, which the layer's own tail tells "
    "(ScreeNOT: Donoho, Gavish and Romanov 2023); what lies in the band may be real, but is too weak to be told apart.",
    r"T = U S V, \qquad \text{share}_i = \frac{s_i^2}{\sum_j s_j^2}",
)
SHOWN_DIRECTIONS = 32
"""Of one layer."""
FEWEST_OF_ALL = 4
MOST_OF_ALL = 16
"""Of all layers: two more than stand out anywhere, within these bounds, since those behind them are pale everywhere."""


def draw(page: StudyPage[SpectrumPicks]) -> None:
    study = page.study
    found = find_layers(page)
    job = PROBING.job()
    is_measuring = job is not None and job.running
    draw_verdict(f"{study.verdict} {tell_layers(found, page.edit, is_measuring)}".strip())
    values = stack_values(study)
    with st.container(key="opened_spectrum"):
        with st.container(key="where_layers", gap="xsmall"):
            draw_where(page, found)
        with st.container(key="picked_layer", gap="xsmall"):
            scale = pick_scale(page)
            draw_layer(page, values[page.layer], page.layer, scale)
            if why := tell_picked(tell_first(study), page.layer, found.best):
                st.caption(plain(why))
    draw_missing(page, found)
    draw_layers(page, values, scale)
    draw_chance(page, page.layer)
    draw_stability(page, page.layer)
    draw_commands(page)


def find_layers(page: StudyPage[SpectrumPicks]) -> Layers:
    """What is known of every layer; what is quick to find out and not known yet is begun."""
    study = page.study
    strengths = tuple(
        float(subspace.singular_values[0]) / max(noise, 1e-12)
        for subspace, noise in zip(study.subspaces, study.noise_thresholds, strict=True)
    )
    before = find_probes(study, page.fitted)
    after = find_probes_after(study, AskedOfEdit(page.fitted, page.edit))
    # Both would wait for the cores, and the sides come first.
    by_layer = find_by_layer(study, page.fitted, begin=before is not None)
    return Layers(
        strengths,
        tuple(one.accuracy for one in before) if before else None,
        tuple(one.accuracy for one in after) if after else None,
        tuple(by_layer.gaps) if by_layer else None,
        tuple(study.suggestion.tried) if study.suggestion else (),
    )


def draw_where(page: StudyPage[SpectrumPicks], found: Layers) -> None:
    """The main picture, all layers side by side; a click picks one."""
    suggested = page.study.suggestion.edit if page.study.suggestion else None
    draw_chart(
        layers_figure(found, page.edit.layers, suggested, page.layer, page.colours),
        "where",
        f"Where it is, layer by layer; the band is the edit plan: {describe_edit(page.edit)}",
        f"Strength of the first direction of {page.study.layers} layers, from {min(found.strengths):.1f} to "
        f"{max(found.strengths):.1f} times the noise level. {tell_parting(found, False)} {tell_effects(found)}",
        partial(list_layers, found),
        "layers",
        on_select=take_click,
    )


def take_click() -> None:
    for place in clicked("where", "x")[:1]:
        state.put("layer", round(place))


def take_click_on_cell() -> None:
    for layer in clicked("spectrum_map", "y")[:1]:
        state.put("layer", int(layer))


def pick_scale(page: StudyPage[SpectrumPicks]) -> Scale:
    """The picked layer and, folded, in which unit the spectra are drawn."""
    with st.container(horizontal=True, vertical_alignment="top", gap="medium"):
        pick_layer(page.study, "spectrum_layer")
        said = "raw values" if page.picks.scale == "values" else f"{SCALES[page.picks.scale].lower()} of variance"
        with fold_settings(said, "spectrum_settings"):
            return ask("spectrum.scale", "Singular values as", "spectrum_scale")


def draw_missing(page: StudyPage[SpectrumPicks], found: Layers) -> None:
    """What the main picture says of its marks, and offers for what it does not know yet."""
    words = [
        "Green dots and the band are what the edit plan removes; hollow dots could be noise. A click picks a layer."
    ]
    if page.edit.method != PAPER:
        words.append(
            f"The directions here are DeTox's; the plan removes those of another method, {title_of(page.edit.method)}."
        )
    st.caption(plain(" ".join(words)))
    if found.before is None and PROBING.job() is not None:
        draw_unfinished(PROBING, AskedOfStudy(page.fitted), "probe_again", "Probe again", "The probing was stopped.")
    with st.container(horizontal=True, gap="medium"):
        if found.before is not None and found.after is None and page.study.embeddings is not None:
            asked = AskedOfEdit(page.fitted, page.edit)
            draw_task(
                RUN, asked, "spectrum_run", "Run the edited model", "How well the sides part after the edit.",
                "The run was stopped; nothing of it was kept.", again=True,
            )  # fmt: skip
        if found.gaps is None and can_measure(page.study):
            draw_task(
                MEASURING, AskedOfStudy(page.fitted), "measure_layers", "Measure each layer alone",
                "What removing its first direction does, on pairs that fitted nothing.",
                "The measuring was stopped; nothing of it was kept.", again=True,
            )  # fmt: skip


def stack_values(study: Study) -> np.ndarray:
    """`[layers, directions]` singular values."""
    return np.stack([subspace.singular_values.numpy() for subspace in study.subspaces])


def list_removed(edit: EditPlan) -> tuple[int, ...]:
    """The layers whose directions here the edit removes: none where it removes those of another method."""
    return edit.layers if edit.method == PAPER else ()


def draw_layers(page: StudyPage[SpectrumPicks], values: np.ndarray, scale: Scale) -> None:
    """The spectra of all layers at once; a click on a cell picks its layer."""
    study, edit = page.study, page.edit
    first = figures.scaled(values, "shares")[:, 0]
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        st.subheader("The spectra of all layers", anchor=False, width="content")
        way = ask("spectrum.all", "All layers", "spectrum_all", label_visibility="collapsed")
    title = f"{figures.AXIS_OF_SCALE[scale]} of the directions of all layers"
    told = (
        f"{figures.AXIS_OF_SCALE[scale]} of {study.layers} layers by directions; the first direction has its largest "
        f"share of the variance, {first.max():.0%}, at layer {first.argmax()}, and its smallest, {first.min():.0%}, "
        f"at layer {first.argmin()}"
    )
    table = partial(list_directions, study, range(study.layers), find_null_spectra(study, page.fitted))
    if way == "curves":
        shown = figures.scaled(values, scale)[:, :SHOWN_DIRECTIONS]
        figure = figures.curves_figure(shown, scale, page.layer, page.colours)
        draw_chart(figure, "spectrum_curves", title, told, table, "spectrum")
        st.caption(plain(f"Each line is a layer, from pale, the first, to dark, the last; layer {page.layer} is blue."))
        return
    count = max(FEWEST_OF_ALL, min(MOST_OF_ALL, max(study.dominant_ranks) + 2))
    shown = figures.scaled(values, scale)[:, :count]
    draw_chart(
        figures.heatmap_figure(
            shown, scale, page.layer, list_removed(edit), edit.rank, page.colours, study.dominant_ranks
        ),
        "spectrum_map",
        title,
        told,
        table,
        "spectrum",
        on_select=take_click_on_cell,
    )
    removed = "The green frame holds what the edit plan removes. " if edit.method == PAPER else ""
    st.caption(plain(f"{removed}Hatched cells do not stand out from noise. A click picks a layer (framed grey)."))


def draw_layer(page: StudyPage[SpectrumPicks], values: np.ndarray, layer: int, scale: Scale) -> None:
    """The spectrum of one layer, `[directions]`, over the noise band, and over what chance gives where it was asked."""
    study, edit = page.study, page.edit
    standing = study.dominant_ranks[layer]
    spectra = find_null_spectra(study, page.fitted)
    draw_chart(
        figures.spectrum_figure(
            values,
            SHOWN_DIRECTIONS,
            scale,
            edit.rank if layer in list_removed(edit) else None,
            standing,
            study.noise_thresholds[layer],
            None if spectra is None else spectra[layer].band().numpy(),
            page.colours,
        ),
        "spectrum_layer_chart",
        f"Spectrum of layer {layer}",
        f"{figures.AXIS_OF_SCALE[scale]} of the directions of layer {layer}, and the noise band: "
        f"{figures.label_standing(standing)}; the first three hold "
        f"{figures.scaled(values, 'cumulative')[:3][-1]:.0%} of the variance",
        partial(list_directions, study, [layer], spectra),
        f"spectrum_layer_{layer}",
    )
    st.caption(
        plain(f"{describe_standing(study, layer)} What stands out need not be toxic, so it is no rank to remove.")
    )


def describe_standing(study: Study, layer: int) -> str:
    """How many directions of a layer stand out from noise, in a sentence."""
    rank, kept = study.dominant_ranks[layer], study.subspaces[layer].kept
    count = len(study.subspaces[layer].singular_values)
    if rank == 0:
        return f"At layer {layer} no direction stands out: the spectrum falls as noise would."
    if rank == kept < count:
        return f"At layer {layer} all {kept} directions that were kept stand out above the noise band."
    one = "1 direction stands out" if rank == 1 else f"{rank} directions stand out"
    return f"At layer {layer}, {one} above the noise band, of {count}."


def draw_chance(page: StudyPage[SpectrumPicks], layer: int) -> None:
    """What the parallel analysis says of a layer, where it was asked for, and the offer to run it."""
    study = page.study
    st.subheader("Are they more than chance?")
    spectra = find_null_spectra(study, page.fitted)
    if spectra is not None:
        st.caption(describe_chance(spectra[layer].count_real(study.subspaces[layer].singular_values), study, layer))
    elif study.embeddings is None or len(study.pairs) < study.pair_count:
        st.caption(
            "The parallel analysis needs the embeddings of all pairs, which this study did not keep: fit it with the "
            "parallel analysis to have it."
        )
    else:
        draw_task(
            PARALLEL_ANALYSIS,
            AskedOfChance(page.fitted),
            "parallel_analysis",
            "Run the parallel analysis",
            "It holds every singular value against what the same differences give with random signs; it can take as "
            "long as the fit.",
            "The parallel analysis was stopped.",
            again=True,
            icon=":material/casino:",
        )


def describe_chance(real: int, study: Study, layer: int) -> str:
    """How many kept directions of a layer are more than chance, in a sentence, and why that is no rank to remove."""
    kept = study.subspaces[layer].kept
    if real == 0:
        return f"At layer {layer} no direction is stronger than chance allows."
    if real >= kept:
        many = f"all {kept} directions that were kept are" if kept > 1 else "the direction that was kept is"
    else:
        many = "1 direction is" if real == 1 else f"{real} directions are"
    return (
        f"At layer {layer}, {many} stronger than chance allows, once those before are taken out. Texts share much that "
        "is no chance and not toxic either, so this is no number of directions to remove."
    )


def draw_stability(page: StudyPage[SpectrumPicks], layer: int) -> None:
    """How far each layer's subspace turns when the pairs are drawn anew, on demand."""
    st.subheader("Would other pairs give the same directions?")
    if page.study.embeddings is None:
        st.caption("This study was fitted without keeping its embeddings, so its pairs cannot be drawn anew.")
        return
    asked = Asked(page.fitted, page.edit.rank)
    stability = RESAMPLING.find(asked)
    if stability is not None:
        draw_turns(page, stability, layer)
        return
    draw_task(
        RESAMPLING,
        asked,
        "resample",
        f"Draw the pairs anew, rank {asked.rank}",
        "A few seconds of work: it shows in which layers other pairs of the same kind would give the same subspace.",
        again=True,
        icon=":material/casino:",
    )


def draw_turns(page: StudyPage[SpectrumPicks], stability: Stability, layer: int) -> None:
    study, edit = page.study, page.edit
    rank = f"the first {edit.rank} directions" if edit.rank > 1 else "the first direction"
    steadiest = int(stability.median.argmin())
    draw_chart(
        figures.stability_figure(stability.median.numpy(), stability.high.numpy(), edit.layers, page.colours),
        "stability_chart",
        f"Turn of {rank} of each layer when the pairs are drawn anew",
        f"How far {rank} of each layer turn when the pairs are drawn anew: layer {layer} by "
        f"{stability.median[layer]:.0f}° typically; the steadiest is layer {steadiest} with "
        f"{stability.median[steadiest]:.0f}°",
        partial(list_turns, stability),
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


def list_directions(study: Study, layers: Sequence[int], spectra: Sequence[NullSpectrum] | None) -> Table:
    """Every singular value of `layers`, with the noise threshold, and with what chance gives where it was asked for."""
    heads = ["layer", "direction", "singular value", "share", "added up", "noise up to"]
    heads += [] if spectra is None else ["chance 5 %", "chance 50 %", "chance 95 %"]
    rows = []
    for layer in layers:
        values = study.subspaces[layer].singular_values.numpy()
        columns = [figures.scaled(values, scale).tolist() for scale in figures.AXIS_OF_SCALE]
        chance = [] if spectra is None else spectra[layer].band().T.tolist()
        chance += [[None] * (len(heads) - 6)] * (len(values) - len(chance))
        level = study.noise_thresholds[layer]
        entries = zip(*columns, chance, strict=True)
        rows += [(layer, index, *numbers, level, *band) for index, (*numbers, band) in enumerate(entries, start=1)]
    return heads, rows


def list_turns(stability: Stability) -> Table:
    """How far each layer's subspace turned in each draw."""
    rows = [
        (layer, draw, angle)
        for layer, angles in enumerate(stability.angles.tolist())
        for draw, angle in enumerate(angles, start=1)
    ]
    return ("layer", "draw", "largest principal angle in degrees"), rows


def draw_commands(page: StudyPage[SpectrumPicks]) -> None:
    study = page.fitted.study
    if find_null_spectra(page.study, page.fitted) is not None:
        study = replace(study, fit=replace(study.fit, parallel_analysis=True))
    layers, kept = range(page.study.layers), page.study.kept
    # Every number of every direction: through the logit lens, since running the model for each takes long.
    read = commands.directions_command(study, layers, kept, "lens", PAPER, as_json=True)
    command.draw_commands(
        [commands.fit_command(study), read],
        "The first command says how many directions of each layer stand out; the second gives the singular value and "
        "the share of every kept direction, and its tokens. The pairs drawn anew are on this page only.",
    )


show(draw, HEAD, HELP)
