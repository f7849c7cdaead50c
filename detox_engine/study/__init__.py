"""From pairs to directions, and what stays on disk."""
