"""The essentials of the bundled model's card, read from the card itself, so that the page and the card agree."""

from functools import cache

from detox_engine.data.bundled import DEMO
from ui.words.rude_words import INSULTS, learn_words, list_words

CARD = DEMO / "model" / "README.md"


@cache
def read_essentials() -> tuple[str, str]:
    """Two parts of the card as Markdown: what the model is, and the figures that its check measured."""
    card = CARD.read_text(encoding="utf-8")
    introduction = card.partition("\n# ")[2].partition("\n")[2].partition("\n## ")[0].strip()
    figures = card.partition("<!-- figures -->")[2].partition("<!-- end of figures -->")[0].strip()
    # The card names no other rude words than these, so a first page need not wait until the scorer has rated its words.
    learn_words({word: word in INSULTS for word in list_words(introduction)})
    return introduction, figures
