"""The dashboard: page configuration and navigation, nothing else."""

import streamlit as st

from ui import frame

st.set_page_config("DeTox Explorer", frame.ICON, "wide", menu_items={"About": frame.ABOUT})
page = st.navigation(
    {
        "Find": [
            st.Page("pages/find/model_and_pairs.py", title="Model & pairs", icon=":material/dataset:", default=True),
            st.Page("pages/find/spectrum.py", title="Spectrum", icon=":material/bar_chart:"),
            st.Page("pages/find/directions.py", title="Directions", icon=":material/explore:"),
            st.Page("pages/find/map.py", title="Map", icon=":material/scatter_plot:"),
            st.Page("pages/find/token_lens.py", title="Token lens", icon=":material/center_focus_strong:"),
        ],
        "Edit": [
            st.Page("pages/edit/compare.py", title="Compare", icon=":material/compare_arrows:"),
            st.Page("pages/edit/trade_offs.py", title="Trade-offs", icon=":material/balance:"),
            st.Page("pages/edit/evaluate.py", title="Evaluate", icon=":material/fact_check:"),
        ],
    }
)
frame.run_page(page)
