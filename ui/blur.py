"""Toxic words where no single word can be blurred: what holds them is blurred as a whole."""

import streamlit as st

from ui import state
from ui.text import mask


def blur_rude(words: str, key: str, part: str = "textarea:not(:focus)") -> None:
    """Blur the `part` of the widget or container `key` where it shows rude `words`; a field only until it is used."""
    if mask(words, state.shows_words()) != words:
        st.html(f"<style>.st-key-{key} {part} {{ filter: blur(0.32em); }}</style>")
