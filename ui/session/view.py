"""What a session looks at, as one frozen value: everything that a shared link restores.

A part of a view is named by its path, such as `edit.rank` or `compare.sampling.seed`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import TYPE_CHECKING, Any

from detox_engine.plans.choice import Choice, usual_options
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.layers import MOST_LAYERS
from detox_engine.plans.option import Form, read_whole
from detox_engine.plans.sources import ModelSpec, name_model, name_pairs
from detox_engine.study.methods import methods
from ui.session.picks import Picks, offered, pick

if TYPE_CHECKING:
    from detox_engine.study.study import Study

Place = tuple[int, int]
"""A direction: its layer, and its number in the layer from 0."""
COUNTED = Form(lambda place: str(place + 1), lambda text: read_whole(text, 1, None) - 1)
"""A place that the view counts from 0, written as people count."""
_PAGES: dict[str, type[Picks]] = {}


def hold(pages: Mapping[str, type[Picks]]) -> None:
    """Give each of `pages` its part of every view, by its folder; called before the first view is made."""
    _PAGES.update(pages)


@dataclass(frozen=True)
class View:
    """Everything that a shared link restores."""

    model: ModelSpec = ModelSpec()
    fit: FitPlan = FitPlan()
    """Its methods by their names alone."""
    method_options: Mapping[str, Any] = offered(methods)
    edit: EditPlan | None = None
    """None until a study has suggested one."""
    layer: int | None = pick(None, "layer", low=0, high=MOST_LAYERS - 1)
    """The layer that was picked, on whatever page; None until then."""
    direction: int | None = pick(None, "direction", form=COUNTED)
    """The direction that was picked, from 0; None until then."""
    pages: Mapping[str, Picks] = field(default_factory=lambda: {name: picks() for name, picks in _PAGES.items()})
    """What each page keeps of its own, by its folder."""

    @property
    def study_key(self) -> StudyKey:
        return StudyKey(self.model, self.fit.with_options(self.method_options))

    def __getitem__(self, path: str) -> Any:
        first, *names = path.split(".")
        part = self.pages[first] if first in self.pages else getattr(self, first)
        # Before a study has suggested an edit, its parts are those of the plain plan.
        return reduce(_step, names, EditPlan() if first == "edit" and part is None else part)

    def put(self, path: str, value: Any) -> View:
        """This view with `value` at `path`.

        Raises:
            InputError: the part cannot be so.
        """
        whole, _, name = path.rpartition(".")
        if whole:
            part, change = self[whole], {name: value}
            return self.put(whole, {**part, **change} if isinstance(part, Mapping) else replace(part, **change))
        return replace(self, **({"pages": {**self.pages, name: value}} if name in self.pages else {name: value}))

    def move_to(self, key: StudyKey) -> View:
        """The view of another study; what was picked of this one's layers, directions and pairs is let go."""
        pages = {name: picks.of_another_study() for name, picks in self.pages.items()}
        chosen = key.fit.methods
        own = {choice.name: choice.options for choice in chosen if choice.options is not None}
        fit = replace(key.fit, methods=tuple(Choice(choice.name) for choice in chosen))
        return View(key.model, fit, usual_options(methods()) | own, pages=pages)

    def fit_to(self, study: Study) -> View:
        """This view within what `study` has; its suggested edit stands in for what is missing or outside."""
        deepest = None if self.layer is None else min(self.layer, study.layers - 1)
        last = None if self.direction is None else min(self.direction, study.kept - 1)
        pages = {name: picks.within(study) for name, picks in self.pages.items()}
        return replace(self, edit=fitting_edit(self.edit, study), layer=deepest, direction=last, pages=pages)


def _step(part: Any, name: str) -> Any:
    return part[name] if isinstance(part, Mapping) else getattr(part, name)


def fitting_edit(edit: EditPlan | None, study: Study) -> EditPlan:
    """`edit` within what `study` has: the study's suggestion stands in for what is missing or outside."""
    if edit is None:
        return study.suggested_edit
    suggested = study.suggested_edit
    method = edit.method if edit.method in study.offered else suggested.method
    layers = tuple(layer for layer in edit.layers if layer < study.layers) or suggested.layers
    rank = min(edit.rank, study.kept_of(method))
    switched_off = frozenset(
        (layer, direction)
        for layer, direction in edit.switched_off
        if layer < study.layers and direction < study.of(method)[layer].kept
    )
    return replace(edit, layers=layers, rank=rank, switched_off=switched_off, method=method)


@dataclass(frozen=True)
class StudyKey:
    """What a study answers: this model, fitted by this plan."""

    model: ModelSpec = ModelSpec()
    fit: FitPlan = FitPlan()

    @property
    def names(self) -> tuple[str, str]:
        """What the model and the pairs are called where no sentence is around them."""
        pairs = name_pairs(self.fit.pairs, self.model.name)
        return name_model(self.model).removeprefix("the "), pairs.removeprefix("the ")


@dataclass(frozen=True)
class Fitted:
    """Which study: what it answers, and which of the fits that answer it; the first part of every question."""

    study: StudyKey
    made: str
    """Tells a study from an earlier one with the same specs."""
