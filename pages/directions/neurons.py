"""The neurons that write most along a direction, as HTML and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ui.show.downloads import Table
from ui.words.numbers import signed
from ui.words.text import token_html

if TYPE_CHECKING:
    from detox_engine.reading.neurons import ValueVector, ValueVectors

SHOWN, TOKENS = 4, 6
"""Neurons of each way, and tokens of each neuron."""


def neurons_html(found: ValueVectors) -> str:
    """The nearest neurons toward the direction and away from it, each with the tokens that it promotes."""
    return (
        '<div class="neurons">'
        + _list_html("Toward it", "toxic", found.toward[:SHOWN])
        + _list_html("Away from it", "civil", found.away[:SHOWN])
        + "</div>"
    )


def _list_html(title: str, kind: str, vectors: Sequence[ValueVector]) -> str:
    rows = "".join(
        f"<tr><td>{one.label}</td><td>{signed(one.cosine, decimals=2)}</td><td>{_tokens_html(one)}</td></tr>"
        for one in vectors
    )
    return (
        f'<section class="{kind}"><h4>{title}</h4><table class="figures"><thead><tr><th>Neuron</th><th>Cosine</th>'
        f"<th>Promotes</th></tr></thead><tbody>{rows}</tbody></table></section>"
    )


def _tokens_html(one: ValueVector) -> str:
    ends = one.reading.toxic_pole[:TOKENS]
    return " ".join(f'<span class="token">{token_html(end.token)}</span>' for end in ends)


def list_neurons(found: ValueVectors) -> Table:
    """Every token at both ends of every neuron's row as a row."""
    rows = [
        (way, one.label, one.cosine, one.length, end_name, end.token, end.score)
        for way, vectors in (("toward", found.toward), ("away", found.away))
        for one in vectors
        for end_name, ends in (("promoted", one.reading.toxic_pole), ("suppressed", one.reading.civil_pole))
        for end in ends
    ]
    return ("way", "neuron", "cosine", "length", "end", "token", "score"), rows
