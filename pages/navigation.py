"""Which pages there are, in the order of the sidebar: the script that runs for every visitor."""

import streamlit as st

from pages.claims.picks import ClaimsPicks
from pages.compare.picks import ComparePicks
from pages.decide.picks import DecidePicks
from pages.directions.picks import DirectionsPicks
from pages.evaluate.picks import EvaluatePicks
from pages.learn.picks import LearnPicks
from pages.map.picks import MapPicks
from pages.model_and_pairs.picks import ChoicePicks
from pages.overview.picks import OverviewPicks
from pages.spectrum.picks import SpectrumPicks
from pages.take_away.picks import TakeAwayPicks
from pages.token_lens.picks import TokenLensPicks
from pages.trade_offs.picks import TradeOffsPicks
from ui.frame import frame
from ui.frame.page import run_page
from ui.session.picks import Picks
from ui.session.view import hold

PAGES = {
    "See": (
        ("overview", "Overview", "visibility", OverviewPicks),
        ("model_and_pairs", "Model & pairs", "dataset", ChoicePicks),
        ("spectrum", "Spectrum", "bar_chart", SpectrumPicks),
        ("directions", "Directions", "explore", DirectionsPicks),
        ("map", "Map", "scatter_plot", MapPicks),
        ("token_lens", "Token lens", "center_focus_strong", TokenLensPicks),
    ),
    "Edit": (
        ("compare", "Compare", "compare_arrows", ComparePicks),
        ("trade_offs", "Trade-offs", "balance", TradeOffsPicks),
        ("evaluate", "Evaluate", "fact_check", EvaluatePicks),
        ("decide", "Decide", "gavel", DecidePicks),
        ("take_away", "Take away", "package_2", TakeAwayPicks),
    ),
    "Understand": (
        ("claims", "Claims", "science", ClaimsPicks),
        ("learn", "Learn", "school", LearnPicks),
    ),
}
"""By group: a page's folder, which is its address too, its title, its icon and its part of the view.

The first page is the one at /.
"""
PICKS = {folder: picks for pages in PAGES.values() for folder, _, _, picks in pages}
FIRST = PAGES["See"][0][0]


def declare_page(folder: str, title: str, icon: str, _: type[Picks]) -> st.Page:
    is_first = folder == FIRST
    path = None if is_first else folder
    return st.Page(f"{folder}/page.py", title=title, icon=f":material/{icon}:", url_path=path, default=is_first)


def declare_named(folder: str, title: str, icon: str, _: type[Picks]) -> st.Page:
    """A page once more, at the address that is its name, and not in the sidebar."""
    return st.Page(f"{folder}/page.py", title=title, icon=f":material/{icon}:", url_path=folder, visibility="hidden")


def main() -> None:
    hold(PICKS)
    st.set_page_config("DeTox Explorer", frame.ICON, "wide", menu_items={"About": frame.ABOUT})
    groups = {group: [declare_page(*page) for page in pages] for group, pages in PAGES.items()}
    # The first page is at /; whoever types its name finds it too, rather than “Page not found”.
    for group, pages in PAGES.items():
        groups[group] += [declare_named(*page) for page in pages if page[0] == FIRST]
    run_page(st.navigation(groups, expanded=True))


if __name__ == "__main__":
    main()
