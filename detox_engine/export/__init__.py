"""The way out: an edit as files that others load, with the proof of what they are."""
