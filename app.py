"""The dashboard: page configuration and navigation, nothing else."""

import streamlit as st

from ui.frame import frame
from ui.frame.page import run_page

st.set_page_config("DeTox Explorer", frame.ICON, "wide", menu_items={"About": frame.ABOUT})
page = st.navigation(
    {
        "Find": [
            st.Page("pages/model_and_pairs/page.py", title="Model & pairs", icon=":material/dataset:", default=True),
            st.Page("pages/spectrum/page.py", title="Spectrum", icon=":material/bar_chart:"),
            st.Page("pages/directions/page.py", title="Directions", icon=":material/explore:"),
            st.Page("pages/map/page.py", title="Map", icon=":material/scatter_plot:"),
            st.Page("pages/token_lens/page.py", title="Token lens", icon=":material/center_focus_strong:"),
        ],
        "Edit": [
            st.Page("pages/compare/page.py", title="Compare", icon=":material/compare_arrows:"),
            st.Page("pages/trade_offs/page.py", title="Trade-offs", icon=":material/balance:"),
            st.Page("pages/evaluate/page.py", title="Evaluate", icon=":material/fact_check:"),
        ],
    }
)
run_page(page)
