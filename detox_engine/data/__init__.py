"""Texts in: pairs, prompts and neutral text from files, the Hub and what is bundled."""
