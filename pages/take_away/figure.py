"""How much of each weight matrix an edit changes, as a Plotly figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from detox_engine.plans.edit import SITES
from ui.show.colours import Palette
from ui.show.figures import LEGEND, finish, tick

if TYPE_CHECKING:
    from detox_engine.edit.in_weights import LayerChange


def changes_figure(changes: Sequence[LayerChange], layers: int, colours: Palette) -> go.Figure:
    """A bar for each changed matrix, at its layer, as high as its share of the matrix's norm."""
    figure = go.Figure()
    for site, colour, pattern in (("attention", colours.civil, "/"), ("mlp", colours.edited, "")):
        own = [change for change in changes if change.site == site]
        if own:
            figure.add_bar(
                x=[change.layer for change in own],
                y=[change.change for change in own],
                customdata=[(change.along_before, change.along_after) for change in own],
                name=SITES[site],
                marker={"color": colour, "pattern": {"shape": pattern}},
                hovertemplate=(
                    f"{SITES[site]} of layer %{{x}}: %{{y:.2%}} of its norm changes<br>along the directions "
                    "%{customdata[0]:.2%} before, %{customdata[1]:.2%} after<extra></extra>"
                ),
            )
    figure.update_xaxes(title="Layer", range=[-0.6, layers - 0.4], dtick=tick(layers))
    figure.update_yaxes(title="Change, share of norm", tickformat=".1%", rangemode="tozero")
    several = len({change.site for change in changes}) > 1
    return finish(figure, 280, across="", up=colours.line, barmode="group", showlegend=several, legend=LEGEND)
