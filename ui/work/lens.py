"""Texts read token by token, by the model before and after the edit, and what the colours mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING

from detox_engine.plans.edit import EditPlan
from ui.session.kept import Kept
from ui.session.view import Fitted
from ui.show.tinted import Lit, Measure, light
from ui.work.tasks import Task, Tell

if TYPE_CHECKING:
    from torch import Tensor

    from detox_engine.edit.low_rank import LowRankEdit
    from detox_engine.errors import Progress
    from detox_engine.forward.sinks import Sinks
    from detox_engine.model.load import OpenModel
    from detox_engine.reading.lens import TokenScore
    from detox_engine.reading.token_lens import ProjectionScale, TokenProjections
    from detox_engine.study.study import Study
    from detox_engine.workbench import Workbench

    States = list[list[Tensor]]
    """`[sides][layers]` of `[tokens, hidden]`."""

TOP = 5
MOST_PREDICTED = 256
"""Tokens of a text after which it is read what comes next; more of them would take longer than all else."""
SCALES = Kept(8)
"""Where colours end, by study and method."""


@dataclass(frozen=True)
class AskedOfTexts:
    """Which texts, read by which model under which edit; without an edit only before."""

    fitted: Fitted
    edit: EditPlan | None
    texts: tuple[str, ...]
    method: str
    """The method whose directions colour them."""


@dataclass(frozen=True, eq=False)
class Looked:
    """One text, token by token."""

    projections: TokenProjections
    next: tuple[tuple[tuple[tuple[TokenScore, ...], ...], ...], ...] = ()
    """`[sides][layers][tokens]` the most probable next tokens there, before the edit and, where there is one, after;
    as many tokens as were read, and empty until they are."""


@dataclass(frozen=True, eq=False)
class Found:
    texts: tuple[Looked, ...]
    scale: ProjectionScale

    def light(self, measure: Measure) -> list[list[Lit]]:
        """Every text in its states, coloured by `measure`."""
        return [light(looked.projections, looked.next, self.scale, measure) for looked in self.texts]

    @property
    def complete(self) -> bool:
        """Whether it has been read, too, what comes next at each token."""
        return all(looked.next for looked in self.texts)

    def words(self) -> Iterator[str]:
        """Every word that the page may show."""
        for looked in self.texts:
            yield from (*looked.projections.text.tokens, "".join(looked.projections.text.pieces))
            yield from (score.token for side in looked.next for layer in side for scores in layer for score in scores)


def answer(bench: Workbench, study: Study, asked: AskedOfTexts, progress: Progress, tell: Tell) -> Found:
    """Read the texts; their colours are told of as soon as they are there, before what comes next at each token."""
    from detox_engine.reading.token_lens import find_scale

    kept = study.kept_of(asked.method)
    bases = {layer: subspace.basis[:kept] for layer, subspace in enumerate(study.of(asked.method))}
    edit = None if asked.edit is None else bench.edit(study, asked.edit)
    looked: list[Looked] = []
    states: list[States] = []
    for text in asked.texts:
        progress("Reading the text", len(looked), len(asked.texts))
        projections, passed = _project(bench.model, text, bases, edit, study.sinks)
        looked.append(Looked(projections))
        states.append(passed)
    scale = SCALES.find_or_make(
        (asked.fitted, asked.method),
        lambda: find_scale(bench.model, study.pairs, bases, progress=progress, sinks=study.sinks),
    )
    tell(Found(tuple(looked), scale))
    return Found(_read_next(bench.model, looked, states, progress), scale)


def _project(
    model: OpenModel, text: str, bases: Mapping[int, Tensor], edit: LowRankEdit | None, sinks: Sinks | None
) -> tuple[TokenProjections, States]:
    from detox_engine.reading.token_lens import project_text

    passed: dict[tuple[bool, int], Tensor] = {}

    def keep(after: bool, layer: int, states: Tensor) -> None:
        passed[after, layer] = states[:MOST_PREDICTED].clone()

    found = project_text(model, text, bases, edit, keep, sinks)
    sides = (False,) if edit is None else (False, True)
    return found, [[passed[after, layer] for layer in found.layers] for after in sides]


def _read_next(
    model: OpenModel, looked: Sequence[Looked], states: Sequence[States], progress: Progress
) -> tuple[Looked, ...]:
    """What was read, with what comes next at each token."""
    from detox_engine.reading.lens import read_predictions

    total, done = sum(len(layers) for sides in states for layers in sides), count()

    def read(found: Tensor) -> tuple[tuple[TokenScore, ...], ...]:
        progress("Reading what comes next", next(done), total)
        return read_predictions(model, found, TOP)

    return tuple(
        replace(one, next=tuple(tuple(read(found) for found in layers) for layers in sides))
        for one, sides in zip(looked, states, strict=True)
    )


LENS = Task("token lens", answer, keep=24, words=Found.words)
