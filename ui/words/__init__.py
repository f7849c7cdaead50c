"""Words and numbers for people; no Streamlit."""
