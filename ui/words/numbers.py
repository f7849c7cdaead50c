"""Numbers as people read them, with their intervals."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from detox_engine.estimates import ABSURD

if TYPE_CHECKING:
    from detox_engine.estimates import Estimate


def number(value: float, beside: float = 0.0, decimals: int | None = None) -> str:
    """A number with the digits that tell something, and a real minus sign.

    Args:
        beside: a number that it is read together with; the larger of the two sets the decimals.
        decimals: as many, as in a list of numbers below one another.
    """
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    size = max(abs(value), abs(beside))
    if decimals is None and 0 < size < 1e-4:
        text = f"{abs(value):.0e}".replace("e-0", "e-")
    elif abs(value) >= ABSURD:
        text = f"{abs(value):.1e}".replace("e+0", "e").replace("e+", "e")
    else:
        if decimals is None:
            decimals = 0 if size >= 100 else 2 if size >= 10 else 3 if size >= 0.0095 or not size else 5
        text = f"{abs(value):,.{decimals}f}"
    return f"−{text}" if value < 0 and float(text.replace(",", "")) else text


def signed(value: float, beside: float = 0.0, decimals: int | None = None) -> str:
    """A change, with its sign."""
    text = number(value, beside, decimals)
    return text if text.startswith(("−", "–", "∞")) or not float(text.replace(",", "")) else f"+{text}"


def interval(estimate: Estimate, write=number) -> str:
    """`0.12 (0.10 to 0.15)`, the bounds of the 95 % interval in brackets."""
    values = (estimate.mean, estimate.low, estimate.high)
    widest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    mean, low, high = (write(value, widest) for value in values)
    return f"{mean} ({low} to {high})"


def file_size(size: int) -> str:
    """Bytes on disk, in the unit that suits them."""
    if size >= 1e9:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{max(1, round(size / 1e3))} KB"
