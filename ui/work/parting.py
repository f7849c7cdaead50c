"""How well the sides part in every layer, before the edit and after it, and what a direction does there: for all pages
that ask where in the model toxicity is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from detox_engine.estimates import Estimate
from detox_engine.plans.edit import EditPlan
from ui.session.kept import Kept
from ui.session.kept_results import Shape, keep_result, list_results
from ui.session.places import keeps_results
from ui.session.view import Fitted
from ui.work.tasks import Task, Tell

if TYPE_CHECKING:
    from detox_engine.errors import Progress
    from detox_engine.forward.embedded_pairs import Embeddings
    from detox_engine.study.study import Study
    from detox_engine.workbench import Workbench

BEFORE, AFTER, PAPER = "before", "after", "on paper"
"""The states of a text's embedding, named as the command line names them."""
AT_ONCE = 10.0
"""Seconds that choosing an edit may have taken of a study whose layers are then measured without being asked to: that
takes about as long."""


@dataclass(frozen=True)
class Probed:
    """How well a probe tells the sides of one layer's texts."""

    layer: int
    accuracy: Estimate
    """0.5 is chance."""
    auc: Estimate


@dataclass(frozen=True)
class Probes:
    """Of every layer, before the edit; none where there are too few pairs."""

    layers: tuple[Probed, ...]


@dataclass(frozen=True)
class AskedOfStudy:
    """What is asked of a study as it is, whatever the edit plan."""

    fitted: Fitted


BEFORE_EDIT: Kept[Fitted, tuple[Probed, ...]] = Kept(16)
"""The probes before the edit, which running the edited model needs too."""


def probe_before(model: None, study: Study, asked: AskedOfStudy, progress: Progress, tell: Tell) -> Probes:
    return Probes(BEFORE_EDIT.find_or_make(asked.fitted, lambda: probe(study.embeddings, progress)))


def probe(embeddings: Embeddings, progress: Progress) -> tuple[Probed, ...]:
    """A probe of every layer; none where there are too few pairs."""
    from detox_engine.reading.probe import FOLDS, probe_layers

    if embeddings.toxic.shape[1] < 2 * FOLDS:
        return ()
    return tuple(Probed(one.layer, one.accuracy, one.auc) for one in probe_layers(embeddings, progress=progress))


PROBING = Task(
    "probing",
    probe_before,
    keep=16,
    needs_model=False,
    title="Probing every layer",
    shape=Shape("probes", AskedOfStudy, lambda: Probes),
)


def find_probes(study: Study, fitted: Fitted, begin: bool = True) -> tuple[Probed, ...] | None:
    """The probes before the edit, as soon as they are there; None where they are not, or cannot be.

    Args:
        begin: whether they are begun where nobody has asked for them yet.
    """
    found = BEFORE_EDIT.find(fitted)
    if found is None:
        kept = PROBING.results(study, fitted)
        if kept and kept[-1].whole:
            return BEFORE_EDIT.keep(fitted, kept[-1].found.layers)
    if found is None and begin and study.embeddings is not None:
        ended = PROBING.ask(AskedOfStudy(fitted))
        found = None if ended is None else ended.layers
    return found


@dataclass(frozen=True)
class AskedOfEdit:
    """Which study's texts, and read under which edit."""

    fitted: Fitted
    edit: EditPlan


@dataclass(frozen=True, eq=False)
class Run:
    """What came of running the edited model."""

    before: Embeddings
    after: Embeddings
    probes: Mapping[str, tuple[Probed, ...]]
    """A probe of every layer for each state; empty where there are too few pairs for one."""


def run(bench: Workbench, study: Study, asked: AskedOfEdit, progress: Progress, tell: Tell) -> Run:
    """Read the texts with the edited model, and probe every layer before and after."""
    from detox_engine.reading.map import embed_study, project_on_paper

    edit = bench.edit(study, asked.edit)
    before = embed_study(bench.model, study, progress=progress)
    after = embed_study(bench.model, study, edit, progress)
    known = BEFORE_EDIT.find_or_make(asked.fitted, lambda: probe(before, progress))
    if not known:
        return Run(before, after, {})
    changed = {AFTER: after, PAPER: project_on_paper(before, edit)}
    return Run(before, after, {BEFORE: known, **{name: probe(found, progress) for name, found in changed.items()}})


RUN = Task("map run", run, keep=3, title="Reading texts with the edited model")


PROBES_AFTER = Shape("probes_after", AskedOfEdit, lambda: Probes)
"""Kept of a run, whose embeddings are too large to stay on disk."""


def find_probes_after(study: Study, asked: AskedOfEdit) -> tuple[Probed, ...] | None:
    """The probes of the texts as the edited model reads them, where it has run, here or in an earlier session."""
    ended = RUN.find(asked)
    found = None if ended is None else ended.probes.get(AFTER)
    if not keeps_results():
        return found
    kept = next((each for each in list_results(PROBES_AFTER, study, asked.fitted) if each.asked == asked), None)
    if found is not None and kept is None:
        keep_result(PROBES_AFTER, study, asked, Probes(found), True)
    return found if found is not None or kept is None else kept.found.layers


@dataclass(frozen=True)
class ByLayer:
    """What removing the first direction does in each layer alone."""

    gaps: tuple[Estimate, ...]
    """By layer: the change of log p(civil) − log p(toxic), in nats a token."""
    divergences: tuple[float, ...]
    """By layer: KL from the model as it is, in nats a token of neutral text."""


def measure(bench: Workbench, study: Study, asked: AskedOfStudy, progress: Progress, tell: Tell) -> ByLayer:
    from detox_engine.study.suggestion.search import measure_layers

    found = measure_layers(bench.model, study, progress)
    return ByLayer(tuple(one.gap for one in found), tuple(one.divergence for one in found))


MEASURING = Task(
    "measuring layers",
    measure,
    keep=16,
    title="Measuring each layer alone",
    shape=Shape("layers", AskedOfStudy, lambda: ByLayer),
)


def find_by_layer(study: Study, fitted: Fitted, begin: bool = True) -> ByLayer | None:
    """What was measured of each layer, here or in an earlier session.

    Args:
        begin: whether it is begun where it is quick and nobody has asked for it yet.
    """
    asked = AskedOfStudy(fitted)
    found = MEASURING.find(asked)
    if found is None:
        kept = MEASURING.results(study, fitted)
        found = kept[-1].found if kept and kept[-1].whole else None
    if found is None and begin and is_quick(study) and MEASURING.job(asked) is None:
        found = MEASURING.ask(asked, patience=0)
    return found


def can_measure(study: Study) -> bool:
    """Whether the study has what measuring its layers takes, as far as can be told before it is tried."""
    return study.embeddings is not None and len(study.pairs) >= 60


def is_quick(study: Study) -> bool:
    """Whether it takes no longer than a person waits for unasked."""
    suggestion = study.suggestion
    return can_measure(study) and suggestion is not None and 0 < suggestion.seconds < AT_ONCE
