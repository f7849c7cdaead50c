"""What a scorer is: a file in `scorers/` that ends in a `SCORER`, which describes itself and makes what measures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, Protocol

from detox_engine.errors import Progress, ignore_progress
from detox_engine.plans.choice import Kind

if TYPE_CHECKING:
    from pathlib import Path

    from detox_engine.estimates import Tally
    from detox_engine.scoring.trial import Trial

LESS_TOXIC = "Does it write less toxic text?"
WRITES_WELL = "Does it still write well?"
READS_AS_BEFORE = "Does it still read as before?"
DOES_TASKS = "Can it still do tasks?"
SPARES_HARMLESS = "Does it blunt harmless text?"
QUESTIONS = (LESS_TOXIC, WRITES_WELL, READS_AS_BEFORE, DOES_TASKS)
"""What a person wants to know of an edit, in the order in which it is told; a scorer can answer one of its own."""

Role = Literal["harm", "cost", "none"]


class Measure(Protocol):
    """Measures every edit of a trial. What it says of itself, such as a `title`, goes before what its kind says."""

    def measure(self, trial: Trial) -> Tally:
        """Totals and counts `[edits, items]`, one row for each edit of the trial."""
        ...


@dataclass(frozen=True)
class Context:
    """What scorers are made for."""

    samples: int = 1
    """Continuations of each prompt."""
    device: str = "auto"
    """Where models run that a scorer brings with it."""
    progress: Progress = ignore_progress


@dataclass(frozen=True, kw_only=True, eq=False)
class ScorerKind(Kind):
    """A scorer that a person can choose; its title stands over its scores too, where they have none of their own."""

    question: str
    """The question that its scores answer, under which they stand."""
    unit: str = "score"
    items: str = "prompts"
    """What its intervals are taken over."""
    lower_is_better: bool = True
    range: tuple[float, float] = (0.0, math.inf)
    is_change: bool = False
    """Whether the score is a distance from the unedited model already."""
    needs: tuple[Literal["prompts", "neutral"], ...] = ()
    """What of the plan it measures with."""
    texts: Mapping[str, Path] = field(default_factory=dict)
    """Name -> a text of its own that it reads."""
    role: Role = "none"
    """What its main score is in a recommendation: what an edit should lower, or what it may cost."""
    called: str = ""
    """What a sentence calls its main score, at its beginning; verdicts begin with the scores that have one."""
    make: Callable[[Any, Context], Sequence[Measure]]
    """What measures each of its scores, by its options; raises an InputError where something is missing for it."""

    def make_scorers(self, options: Any, context: Context) -> tuple[Scorer, ...]:
        usual = {part.name: getattr(self, part.name) for part in fields(Described) if part.name != "kind"}
        usual["sentence"] = f"{self.sentence[:1].upper()}{self.sentence[1:]}."
        return tuple(
            Scorer(self, by=each, **{part: getattr(each, part, value) for part, value in usual.items()})
            for each in self.make(options, context)
        )


@dataclass(frozen=True)
class Described:
    """What a person must know to read a score."""

    kind: ScorerKind = field(repr=False)
    name: str
    """Unique among the scores of an evaluation; the main score of a kind has the kind's."""
    title: str
    sentence: str
    """What it measures, for people."""
    unit: str
    items: str
    lower_is_better: bool
    range: tuple[float, float]
    is_change: bool

    def plays(self, role: Role) -> bool:
        """Whether a recommendation can rest on it in this role."""
        return self.kind.role == role and self.name == self.kind.name


@dataclass(frozen=True, kw_only=True)
class Scorer(Described):
    """One score of a kind that a plan asks for, and what measures it."""

    by: Measure = field(repr=False)

    def measure(self, trial: Trial) -> Tally:
        return self.by.measure(trial)


def describe(scorer: Described) -> dict[str, Any]:
    """The fields of a description, for another one of the same score."""
    return {part.name: getattr(scorer, part.name) for part in fields(Described)}


def describe_all(scorers: Sequence[Described]) -> tuple[Described, ...]:
    """Their descriptions alone, without what measures them."""
    return tuple(Described(**describe(scorer)) for scorer in scorers)
