"""The report's pictures: those of the pages, of one study and one edit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from detox_engine.plans.edit import describe_edit
from detox_engine.plans.fit import BUDGETS, PAPER
from pages.map.figures import Panel, map_figure
from pages.report.told import Shown
from pages.spectrum.figures import heatmap_figure, scaled, spectrum_figure
from ui.show.colours import LIGHT
from ui.show.effects import effect_figure
from ui.show.figures import LEGEND, finish
from ui.show.frontier import Axis, trade_off_figure
from ui.words.numbers import interval, number
from ui.words.text import hover_label

if TYPE_CHECKING:
    from detox_engine.scoring.evaluation import Score
    from detox_engine.scoring.results import SweepPoint
    from detox_engine.study.study import Study
    from detox_engine.study.suggestion import Suggestion

SCORES = ("profanity", "mass", "perplexity")
"""The scores that have a picture of their own."""
DIRECTIONS = 32
PAIRS = 300
"""Pairs that are drawn at most, evenly over all."""
HARM, COST = "profanity", "perplexity"

Picture = tuple[go.Figure, str]
"""A figure, and what it shows in words."""


def effect(score: Score) -> go.Figure:
    return effect_figure(score, LIGHT)


def layers(study: Study, shown: Shown) -> Picture:
    """All spectra, with what the edit removes framed."""
    values = np.stack([subspace.singular_values.numpy() for subspace in study.subspaces])
    spectra = scaled(values, "shares")[:, :DIRECTIONS]
    edited = shown.edit.layers if shown.edit.method == PAPER else ()
    figure = heatmap_figure(spectra, "shares", pick_layer(study, shown), edited, shown.edit.rank, LIGHT)
    standing = study.dominant_ranks
    words = (
        "Share of the differences between toxic and civil texts along each direction, layer by layer. Above noise "
        "stand "
        f"{min(standing)} to {max(standing)} directions of a layer. "
    )
    framed = (
        "The green frame holds what the edit removes." if edited else "The edit removes another method's directions."
    )
    return figure, words + framed


def spectrum(study: Study, shown: Shown) -> Picture:
    """The picked layer's spectrum over its noise band."""
    layer = pick_layer(study, shown)
    values = study.subspaces[layer].singular_values.numpy()
    removed = shown.edit.rank if shown.edit.method == PAPER and layer in shown.edit.layers else None
    standing = study.dominant_ranks[layer]
    noise = study.noise_thresholds[layer]
    figure = spectrum_figure(values, DIRECTIONS, "values", removed, standing, noise, None, LIGHT)
    return figure, f"Singular values of layer {layer}, and the noise band: {standing} directions stand out."


def texts(study: Study, shown: Shown) -> Picture:
    """The texts along the first two directions of the picked layer, and with the edit taken out on paper."""
    from detox_engine.edit.low_rank import make_edit
    from detox_engine.reading.map import project_on_paper, stack_sides

    layer = pick_layer(study, shown)
    axes = study.subspaces[layer].basis[:2].T
    before = study.embeddings
    states = {"Before": before}
    if layer in shown.edit.layers and shown.edit.strength:
        states["After, computed alone"] = project_on_paper(before, make_edit(study.of(shown.edit.method), shown.edit))
    sample = np.linspace(0, len(study.pairs) - 1, min(PAIRS, len(study.pairs))).round().astype(int)
    panels = [Panel(title, (stack_sides(state, layer) @ axes).numpy()[:, sample]) for title, state in states.items()]
    labels = [
        [hover_label(getattr(study.pairs[index], side), False) for index in sample]
        for side in ("toxic_text", "civil_text")
    ]
    first, second = (f"Direction {number_} of layer {layer} (length along it)" for number_ in (1, 2))
    words = (
        f"Each dot is a text, at layer {layer}. These directions were found from these very pairs, so new texts would "
        "part less clearly; “computed alone” takes the edit's directions out of the embeddings and runs no model."
    )
    return map_figure(panels, labels, (first, second), LIGHT), words


def frontier(study: Study, shown: Shown) -> Picture | None:
    """A sweep's settings by harm and cost, or the candidates of the suggestion; None where neither was measured."""
    if shown.points and {HARM, COST} <= set(shown.points[0].effects):
        return _draw_sweep(shown.points, shown)
    if study.suggestion is not None and any(one.gap is not None for one in study.suggestion.tried):
        return _draw_candidates(study.suggestion)
    return None


def _draw_sweep(points: tuple[SweepPoint, ...], shown: Shown) -> Picture:
    x = Axis(COST, "Perplexity", "of neutral text", True)
    y = Axis(HARM, "Toxicity", "0 to 1", True)
    current = next((place for place, point in enumerate(points) if point.edit == shown.edit), None)
    figure = trade_off_figure(points, x, y, "rank", LIGHT, current=current)
    return figure, f"{len(points)} settings of a sweep by what they cost and what toxicity they leave, random beside."


def _draw_candidates(suggestion: Suggestion) -> Picture:
    """The candidates that were measured, by what they move on neutral text and what they do to the pairs."""
    measured = [one for one in suggestion.tried if one.gap is not None]
    figure = go.Figure()
    for name, chosen, colour, symbol in (
        ("Tried", False, LIGHT.quiet, "circle"),
        ("Suggested", True, LIGHT.edited, "diamond"),
    ):
        own = [one for one in measured if (one.edit == suggestion.edit) == chosen]
        if own:
            figure.add_scatter(
                x=[one.divergence for one in own],
                y=[one.gap.mean for one in own],
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": [one.gap.high - one.gap.mean for one in own],
                    "arrayminus": [one.gap.mean - one.gap.low for one in own],
                    "color": colour,
                },
                text=[f"{describe_edit(one.edit)}<br>gap {interval(one.gap)}" for one in own],
                name=name,
                mode="markers",
                marker={"size": 12, "color": colour, "symbol": symbol},
                hovertemplate="%{text}<br>KL %{x:.4f}<extra></extra>",
            )
    budget = BUDGETS[suggestion.budget]
    figure.add_vline(
        x=budget,
        line={"color": LIGHT.toxic, "dash": "dash", "width": 1.5},
        annotation={"text": f"budget: {number(budget)}", "font": {"color": LIGHT.toxic}},
        annotation_position="top right",
    )
    figure.update_xaxes(title="KL on neutral text (nats a token)", rangemode="tozero")
    figure.update_yaxes(title="Gap: what civil gains on toxic text (nats a token)", rangemode="tozero")
    words = (
        f"{len(measured)} edits that were measured on pairs that fitted nothing: how far each moves predictions on "
        "neutral text, and by how much civil continuations gain on toxic ones, with 95 % intervals."
    )
    return finish(figure, 380, across=LIGHT.line, up=LIGHT.line, legend=LEGEND), words


def pick_layer(study: Study, shown: Shown) -> int:
    """The middle one of the edited layers, as far as the study has it."""
    inside = [layer for layer in shown.edit.layers if layer < study.layers]
    return inside[len(inside) // 2] if inside else study.layers - 1
