"""Two studies side by side: what they rest on, how far their first directions stand out, and whether they agree."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from pages.model_and_pairs.strip import describe_standing
from ui.frame.page import Page
from ui.show.chart import draw_chart
from ui.show.colours import Palette
from ui.show.downloads import Table
from ui.show.figures import LEGEND, finish
from ui.words.numbers import interval
from ui.words.text import chart_label, escape
from ui.words.verdicts import SCORES, tell_suggestion

if TYPE_CHECKING:
    from detox_engine.study.study import Study

Two = tuple["Study", "Study"]


def draw_beside(page: Page, studies: Two, names: tuple[str, str]) -> None:
    """The verdict in words, the strength of the first directions, and the overlap where there can be one."""
    with st.container(border=True, key="two_studies"):
        st.subheader("Two studies side by side", anchor=False)
        st.html(facts_html(studies, names))
        draw_chart(
            strength_figure(studies, names, page.colours),
            "two_strengths",
            "How far the first direction stands out, layer by layer",
            describe_strengths(studies, names),
            partial(list_strengths, studies, names),
            "two_studies",
        )
        st.caption(
            "The first singular value of each layer as a multiple of what noise reaches: above 1 it stands out. Across "
            "runs the depth, from the first layer at 0 to the last at 1, so that models of other depths compare."
        )
        if not share_states(studies):
            st.caption("The two have other weights, so their directions live in other spaces and cannot be compared.")
            return
        rank = min(studies[0].suggested_edit.rank, *(study.kept for study in studies))
        overlaps = measure_overlap(studies, rank)
        chance = rank / studies[0].model.hidden
        st.markdown(tell_overlap(overlaps, chance, rank))
        draw_chart(
            overlap_figure(overlaps, chance, page.colours),
            "two_overlaps",
            "How much of their toxic subspaces the two share",
            f"Shared part of the first {rank} directions, from {min(overlaps):.0%} to {max(overlaps):.0%}",
            partial(list_overlaps, overlaps),
            "overlap",
        )


def share_states(studies: Two) -> bool:
    """Whether the two are of the same weights, whose states alone can be held against each other."""
    return studies[0].model.weights_hash == studies[1].model.weights_hash


def facts_html(studies: Two, names: Sequence[str]) -> str:
    """What each is, rests on, suggests, and was found to do."""
    facts = {
        "Model": [study.model.name.rpartition("/")[2] or study.model.name for study in studies],
        "Pairs": [f"{study.pair_count:,}" for study in studies],
        "Layers": [f"{study.layers}, {study.model.hidden} wide" for study in studies],
        "Directions": [describe_standing(study) for study in studies],
        "Pairs isolate toxicity": [study.verdict or "nothing speaks against it" for study in studies],
        "Edit": [tell_suggestion(study) for study in studies],
        "Measured": [tell_check(study) for study in studies],
    }
    heads = "".join(f"<th>{escape(name)}</th>" for name in ("", *names))
    rows = "".join(
        f"<tr><th>{head}</th>{''.join(f'<td>{escape(told)}</td>' for told in both)}</tr>"
        for head, both in facts.items()
    )
    return f'<table class="figures facts"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'


def tell_check(study: Study) -> str:
    """What a generation said of the suggested edit."""
    check = study.suggestion and study.suggestion.check
    if not check:
        return "not checked"
    return "; ".join(
        f"{SCORES[change.name]} {interval(change.before)} → {interval(change.after)}, control "
        f"{interval(change.control)}"
        for change in check.changes
    )


def find_strengths(study: Study) -> np.ndarray:
    """`[layers]` the first singular value in multiples of what noise reaches."""
    first = np.array([float(subspace.singular_values[0]) for subspace in study.subspaces])
    return first / np.maximum(np.array(study.noise_thresholds), 1e-12)


def find_depths(study: Study) -> np.ndarray:
    return np.arange(study.layers) / max(1, study.layers - 1)


def strength_figure(studies: Two, names: Sequence[str], colours: Palette) -> go.Figure:
    figure = go.Figure()
    looks = ((colours.edited, "circle", "solid"), (colours.civil, "diamond", "dash"))
    for study, name, (colour, symbol, dash) in zip(studies, names, looks, strict=True):
        figure.add_scatter(
            x=find_depths(study),
            y=find_strengths(study),
            customdata=list(range(study.layers)),
            mode="lines+markers",
            name=chart_label(name),
            line={"color": colour, "dash": dash},
            marker={"color": colour, "symbol": symbol, "size": 7},
            hovertemplate="Layer %{customdata}: %{y:.2f} times what noise reaches<extra></extra>",
        )
    figure.add_hline(y=1, line={"color": colours.quiet, "dash": "dot", "width": 1}, annotation_text="noise")
    figure.update_xaxes(title="Depth (first layer 0, last layer 1)", range=[-0.03, 1.03])
    figure.update_yaxes(title="First singular value<br>(multiples of noise)", rangemode="tozero")
    return finish(figure, 320, across=colours.line, up=colours.line, legend=LEGEND)


def describe_strengths(studies: Two, names: Sequence[str]) -> str:
    return "; ".join(
        f"{name}: strongest at layer {int(find_strengths(study).argmax())}, "
        f"{find_strengths(study).max():.1f} times what noise reaches"
        for study, name in zip(studies, names, strict=True)
    )


def list_strengths(studies: Two, names: Sequence[str]) -> Table:
    rows = [
        (name, layer, float(value))
        for study, name in zip(studies, names, strict=True)
        for layer, value in enumerate(find_strengths(study))
    ]
    return ("study", "layer", "times_noise"), rows


def measure_overlap(studies: Two, rank: int) -> list[float]:
    """`[layers]` the mean squared cosine of the principal angles between the first `rank` directions, 0 to 1."""
    from detox_engine.study.subspace import principal_angles

    def overlap(layer: int) -> float:
        angles = principal_angles(*(study.subspaces[layer].basis[:rank] for study in studies))
        return float(angles.deg2rad().cos().square().mean())

    return [overlap(layer) for layer in range(studies[0].layers)]


def tell_overlap(overlaps: Sequence[float], chance: float, rank: int) -> str:
    """Whether two studies of one model found the same, against what random directions share."""
    mean, times = float(np.mean(overlaps)), float(np.mean(overlaps)) / chance
    what = "first direction" if rank == 1 else f"first {rank} directions"
    verdict = "They found much the same" if mean > 0.5 else "They agree in part" if times > 3 else "They do not agree"
    return (
        f"**{verdict}:** of the {what} the two share {mean:.0%}, mean over layers ({min(overlaps):.0%} to "
        f"{max(overlaps):.0%}); random directions would share {chance:.2%}."
    )


def overlap_figure(overlaps: Sequence[float], chance: float, colours: Palette) -> go.Figure:
    figure = go.Figure(
        go.Bar(
            x=list(range(len(overlaps))),
            y=overlaps,
            marker={"color": colours.edited},
            hovertemplate="Layer %{x}: %{y:.1%} shared<extra></extra>",
        )
    )
    figure.add_hline(y=chance, line={"color": colours.quiet, "dash": "dot", "width": 1}, annotation_text="chance")
    figure.update_xaxes(title="Layer")
    figure.update_yaxes(title="Shared part of the directions", range=[0, 1], tickformat=".0%")
    return finish(figure, 240, across="", up=colours.line, showlegend=False)


def list_overlaps(overlaps: Sequence[float]) -> Table:
    return ("layer", "shared"), list(enumerate(overlaps))
