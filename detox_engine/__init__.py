"""See and remove the toxic subspace of a language model (arXiv 2405.13967)."""
