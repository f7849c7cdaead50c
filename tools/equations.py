"""Equations of the documentation as MathML, which browsers draw by themselves: a hook of mkdocs (see mkdocs.yml).

In the pages' sources they stand as LaTeX between dollar signs, as code hosts draw them. Set while the site is built,
they need no script, and nothing of another machine.
"""

import html
import re
from typing import Any

from latex2mathml.converter import convert

BLOCK = re.compile(r'<div class="arithmatex">\\\[(.*?)\\\]</div>', re.DOTALL)
INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)


def on_page_content(content: str, **_: Any) -> str:
    """The page with its equations set."""
    content = BLOCK.sub(lambda found: set_equation(found[1], "block"), content)
    return INLINE.sub(lambda found: set_equation(found[1], "inline"), content)


def set_equation(latex: str, display: str) -> str:
    """MathML of an equation, escaped as the page has it."""
    return convert(html.unescape(latex).strip(), display=display)
