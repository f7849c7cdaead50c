"""How many directions stand out, and where? Singular values, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from detox_engine.plans import commands
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.fit import PAPER
from detox_engine.study.methods import title_of
from pages.spectrum import figures
from pages.spectrum.picks import Scale, SpectrumPicks
from pages.spectrum.work import PARALLEL_ANALYSIS, RESAMPLING, Asked, AskedOfChance, find_null_spectra
from ui.frame import command
from ui.frame.page import Head, Help, StudyPage, show
from ui.session import state
from ui.show.chart import clicked, draw_chart
from ui.show.downloads import Table
from ui.widgets.layer import pick_layer
from ui.widgets.option import ask
from ui.words.text import plain
from ui.words.verdicts import tell_suggestion
from ui.work.tasks import draw_task

if TYPE_CHECKING:
    from detox_engine.study.noise.null_spectra import NullSpectrum
    from detox_engine.study.stability import Stability
    from detox_engine.study.study import Study

HEAD = Head("Spectrum", "How many directions stand out, and where?", picks="spectrum")
HELP = Help(
    "Each singular value says how much of the differences between toxic and civil texts lies along one direction; "
    "the square, as a share of all squares, is that direction's share of the variance. "
    "A steep start followed by a long flat tail means that few directions carry what the pairs have in common. "
    "A direction stands out where its singular value lies above the noise band, which the layer's own tail tells "
    "(ScreeNOT: Donoho, Gavish and Romanov 2023); what lies in the band may be real, but is too weak to be told apart.",
    r"T = U S V, \qquad \text{share}_i = \frac{s_i^2}{\sum_j s_j^2}",
)
SHOWN_DIRECTIONS = 32
"""Of one layer."""
SHOWN_OF_ALL = 12
"""Of all layers: those behind them are pale everywhere."""


def draw(page: StudyPage[SpectrumPicks]) -> None:
    scale = ask("spectrum.scale", "Show", "spectrum_scale")
    values = stack_values(page.study)
    draw_layers(page, values, scale)
    layer = pick_layer(page.study, "spectrum_layer")
    draw_layer(page, values[layer], layer, scale)
    draw_suggestion(page, layer)
    draw_chance(page, layer)
    draw_stability(page, layer)
    draw_commands(page)


def stack_values(study: Study) -> np.ndarray:
    """`[layers, directions]` singular values."""
    return np.stack([subspace.singular_values.numpy() for subspace in study.subspaces])


def list_removed(edit: EditPlan) -> tuple[int, ...]:
    """The layers whose directions here the edit removes: none where it removes those of another method."""
    return edit.layers if edit.method == PAPER else ()


def draw_layers(page: StudyPage[SpectrumPicks], values: np.ndarray, scale: Scale) -> None:
    """The main picture, all layers at once; a click picks one."""
    study, edit = page.study, page.edit
    first = figures.scaled(values, "shares")[:, 0]
    shown = figures.scaled(values, scale)[:, :SHOWN_OF_ALL]
    draw_chart(
        figures.heatmap_figure(shown, scale, page.layer, list_removed(edit), edit.rank, page.colours),
        "spectrum_map",
        f"{figures.AXIS_OF_SCALE[scale]} of the directions of all layers",
        f"{figures.AXIS_OF_SCALE[scale]} of {study.layers} layers by directions; the first direction has its largest "
        f"share of the variance, {first.max():.0%}, at layer {first.argmax()}, and its smallest, {first.min():.0%}, "
        f"at layer {first.argmin()}",
        partial(list_directions, study, range(study.layers), find_null_spectra(study, page.fitted)),
        "spectrum",
        on_select=take_click,
    )
    removed = (
        "The green frame holds what the edit plan removes."
        if edit.method == PAPER
        else f"The spectra are DeTox's; the edit plan removes directions of another method, {title_of(edit.method)}."
    )
    st.caption(plain(f"A click picks a layer (framed grey). {removed}"))


def take_click() -> None:
    for layer in clicked("spectrum_map", "y")[:1]:
        state.put("layer", int(layer))


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


def draw_suggestion(page: StudyPage[SpectrumPicks], layer: int) -> None:
    """How many directions of a layer stand out, beside the one edit that is suggested: they are no rank to remove."""
    st.caption(
        plain(
            f"{describe_standing(page.study, layer)} What stands out need not be toxic, so it is no rank to remove. "
            f"{tell_suggestion(page.study)}."
        )
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
