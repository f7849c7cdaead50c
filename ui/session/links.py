"""The link of a view: the parameters that restore it, and how each is written and read.

A link comes from anyone: each part is checked as it is read, and its texts are shown as any text of others is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus, urlencode

from detox_engine.errors import InputError
from detox_engine.plans.layers import format_directions, format_layers, parse_directions, parse_layers
from ui.session.view import View

MOST_LAYERS = 1000
"""No model has more; a link's layers are read before its model is known."""
LONGEST_TEXT = 1500
"""Characters that a text may take in a link, as they stand there; what is longer stays out of it."""
TEXTS = ("token_lens.own", "token_lens.second", "compare.own")
"""The paths of what people wrote."""
LARGEST = 2**53 - 1
"""The largest whole number that a browser holds."""


@dataclass(frozen=True)
class _Part:
    """One parameter of a link: where in the view it lives, and how it is written and read."""

    path: str
    read: Callable[[str], Any] = str
    write: Callable[[Any], str] = str


def _whole(path: str, low: int, high: int = LARGEST, place: int = 0) -> _Part:
    """A whole number in its range; a place that the view counts from 0 is written as people count."""

    def read(text: str) -> int:
        if not (re.fullmatch(r"-?\d{1,16}", text) and low <= int(text) <= high):
            most = f" and at most {high:,}" if high < LARGEST else ""
            raise InputError(f"it must be a whole number, {low:,} or more{most}")
        return int(text) - place

    return _Part(path, read, lambda value: str(value + place))


def _number(path: str, low: float, high: float) -> _Part:
    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise InputError(f"it must be a finite number from {low:g} to {high:g}")
        return value

    return _Part(path, read, lambda value: f"{value:g}")


def _one_of(path: str, *values: str) -> _Part:
    def read(text: str) -> str:
        if text not in values:
            raise InputError(f"it can be {', '.join(values)}")
        return text

    return _Part(path, read)


def _flag(path: str) -> _Part:
    return _Part(path, lambda text: _one_of(path, "0", "1").read(text) == "1", lambda value: str(int(value)))


def _several(path: str, *values: str) -> _Part:
    one = _one_of(path, *values)
    return _Part(path, lambda text: tuple(one.read(part) for part in text.split(",") if part), ",".join)


def _text(path: str) -> _Part:
    """Words of a person's own, which may be long."""

    def read(text: str) -> str:
        if not fits_link(text):
            raise InputError(f"its text is longer than {LONGEST_TEXT:,} characters")
        return text

    return _Part(path, read)


def fits_link(text: str) -> bool:
    """Whether a text is short enough to stand in a link."""
    return len(text) <= LONGEST_TEXT and len(quote_plus(text, errors="replace")) <= LONGEST_TEXT


def _sampling(prefix: str, path: str) -> dict[str, _Part]:
    """A plan of sampling; the ranges are those of the widgets."""
    return {
        f"{prefix}tokens": _whole(f"{path}.max_new_tokens", 1, 1024),
        f"{prefix}samples": _whole(f"{path}.samples", 1, 100),
        f"{prefix}greedy": _flag(f"{path}.greedy"),
        f"{prefix}temperature": _number(f"{path}.temperature", 0.05, 5),
        f"{prefix}top_p": _number(f"{path}.top_p", 0.05, 1),
        f"{prefix}luck": _whole(f"{path}.seed", 0),
    }


