"""Where a model, pairs and neutral text come from."""

from dataclasses import dataclass
from typing import Literal

from detox_engine.errors import InputError
from detox_engine.plans.option import option

BUNDLED = "bundled"


@dataclass(frozen=True)
class ModelSpec:
    """Which causal language model, and where it runs."""

    name: str = option(BUNDLED, "The bundled model, a Hugging Face Hub id, or a folder that holds a model.")
    revision: str | None = option(None, "Branch, tag or commit of the model on the Hub.")
    device: str = option("auto", "Where the model runs: auto, cpu, cuda, cuda:1, mps.")
    dtype: str = option("auto", "Number format of the weights: auto, float32, bfloat16, float16.")


@dataclass(frozen=True)
class PairSpec:
    """Which pairs of toxic and civil texts, and how many of them."""

    source: str = option(BUNDLED, "The bundled pairs, a JSONL, CSV or Parquet file, or a Hub data set.")
    toxic: str | None = option(None, "Column that holds the toxic text, where it is not recognised by itself.")
    civil: str | None = option(None, "Column that holds the civil text, where it is not recognised by itself.")
    prompt: str | None = option(None, "Column that holds the prompt that both texts continue, if there is one.")
    subset: str | None = option(None, "Configuration of a Hub data set.")
    split: str = option("train", "Split of a Hub data set.")
    revision: str | None = option(None, "Branch, tag or commit of a Hub data set.")
    limit: int | None = option(None, "Draw at most this many pairs, as pairs, at random.")
    seed: int = option(0, "Seed of that draw.")

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 2:
            raise InputError(f"A fit needs at least two pairs; the limit is {self.limit}: raise it to 2 or more.")


Layout = Literal["auto", "lines", "text"]


@dataclass(frozen=True)
class TextSpec:
    """Which neutral text, and how it is cut into what the model reads at once."""

    source: str = option(BUNDLED, "Neutral text: the bundled sentences, a file, or a Hub data set.")
    subset: str | None = option(None, "Configuration of a Hub data set of neutral text.")
    split: str = option("test", "Split of a Hub data set of neutral text.")
    column: str = option("text", "Column of a table that holds the neutral text.")
    layout: Layout = option(
        "auto",
        "Read neutral text line by line, or as one running text through a sliding window; auto takes lines from "
        "files and running text from Hub data sets.",
    )
    window: int = option(1024, "Longest window over running text in tokens; never more than the model's context.")
    stride: int = option(512, "Tokens by which that window moves on; half the window where that is less.")
    limit: int | None = option(None, "Take only the first lines of neutral text, this many.")

    def __post_init__(self) -> None:
        if self.layout not in ("auto", "lines", "text"):
            raise InputError(f"Neutral text is read as auto, lines or text, not “{self.layout}”.")
        if self.window < 2 or self.stride < 1:
            raise InputError(
                f"A window needs 2 tokens or more and a stride of 1 or more, not {self.window} and {self.stride}."
            )
        if self.limit is not None and self.limit < 1:
            raise InputError(f"Take 1 line of neutral text or more, not {self.limit}.")
