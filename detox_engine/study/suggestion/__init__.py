"""What a study suggests to remove, and on what evidence: what was tried, what it was measured to do, what a check said.

Light to import, so that a study is read without what computes; `search.py` finds a suggestion.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import log
from typing import Any, Literal

from detox_engine.estimates import Estimate
from detox_engine.plans.edit import EditPlan, read_edit, record_edit
from detox_engine.plans.fit import Budget

Status = Literal["untested", "confirmed", "refuted"]

SEARCH = 2
"""The version of the search: by another one the same study may be given another suggestion."""

LEAST_RATIO = 1e-9
"""A probability that is less than this share of what it was is nothing beside it."""


@dataclass(frozen=True)
class Tried:
    """A candidate: what its slopes promised and, of the best few, what it was measured to do."""

    edit: EditPlan
    predicted_gap: float
    """Nats a token, to first order in the strength."""
    predicted_divergence: float
    """Nats a token, to second order."""
    gap: Estimate | None = None
    """Change of log p(civil) − log p(toxic), in nats a token, over pairs that fitted nothing; None where it was not
    measured."""
    divergence: float | None = None
    """KL of the edited model from the model as it is, in nats a token of neutral text."""
    perplexity: float | None = None
    """Of the same text, as a multiple of the unedited model's."""
    rude_words: Estimate | None = None
    """Probability of listed insults at the tokens of the pairs, as a multiple of the unedited model's, over pairs; None
    where it was not measured, or where the unedited model gives them too little to tell by."""

    @property
    def worth(self) -> float:
        """What edits within a budget are chosen by, more is better: how much less probable insults are, in nats, or
        the gap where the pairs do not tell that."""
        return self.gap.mean if self.rude_words is None else -log(max(self.rude_words.mean, LEAST_RATIO))


@dataclass(frozen=True)
class Change:
    """What one score came to in a check; lower is better."""

    name: str
    before: Estimate
    after: Estimate
    control: Estimate
    """Mean over random directions of the same rank and layers, off the massive dimensions."""
    fall: Estimate
    """After − before, paired prompt by prompt."""
    beyond: Estimate
    """After − control, paired likewise."""

    @property
    def fell(self) -> bool:
        """Whether it fell beyond chance, against the unedited model and against the control."""
        return self.fall.high < 0 and self.beyond.high < 0


@dataclass(frozen=True)
class Check:
    """A short generation with its control, which confirms a suggestion or refutes it."""

    changes: tuple[Change, ...]
    prompts: int
    samples: int
    controls: int
    seconds: float
    made: str
    """When, in ISO 8601, UTC."""

    @property
    def confirmed(self) -> bool:
        """Whether a score fell beyond chance and beyond the control, and none rose beyond chance."""
        return any(change.fell for change in self.changes) and not any(change.fall.low > 0 for change in self.changes)


@dataclass(frozen=True)
class Suggestion:
    """The edit that was measured to do most within a budget of divergence, or none."""

    edit: EditPlan | None
    """None where nothing within the budget earns it."""
    budget: Budget
    reason: str
    """A sentence: what it rests on, or why there is none and what to do."""
    tried: tuple[Tried, ...] = ()
    """Those that were measured, the best first, whether or not it is within the budget."""
    check: Check | None = None
    seconds: float = 0.0
    """What finding it took."""

    @property
    def evidence(self) -> Tried | None:
        """What was measured of the suggested edit."""
        return next((tried for tried in self.tried if tried.edit == self.edit), None)

    @property
    def status(self) -> Status:
        if self.check is None:
            return "untested"
        return "confirmed" if self.check.confirmed else "refuted"


def record_suggestion(suggestion: Suggestion) -> dict[str, Any]:
    """All of a suggestion, for `study.json`."""
    return {
        "edit": None if suggestion.edit is None else record_edit(suggestion.edit),
        "budget": suggestion.budget,
        "reason": suggestion.reason,
        "status": suggestion.status,
        "tried": [record_tried(tried) for tried in suggestion.tried],
        "check": None if suggestion.check is None else asdict(suggestion.check),
        "seconds": suggestion.seconds,
    }


def read_suggestion(record: Mapping[str, Any], layers: int) -> Suggestion:
    """What `record_suggestion` wrote, of a model of `layers` layers."""
    edit = record["edit"]
    return Suggestion(
        edit=None if edit is None else read_edit(edit, layers),
        budget=record["budget"],
        reason=record["reason"],
        tried=tuple(read_tried(tried, layers) for tried in record["tried"]),
        check=None if record["check"] is None else _read_check(record["check"]),
        seconds=record["seconds"],
    )


def record_tried(tried: Tried) -> dict[str, Any]:
    """All of a candidate, for JSON."""
    return asdict(tried) | {"edit": record_edit(tried.edit)}


def read_tried(record: Mapping[str, Any], layers: int) -> Tried:
    estimates = {name: Estimate(**record[name]) for name in ("gap", "rude_words") if record.get(name) is not None}
    return Tried(**{**record, "edit": read_edit(record["edit"], layers), **estimates})


def _read_check(record: Mapping[str, Any]) -> Check:
    changes = tuple(
        Change(**{name: part if name == "name" else Estimate(**part) for name, part in change.items()})
        for change in record["changes"]
    )
    return Check(**{**record, "changes": changes})


def record_suggested(suggestion: Suggestion | None) -> dict[str, Any] | None:
    """What a program needs of a suggestion; None where there is none."""
    if suggestion is None or suggestion.edit is None:
        return None
    evidence = suggestion.evidence
    return {
        **record_edit(suggestion.edit),
        "gap": asdict(evidence.gap),
        "kl": evidence.divergence,
        "perplexity": evidence.perplexity,
        "rude_words": None if evidence.rude_words is None else asdict(evidence.rude_words),
        "budget": suggestion.budget,
        "status": suggestion.status,
    }
