"""Work that outlasts a rerun."""
