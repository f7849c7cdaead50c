"""What a direction means in words, on its card: by what its removal changes first, then through the logit lens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from pages.directions import poles
from pages.directions.work import CAUSAL, Asked
from ui.show.downloads import draw_download, write_csv
from ui.show.poles import poles_html
from ui.words.numbers import number
from ui.work.tasks import draw_unfinished

if TYPE_CHECKING:
    from detox_engine.reading.causal import CausalReading
    from detox_engine.reading.directions import DirectionReading
    from detox_engine.reading.lens import Reading

NOT_WORDS = '<p class="unread">Not readable as words here.</p>'


def draw_readings(asked: Asked, entry: DirectionReading, reads_causally: bool, sure: bool) -> None:
    """The tokens of a direction.

    Args:
        reads_causally: whether the causal reading, which is worked out where it is missing, comes before that of the
            `entry`.
        sure: whether it is more than chance which pole is the toxic one.
    """
    if not reads_causally:
        st.html(_ends_html(entry.reading, sure))
        if not entry.reading.is_readable:
            st.html('<p class="aside">No nearer to these tokens than a random direction is to some.</p>')
        return
    causal = CAUSAL.ask(asked)
    if causal is None:
        stopped = "The reading was stopped."
        draw_unfinished(CAUSAL, asked, f"again_{CAUSAL.kind}", "Read it again", stopped)
    elif causal.is_readable:
        draw_causal(asked, causal, sure)
    if causal is not None and not causal.is_readable and not entry.reading.is_readable:
        st.html(NOT_WORDS + f'<p class="aside">{_say_chance(causal)} See the texts in which it lights up.</p>')
        return
    if causal is not None and not causal.is_readable:
        st.html(f'<p class="aside">What its removal changes does not read as words. {_say_chance(causal)}</p>')
    folded = causal is not None and causal.is_readable
    st.html(_lens_html(entry, folded, sure))


def _ends_html(reading: Reading, sure: bool) -> str:
    """Both ends; where the pairs do not say which is the toxic one, neither has its name or its colour."""
    return poles_html(reading) if sure else poles_html(reading, "End A", "End B", sided=False)


def draw_causal(asked: Asked, found: CausalReading, sure: bool) -> None:
    st.html(f"<h4>What it makes the model say</h4>{_ends_html(found, sure)}")
    ends = any(end.ending for end in (*found.toxic_pole, *found.civil_pole))
    st.caption(
        "How much of the log p of each token, as the next one after prompts, the direction holds up: the mean over "
        f"{found.prompts} prompts, in nats, of what its removal after layer {asked.layer} takes away. Pale ones could "
        f"be chance: taking as much away in a random direction changes a token by up to {number(found.chance)}."
        + (" Fainter letters end a word as the model itself would, where a token only begins it." if ends else "")
    )
    draw_download(
        "These numbers as CSV",
        lambda: write_csv(*poles.list_effects(found)),
        f"causal_layer_{asked.layer}_direction_{asked.direction + 1}.csv",
        key=f"causal_{asked.layer}_{asked.direction}",
    )


def _say_chance(found: CausalReading) -> str:
    tokens = "no token" if not found.read else "1 token" if found.read == 1 else f"{found.read} tokens"
    return (
        f"Of {found.tokens:,} tokens that are likely after {found.prompts} prompts, its removal changes {tokens} by "
        "more than as large a change in a random direction does."
    )


def _lens_html(entry: DirectionReading, folded: bool, sure: bool) -> str:
    """The logit lens under a causal reading; folded away where that says more."""
    drawn = _ends_html(entry.reading, sure)
    if not folded:
        return f"<h4>Through the logit lens</h4>{drawn}"
    return f'<details class="lens-poles"><summary>Through the logit lens</summary>{drawn}</details>'
