"""Results as pictures and HTML."""
