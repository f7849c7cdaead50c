"""The dashboard as Streamlit serves it: `streamlit run app.py`."""

import sys
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

from ui.frame.preload import PreloadCharts

# A script's folder comes first on Streamlit's path unless it is there already: pages/evaluate would hide the library.
sys.path.append(str(Path(__file__).parent / "pages"))
# The script stands in pages/ itself: where a folder named pages stands beside the script, Streamlit's older multipage
# handling tells a server's first visitor that the page of their link is not found.
app = st.App("pages/navigation.py", middleware=[Middleware(PreloadCharts)])
