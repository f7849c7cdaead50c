"""The link of a view: the parameters that restore it, as the fields of plans and picks declare them.

A link comes from anyone: each part is checked as it is read, and its texts are shown as any text of others is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from detox_engine.errors import InputError
from detox_engine.plans.option import Leaf, leaves
from detox_engine.plans.sources import is_path
from ui.session.folders import read_upload, write_upload
from ui.session.picks import WRITTEN
from ui.session.places import check_names
from ui.session.view import View

MAY_BE_UPLOADS = tuple(f"measures.{name}" for name in ("prompts_from", "neutral_from"))
"""Parts that can say that a file was handed to the page: a link has no place for it."""
LONGEST_NAME, LONGEST_REASON = 500, 300
PAIRS, MODEL = "fit.pairs.source", "model.name"
_PUBLIC = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")


def list_parts(view: View) -> Iterator[Leaf]:
    """The parts of a view that a link holds, in the order of the link."""
    everything = [*leaves(view)]
    for name, picks in view.pages.items():
        if picks.in_links:
            everything += leaves(picks, path=f"{name}.")
    return (leaf for leaf in everything if leaf.link)


def list_names() -> frozenset[str]:
    """The names of all parameters."""
    return frozenset(leaf.link for leaf in list_parts(View()))


def list_texts(view: View) -> list[str]:
    """What people wrote."""
    return [leaf.value for leaf in list_parts(view) if leaf.form is WRITTEN]


def write_link(view: View) -> dict[str, str]:
    """The parameters that restore `view`; what is as on a first visit is left out, and so is what no link can hold."""
    first = {leaf.path: leaf.value for leaf in list_parts(View())}
    return {
        leaf.link: _write(leaf) for leaf in list_parts(view) if leaf.value != first[leaf.path] and _can_be_read(leaf)
    }


def write_address(page: str, view: View) -> str:
    """The full address that opens `view` on the page whose address is `page`, whatever parameters that has now."""
    query = urlencode(write_link(view), errors="replace")
    return page.split("?")[0] + (f"?{query}" if query else "")


def left_out(view: View) -> frozenset[str]:
    """The paths of the texts that are too long for a link."""
    return frozenset(leaf.path for leaf in list_parts(view) if leaf.form is WRITTEN and not _can_be_read(leaf))


def leaves_files_out(view: View) -> bool:
    """Whether what is measured with holds files of this machine, which are in no link."""
    return any(
        (leaf.option.may_be_file and not _can_be_read(leaf))
        or (leaf.path.endswith(MAY_BE_UPLOADS) and leaf.value == "file")
        for leaf in list_parts(view)
    )


def read_link(parameters: Mapping[str, str]) -> View:
    """The view that `write_link` wrote.

    Raises:
        InputError: a parameter holds what it cannot hold.
    """
    view = View()
    for leaf in list_parts(view):
        if leaf.link in parameters:
            try:
                view = view.put(leaf.path, _read(leaf, parameters[leaf.link]))
            except InputError as error:
                reason = " ".join(str(error).split()).removesuffix(".")
                reason = reason if len(reason) <= LONGEST_REASON else f"{reason[:LONGEST_REASON]}…"
                name = leaf.link
                raise InputError(f"The link could not be restored: its part “{name}” is wrong ({reason}).") from None
    return view


def _can_be_read(leaf: Leaf) -> bool:
    """Whether a link that holds this part could be read."""
    try:
        _read(leaf, _write(leaf))
    except InputError:
        return False
    return True


def _write(leaf: Leaf) -> str:
    """A part as a link has it: an upload by its content, not by where it lies."""
    text = leaf.write(leaf.value)
    return (write_upload(text) or text) if leaf.path == PAIRS else text


def _read(leaf: Leaf, text: str) -> Any:
    """A part as the view has it; nothing is looked up on this machine, since a link can be anybody's.

    Raises:
        InputError: it cannot be so, or names a file that no link may name.
    """
    value = leaf.read(text)
    if leaf.path == PAIRS:
        return read_upload(value) or _check_public((value,)) or value
    if leaf.path == MODEL:
        if len(value) > LONGEST_NAME:
            raise InputError(f"its name is longer than {LONGEST_NAME} characters")
        check_names((value,))
    elif leaf.option.may_be_file:
        _check_public((value,) if isinstance(value, str) else value)
    return value


def _check_public(names: Iterable[str]) -> None:
    for name in names:
        if not _PUBLIC.fullmatch(name) or is_path(name):
            raise InputError(f"“{name[:80]}” is no name on the Hub, and a link names no files of a machine")
