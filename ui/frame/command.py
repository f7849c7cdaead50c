"""The same from the command line: the exact commands that do what a page did."""

from collections.abc import Sequence
from itertools import pairwise

import streamlit as st

from detox_engine.plans.commands import as_text
from ui.session.folders import without_folder
from ui.show.downloads import blur_rude


def draw_commands(commands: Sequence[Sequence[str]], note: str = "", key: str = "commands") -> None:
    """The expander with commands to copy; `key` tells several of a page apart."""
    # An upload by its own name: where it lies is the server's business.
    words = "\n".join(as_text([without_folder(word) for word in command]) for command in commands)
    with st.expander("The same from the command line", icon=":material/terminal:"), st.container(key=key):
        # Blurred or not, the button in its corner copies it in full. Only what people wrote can be rude: to ask for
        # the other words would hold up a first page until the scorer is loaded.
        texts = [
            after for command in commands for option, after in pairwise(command) if option in ("--prompt", "--text")
        ]
        blur_rude("\n".join(texts), key, "pre")
        st.code(words, language="bash", wrap_lines=True)
        if note:
            st.caption(note)
