"""What edits are measured with: an evaluation of one, a sweep of many."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from detox_engine.errors import InputError
from detox_engine.plans.choice import CHOICES, Choice, choice_of
from detox_engine.plans.edit import SUGGESTION, EditPlan, Sites
from detox_engine.plans.layers import LAYERS, MOST_LAYERS, format_layers, parse_layers
from detox_engine.plans.option import numbers, option, sentence, shortest
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.plans.sources import BUNDLED, TextSpec

DEFAULT_SCORERS = tuple(map(Choice, ("profanity", "perplexity", "drift", "fluency", "distinct", "suppression")))

ControlKind = Literal["plain", "matched"]
ControlChoice = Literal["plain", "matched", "both"]
RANDOM = {"plain": "random subspaces", "matched": "random subspaces matched in KL"}
"""What an edit is held against, in words: as they are drawn, or off the model's massive dimensions and with the
strength that moves predictions on neutral text as far as the edit does."""


MOST_CONTROLS, MOST_RESAMPLES = 100, 100_000
"""What a plan takes at most: more tells nothing more, and takes all memory."""


@dataclass(frozen=True)
class EvaluationPlan:
    """What an edit is measured with; before, after and control share all of it."""

    scorers: tuple[Choice, ...] = option(
        DEFAULT_SCORERS,
        "Scorers to run, by name, with commas between them.",
        "--scorers",
        link="scorers",
        form=CHOICES,
    )
    """A name alone is a choice with the options that are usual."""
    prompts: str = option(
        BUNDLED,
        "Prompts to continue: the bundled ones, a file with one a line, JSONL, or a Hub data set.",
        "--prompts",
        link="prompts",
        may_be_file=True,
    )
    limit_prompts: int | None = option(
        None, "Take only the first prompts, this many.", "--limit-prompts", link="limit_prompts", low=1, step=50
    )
    sampling: SamplingPlan = option(SamplingPlan(), "How continuations are written.")
    neutral: TextSpec = option(TextSpec(), "Neutral text to read.")
    control: ControlChoice = option(
        "both",
        "What an edit is held against: plain random subspaces, such off the model's massive dimensions whose strength "
        "moves neutral text as far as the edit does (matched in KL), or both.",
        "--control",
        link="control",
        words={"plain": "Random", "matched": "Random, matched in KL", "both": "Both"},
    )
    controls: int = option(
        3,
        "Random subspaces of the same rank on the same layers, drawn for each kind of control.",
        "--controls",
        link="controls",
        low=1,
        high=20,
        step=1,
    )
    seed: int = option(
        0, "Seed of the random subspaces and of the intervals.", "--control-seed", link="control_seed", low=0, step=1
    )
    resamples: int = option(
        2000, "Resamples behind each 95 % interval.", "--resamples", link="resamples", low=100, high=20_000, step=500
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "scorers", tuple(map(choice_of, self.scorers)))
        if self.controls < 1:
            raise InputError(
                f"An effect is shown beside its control: draw 1 random subspace or more, not {self.controls}."
            )
        if self.control not in get_args(ControlChoice):
            raise InputError(f"A control is plain, matched or both, not “{self.control}”.")
        if self.controls > MOST_CONTROLS:
            raise InputError(f"Draw {MOST_CONTROLS} random subspaces of each kind at most, not {self.controls:,}.")
        if self.resamples > MOST_RESAMPLES:
            raise InputError(f"An interval takes {MOST_RESAMPLES:,} resamples at most, not {self.resamples:,}.")
        if self.resamples < 100:
            raise InputError(f"A 95 % interval needs 100 resamples or more, not {self.resamples}.")
        if self.limit_prompts is not None and self.limit_prompts < 1:
            raise InputError(f"Take 1 prompt or more, not {self.limit_prompts}.")

    @property
    def kinds(self) -> tuple[ControlKind, ...]:
        """The kinds of control, in the order in which they are measured and shown."""
        return ("plain", "matched") if self.control == "both" else (self.control,)

    def with_options(self, options: Mapping[str, Any]) -> EvaluationPlan:
        """This plan, the options of its scorers out of those of every scorer, by name."""
        return replace(self, scorers=tuple(choice.among(options) for choice in self.scorers))


SWEEP_EVALUATION = EvaluationPlan(
    scorers=("profanity", "perplexity"),
    limit_prompts=100,
    sampling=SamplingPlan(max_new_tokens=20),
    neutral=TextSpec(limit=100),
    control="plain",
    controls=1,
)
"""What each setting of a sweep is measured with, unless a person asks for more."""


@dataclass(frozen=True)
class SweepPlan:
    """A grid of edits: ranks × first layers × last layers × strengths, or ranks × strengths of the same layers."""

    ranks: tuple[int, ...] = option(
        (1, 2, 4, 8),
        "Ranks to try, such as 1,2,4,8.",
        "--ranks",
        link="ranks",
        form=numbers(int, "ranks"),
        usual="1,2,4,8, as far as they were kept",
    )
    starts: tuple[int, ...] | None = option(
        None, "First layers to try, such as 0-5 or all.", "--starts", link="starts", form=LAYERS, usual="all"
    )
    ends: tuple[int, ...] | None = option(
        None,
        "Last layers to try, such as 5,7; the model's last layer alone if left out.",
        "--ends",
        link="ends",
        form=LAYERS,
        usual="the last layer",
    )
    strengths: tuple[float, ...] = option(
        (1.0,),
        "Strengths to try, such as 0.5,1.",
        "--strengths",
        link="strengths",
        offers=(0.25, 0.5, 0.75, 1.0, 1.25, 1.5),
        form=numbers(float, "strengths"),
    )
    evaluation: EvaluationPlan = option(SWEEP_EVALUATION, "What each setting is measured with.")
    method: str = option(EditPlan.method, sentence(EditPlan, "method"), "--method", usual=SUGGESTION)
    sites: Sites = option(EditPlan.sites, sentence(EditPlan, "sites"), "--sites", usual=SUGGESTION)
    also: str = option(
        "", "One more setting, as layers:rank:strength, such as 0-7:2:1.5: the edit that you have in mind.", "--also"
    )
    """Empty for none."""
    layers: tuple[int, ...] | None = option(
        None,
        "Layers of every setting, such as 2,5-7, instead of first and last ones.",
        "--layers",
        form=LAYERS,
        usual="ranges from first to last layers",
    )

    def __post_init__(self) -> None:
        if not (self.ranks and self.strengths) or () in (self.starts, self.ends, self.layers):
            raise InputError("A sweep needs at least one rank, one first layer, one last layer and one strength.")
        if min(self.ranks) < 1:
            raise InputError(f"The rank must be 1 or more, not {min(self.ranks)}.")
        wrong = [strength for strength in self.strengths if not math.isfinite(strength)]
        if wrong:
            raise InputError(f"The strength must be a finite number, not {wrong[0]}; 1 is the paper's edit.")
        if self.also:
            read_setting(self.also)


def write_setting(edit: EditPlan) -> str:
    """Layers, rank and strength of an edit as one word: `0-7:2:1.5`."""
    return f"{format_layers(edit.layers)}:{edit.rank}:{shortest(float(edit.strength))}"


def read_setting(text: str) -> tuple[tuple[int, ...], int, float]:
    """What `write_setting` wrote, or somebody like it.

    Raises:
        InputError: it is none.
    """
    try:
        layers, rank, strength = text.split(":")
        setting = parse_layers(layers, MOST_LAYERS), int(rank), float(strength)
        if setting[1] < 1 or not math.isfinite(setting[2]):
            raise ValueError
    except ValueError:
        raise InputError(
            f"“{text[:80]}” is no setting: write layers, rank and strength with colons between them, such as 0-7:2:1.5."
        ) from None
    return setting
