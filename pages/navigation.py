"""Which pages there are, in the order of the sidebar: the script that runs for every visitor."""

import streamlit as st

from ui.frame import frame
from ui.frame.page import run_page

PAGES = {
    "Find": (
        ("model_and_pairs", "Model & pairs", "dataset"),
        ("spectrum", "Spectrum", "bar_chart"),
        ("directions", "Directions", "explore"),
        ("map", "Map", "scatter_plot"),
        ("token_lens", "Token lens", "center_focus_strong"),
    ),
    "Edit": (
        ("compare", "Compare", "compare_arrows"),
        ("trade_offs", "Trade-offs", "balance"),
        ("evaluate", "Evaluate", "fact_check"),
    ),
}
"""By group: a page's folder, which is its address too, its title and its icon. The first page is the one at /."""
FIRST = PAGES["Find"][0][0]


def declare_page(folder: str, title: str, icon: str) -> st.Page:
    return st.Page(
        f"{folder}/page.py", title=title, icon=f":material/{icon}:", url_path=folder, default=folder == FIRST
    )


def main() -> None:
    st.set_page_config("DeTox Explorer", frame.ICON, "wide", menu_items={"About": frame.ABOUT})
    run_page(st.navigation({group: [declare_page(*page) for page in pages] for group, pages in PAGES.items()}))


if __name__ == "__main__":
    main()
