"""The one way in which a page is written."""

import ast
from pathlib import Path

import pytest

PAGES = Path(__file__).parents[2] / "pages"


def breaks_of(source: str) -> list[str]:
    """What of a page's module level is neither an import, a constant, a function, nor the last call of `show`."""
    *body, last = ast.parse(source).body
    breaks = [] if isinstance(last, ast.Expr) and ast.unparse(last).startswith("show(") else [last]
    for node in body:
        match node:
            case ast.Import() | ast.ImportFrom() | ast.FunctionDef() | ast.Expr(value=ast.Constant()):
                pass
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                pass
            case ast.Assign(targets=[ast.Name(id=name)]) if name.isupper():
                pass
            case _:
                breaks.append(node)
    return [f"line {node.lineno}: {ast.unparse(node)[:60]}" for node in breaks]


@pytest.mark.parametrize("page", sorted(file.parent.name for file in PAGES.glob("*/page.py")))
def test_a_page_is_functions_and_one_call(page):
    assert not breaks_of((PAGES / page / "page.py").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "line", ["study = load()", "st.title('Map')", "class Asked:\n    pass", "if study:\n    draw()", "SIZE: int = 3"]
)
def test_the_rule_catches_what_is_worked_out_at_module_level(line):
    page = '"""A question."""\n\nimport streamlit as st\n\nHEAD = "Map"\n\n\ndef draw(page):\n    st.title(HEAD)\n\n\n'
    assert not breaks_of(f"{page}show(draw, HEAD)\n")
    assert len(breaks_of(f"{page}{line}\nshow(draw, HEAD)\n")) == 1
    assert len(breaks_of(f"{page}show(draw, HEAD)\n{line}\n")) == 2