LINK: Mapping[str, _Part] = {
    "model": _Part("model.name"),
    "revision": _Part("model.revision"),
    "device": _Part("model.device"),
    "dtype": _Part("model.dtype"),
    "pairs": _Part("fit.pairs.source"),
    "toxic": _Part("fit.pairs.toxic"),
    "civil": _Part("fit.pairs.civil"),
    "prompt": _Part("fit.pairs.prompt"),
    "subset": _Part("fit.pairs.subset"),
    "split": _Part("fit.pairs.split"),
    "pairs_revision": _Part("fit.pairs.revision"),
    "limit": _whole("fit.pairs.limit", 2),
    "seed": _whole("fit.pairs.seed", 0),
    "max_length": _whole("fit.max_length", 1),
    "pooling": _one_of("fit.pooling", "mean", "continuation", "last"),
    "keep": _whole("fit.keep", 1),
    "layers": _Part("edit.layers", lambda text: parse_layers(text, MOST_LAYERS), format_layers),
    "rank": _whole("edit.rank", 1),
    "strength": _number("edit.strength", -10, 10),
    "off": _Part(
        "edit.switched_off", lambda text: frozenset(parse_directions(text)), lambda off: format_directions(sorted(off))
    ),
    "layer": _whole("layer", 0, MOST_LAYERS - 1),
    "direction": _whole("direction", 1, place=1),
    "scale": _one_of("spectrum.scale", "shares", "cumulative", "values"),
    "measure": _one_of("directions.measure", "product", "cosine"),
    "norm": _flag("directions.through_norm"),
    "all": _flag("directions.show_all"),
    "pins": _Part("directions.pins", lambda text: tuple(dict.fromkeys(parse_directions(text))), format_directions),
    "map": _one_of("map.layout", "pca", "umap", "directions"),
    "map_frame": _one_of("map.frame", "before", "both"),
    "neighbours": _whole("map.neighbours", 2, 200),
    "spread": _number("map.spread", 0, 1),
    "map_seed": _whole("map.seed", 0, 2**32 - 1),
    "states": _several("map.states", "before", "after", "on paper"),
    "lines": _one_of("map.lines", "none", "pairs", "moves"),
    "together": _flag("map.together"),
    "play": _flag("map.play"),
    "lens": _one_of("token_lens.kind", "pair", "prompt", "own"),
    "pair": _whole("token_lens.pair", 1),
    "lens_prompts": _one_of("token_lens.prompts", "hostile", "plain", "everyday"),
    "lens_prompt": _whole("token_lens.prompt", 1),
    "text": _text("token_lens.own"),
    "second": _text("token_lens.second"),
    "colour": _one_of("token_lens.measure", "direction", "length"),
    "lens_rank": _whole("token_lens.rank", 1),
    "prompts": _one_of("compare.prompts", "hostile", "plain", "everyday", "own"),
    "count": _whole("compare.count", 1),
    "draw": _whole("compare.draw", 0),
    "own": _text("compare.own"),
    **_sampling("", "compare.sampling"),
    **_sampling("sweep_", "trade_offs.sampling"),
    **_sampling("evaluate_", "evaluate.sampling"),
}


def write_link(view: View) -> dict[str, str]:
    """The parameters that restore `view`; what is as on a first visit is left out, and so are long texts."""
    untouched = View()
    return {
        name: part.write(view[part.path])
        for name, part in LINK.items()
        if view[part.path] != untouched[part.path] and part.path not in left_out(view)
    }


def write_address(page: str, view: View) -> str:
    """The full address that opens `view` on the page whose address is `page`, whatever parameters that has now."""
    query = urlencode(write_link(view), errors="replace")
    return page.split("?")[0] + (f"?{query}" if query else "")


def left_out(view: View) -> frozenset[str]:
    """The paths of the texts that are too long for a link."""
    return frozenset(path for path in TEXTS if not fits_link(view[path]))


def read_link(parameters: Mapping[str, str]) -> View:
    """The view that `write_link` wrote.

    Raises:
        InputError: a parameter holds what it cannot hold.
    """
    view = View()
    for name, part in LINK.items():
        if name in parameters:
            try:
                view = view.put(part.path, part.read(parameters[name]))
            except InputError as error:
                reason = str(error).removesuffix(".")
                raise InputError(f"The link could not be restored: its part “{name}” is wrong ({reason}).") from None
    return view
