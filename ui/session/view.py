"""What a session looks at, as one frozen value: everything that a shared link restores.

A part of a view is named by its path, such as `edit.rank` or `compare.sampling.seed`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from detox_engine.plans.edit import EditPlan
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.map import Frame, MapPlan
from detox_engine.plans.measure import SamplingPlan
from detox_engine.plans.sources import ModelSpec

if TYPE_CHECKING:
    from detox_engine.study.study import Study

Place = tuple[int, int]
"""A direction: its layer, and its number in the layer from 0."""


@dataclass(frozen=True)
class DirectionsPicks:
    """How the Directions page reads tokens, and what it keeps in sight."""

    measure: Literal["product", "cosine"] = "product"
    through_norm: bool = False
    show_all: bool = False
    pins: tuple[Place, ...] = ()
    """In the order they were pinned."""


@dataclass(frozen=True)
class MapPicks:
    """How the Map lays texts out, and what it draws of them."""

    layout: Literal["pca", "umap", "directions"] = "pca"
    frame: Frame = MapPlan.frame
    neighbours: int = MapPlan.neighbours
    spread: float = MapPlan.spread
    seed: int = MapPlan.seed
    states: tuple[Literal["before", "after", "on paper"], ...] = ("before", "after")
    lines: Literal["none", "pairs", "moves"] = "none"
    together: bool = False
    play: bool = False


@dataclass(frozen=True)
class LensPicks:
    """The text in the Token lens, and what colours it; the direction and the layer are the view's."""

    kind: Literal["pair", "prompt", "own"] = "pair"
    pair: int = 1
    """Number of the pair, from 1."""
    prompts: Literal["", "hostile", "plain", "everyday"] = ""
    """A set of bundled prompts; empty stands for the first that suits the model."""
    prompt: int = 1
    """Number of the prompt in its set, from 1."""
    own: str = ""
    second: str = ""
    measure: Literal["direction", "length"] = "direction"
    rank: int | None = None
    """Directions that the length is taken on; None stands for the study's suggestion."""


@dataclass(frozen=True)
class ComparePicks:
    """What Compare lets the model continue, and how."""

    prompts: Literal["", "hostile", "plain", "everyday", "own"] = ""
    """A set of bundled prompts or a person's own; empty stands for the first set that suits the model."""
    count: int | None = None
    """How many of a bundled set are drawn; None stands for as many as at first."""
    draw: int = 0
    """Seed of that draw."""
    own: str = ""
    """A person's own prompts, one a line."""
    sampling: SamplingPlan = SamplingPlan()


@dataclass(frozen=True)
class MeasurePicks:
    """What a page that scores edits keeps in the view."""

    sampling: SamplingPlan = SamplingPlan()


@dataclass(frozen=True)
class View:
    """Everything that a shared link restores."""

    model: ModelSpec = ModelSpec()
    fit: FitPlan = FitPlan()
    edit: EditPlan | None = None
    """None until a study has suggested one."""
    layer: int | None = None
    """The layer that was picked, on whatever page; None until then."""
    direction: int | None = None
    """The direction that was picked, from 0; None until then."""
    scale: Literal["shares", "cumulative", "values"] = "shares"
    """What the Spectrum shows."""
    directions: DirectionsPicks = DirectionsPicks()
    map: MapPicks = MapPicks()
    lens: LensPicks = LensPicks()
    compare: ComparePicks = ComparePicks()
    sweep: MeasurePicks = MeasurePicks()
    evaluate: MeasurePicks = MeasurePicks()

    @property
    def study_key(self) -> StudyKey:
        return StudyKey(self.model, self.fit)

    def __getitem__(self, path: str) -> Any:
        part: Any = self
        for name in path.split("."):
            # Before a study has suggested an edit, its parts are those of the plain plan.
            part = EditPlan() if part is self and name == "edit" and self.edit is None else getattr(part, name)
        return part

    def put(self, path: str, value: Any) -> View:
        """This view with `value` at `path`.

        Raises:
            InputError: the part cannot be so.
        """
        whole, _, name = path.rpartition(".")
        return self.put(whole, replace(self[whole], **{name: value})) if whole else replace(self, **{name: value})

    def move_to(self, key: StudyKey) -> View:
        """The view of another study; what was picked of this one's layers, directions and pairs is let go."""
        moved = replace(self, model=key.model, fit=key.fit, edit=None, layer=None, direction=None)
        lens = replace(self.lens, pair=1, rank=None)
        return replace(moved, lens=lens, directions=replace(self.directions, pins=()))

    def fit_to(self, study: Study) -> View:
        """This view within what `study` has; its suggested edit stands in for what is missing or outside."""
        deepest = None if self.layer is None else min(self.layer, study.layers - 1)
        last = None if self.direction is None else min(self.direction, study.kept - 1)
        pins = tuple(
            (layer, direction)
            for layer, direction in self.directions.pins
            if layer < study.layers and direction < study.subspaces[layer].kept
        )
        rank = None if self.lens.rank is None else min(self.lens.rank, study.kept)
        lens = replace(self.lens, pair=min(self.lens.pair, len(study.pairs)), rank=rank)
        directions = replace(self.directions, pins=pins)
        edit = fitting_edit(self.edit, study)
        return replace(self, edit=edit, layer=deepest, direction=last, lens=lens, directions=directions)


def fitting_edit(edit: EditPlan | None, study: Study) -> EditPlan:
    """`edit` within what `study` has: the study's suggestion stands in for what is missing or outside."""
    if edit is None:
        return EditPlan(study.suggested_layers, study.suggested_rank)
    layers = tuple(layer for layer in edit.layers if layer < study.layers) or study.suggested_layers
    rank = min(edit.rank, study.kept)
    switched_off = frozenset(
        (layer, direction)
        for layer, direction in edit.switched_off
        if layer < study.layers and direction < study.subspaces[layer].kept
    )
    return replace(edit, layers=layers, rank=rank, switched_off=switched_off)


@dataclass(frozen=True)
class StudyKey:
    """What a study answers: this model, fitted by this plan."""

    model: ModelSpec = ModelSpec()
    fit: FitPlan = FitPlan()
