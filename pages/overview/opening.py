"""What the page opens with: worked out once for a study and what it suggests, and kept on disk where the study is.

Light to import and to read: it is drawn before the model's library is there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from detox_engine.disk import write_json, write_whole
from detox_engine.estimates import Estimate
from detox_engine.plans.edit import EditPlan
from detox_engine.study.suggestion import Change
from ui.session import kept_study
from ui.session.folders import folder_of
from ui.session.kept import Kept
from ui.session.view import Fitted
from ui.words import rude_words

if TYPE_CHECKING:
    from detox_engine.forward.compare import Comparison, Continuation
    from detox_engine.reading.causal import CausalReading
    from detox_engine.study.study import Study

R = TypeVar("R")
FORMAT = 2


@dataclass(frozen=True)
class Asked:
    """Which study, and the edit that it begins with."""

    fitted: Fitted
    edit: EditPlan


@dataclass(frozen=True)
class Side:
    """What the model wrote on one side: a `Continuation`, light."""

    text: str
    tokens: tuple[str, ...]
    probabilities: tuple[float, ...]
    other_probabilities: tuple[float, ...]


@dataclass(frozen=True)
class Written:
    """One prompt gone on with before and after an edit: a `Comparison`, light."""

    prompt: str
    before: Side
    after: Side
    cut: int
    first_divergence: int | None
    toxicity_before: float
    """NaN where the continuation is empty; likewise after."""
    toxicity_after: float
    sample: int = 0

    @property
    def texts(self) -> tuple[str, str, str]:
        return self.prompt, self.before.text, self.after.text


@dataclass(frozen=True)
class Places:
    """Where a few texts lie along a direction, in the state's own units, and how well a probe tells the sides."""

    toxic: tuple[float, ...]
    civil: tuple[float, ...]
    probe: Estimate | None
    """Accuracy of a linear probe of these very pairs, in all dimensions; None where they are too few for one."""


@dataclass(frozen=True)
class Scene:
    """The edited layer at which the edit is looked at, and where a few of its texts lie before any edit."""

    layer: int
    pairs: tuple[int, ...]
    """Indices of the pairs that are drawn."""
    before: Places
    probe: Estimate | None
    """Accuracy of a probe of all pairs, by which the layer was chosen."""


@dataclass(frozen=True)
class Words:
    """What a direction makes the model say: a `CausalReading`, light, its tokens beyond chance alone."""

    toxic: tuple[str, ...]
    civil: tuple[str, ...]
    is_readable: bool
    prompts: int
    tokens: int


@dataclass(frozen=True)
class Opening:
    """All that is drawn on a first visit beyond what the study holds; None is what is not worked out yet."""

    written: Written | None = None
    """The starter whose continuation the suggested edit makes milder than that of any other."""
    starters: int = 0
    """Of how many."""
    scene: Scene | None = None
    after: Places | None = None
    """Where the same texts lie under the suggested edit."""
    words: Words | None = None
    cost: Change | None = None
    """What the suggested edit does to the perplexity of neutral text; see `measure`."""

    def list_texts(self) -> Iterator[str]:
        """Texts in which words may have to be blurred."""
        if self.written is not None:
            yield from self.written.texts
        if self.words is not None:
            yield from (*self.words.toxic, *self.words.civil)


OPENINGS: Kept[Asked, Opening] = Kept(8)
"""Those that were read from disk."""


def lighten_comparison(found: Comparison) -> Written:
    def side(one: Continuation) -> Side:
        return Side(one.text, one.tokens, one.probabilities, one.other_probabilities)

    return Written(
        found.prompt,
        side(found.before),
        side(found.after),
        found.cut,
        found.first_divergence,
        found.toxicity_before,
        found.toxicity_after,
    )


def lighten_reading(found: CausalReading) -> Words:
    # Two tokens can begin the same word.
    both = found.toxic_pole, found.civil_pole
    poles = (tuple(dict.fromkeys(end.word for end in pole if end.is_read)) for pole in both)
    return Words(*poles, found.is_readable, found.prompts, found.tokens)


def find_file(asked: Asked, study: Study) -> Path:
    """Where the opening of a kept study lies: the same for the same weights, fit and suggestion."""
    return folder_of("overview", FORMAT, study.model.weights_hash, study.made, asked.edit) / "opening.json"


def keep_opening(asked: Asked, study: Study, opening: Opening, others: Iterator[str]) -> None:
    """Keep an opening for the next start, where its study is kept; with which of its words, and `others`', are rude."""
    if not kept_study.is_to_be_kept(asked.fitted.study):
        return
    keep_record(find_file(asked, study), asdict(opening), [*opening.list_texts(), *others])


def find_opening(asked: Asked, study: Study) -> Opening | None:
    """The opening of a kept study, where there is one that is whole."""
    if not kept_study.is_to_be_kept(asked.fitted.study):
        return None
    found = OPENINGS.find(asked) or read_record(find_file(asked, study), _read)
    return found and OPENINGS.keep(asked, found)


def keep_record(file: Path, record: Mapping[str, Any], texts: Sequence[str]) -> None:
    """Keep what was worked out, with which words of its `texts` are rude."""
    with suppress(OSError):  # a disk that takes none only costs the next start its seconds
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, write_json({**record, "rude_words": rude_words.rate_words(texts)}))


def read_record(file: Path, read: Callable[[Mapping[str, Any]], R]) -> R | None:
    """What `read` makes of a kept record, whose rude words are known from then on; None where none is whole."""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        rude_words.learn_words({str(word): bool(rude) for word, rude in record["rude_words"].items()})
        return read(record)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _read(record: Mapping[str, Any]) -> Opening:
    """What `asdict` made of an opening, and JSON of that; fails with the errors of whatever it is instead."""
    written, scene, words, cost = (record[name] for name in ("written", "scene", "words", "cost"))
    return Opening(
        written and read_written(written),
        int(record["starters"]),
        scene and _read_scene(scene),
        record["after"] and read_places(record["after"]),
        words and replace(Words(**words), toxic=tuple(words["toxic"]), civil=tuple(words["civil"])),
        cost and read_change(cost),
    )


CHANGE = ("before", "after", "control", "fall", "beyond")


def read_change(record: Mapping[str, Any]) -> Change:
    return Change(record["name"], *(Estimate(**record[part]) for part in CHANGE))


def read_written(record: Mapping[str, Any]) -> Written:
    sides = {
        name: Side(text=record[name]["text"], **{part: tuple(record[name][part]) for part in SIDE})
        for name in ("before", "after")
    }
    scores = {name: nan if record[name] is None else record[name] for name in ("toxicity_before", "toxicity_after")}
    return Written(**{**record, **sides, **scores})


SIDE = ("tokens", "probabilities", "other_probabilities")


def _read_scene(record: Mapping[str, Any]) -> Scene:
    probe = record["probe"]
    before = read_places(record["before"])
    return Scene(int(record["layer"]), tuple(record["pairs"]), before, probe and Estimate(**probe))


def read_places(record: Mapping[str, Any]) -> Places:
    probe = record["probe"]
    return Places(tuple(record["toxic"]), tuple(record["civil"]), probe and Estimate(**probe))
