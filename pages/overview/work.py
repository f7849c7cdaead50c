"""What the Overview works out: what it opens with, and what a prompt, a strength or another edit changes in it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING

from detox_engine.data.bundled import bundled_prompts
from detox_engine.data.texts import read_prompts
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.sampling import SamplingPlan
from pages.overview import opening as kept
from pages.overview.measuring import COST, FIRST_LOOK, measure
from pages.overview.opening import Asked, Opening, Places, Scene, Words, Written
from ui.session.view import Fitted
from ui.work.tasks import Task, Tell

if TYPE_CHECKING:
    from torch import Tensor

    from detox_engine.edit.low_rank import LowRankEdit
    from detox_engine.errors import Progress
    from detox_engine.forward.embedded_pairs import Embeddings
    from detox_engine.reading.probe import Separability
    from detox_engine.study.study import Study
    from detox_engine.study.suggestion import Change
    from detox_engine.workbench import Workbench

STARTERS = 12
"""Bundled prompts that are offered, and of which the first one shown is chosen."""
SAMPLING = SamplingPlan()
"""As on Compare, so that the same prompt goes on in the same way there."""
PARTS = (5, 10, SAMPLING.max_new_tokens)
"""Tokens after which more of a text is shown: its draws depend on their place alone, so each part begins like the
whole."""
AT_ONCE = 0.15
"""Seconds for the first part below which the rest is written in one go."""
PAIRS_DRAWN = 20
"""Pairs that are read again at each move of the strength: a quarter of a second of the bundled model on two cores."""
PAIRS_PROBED = 200
"""Pairs that are read where a study kept no embeddings."""


@dataclass(frozen=True)
class Prompted:
    """A prompt, and the edit under which the model goes on with it."""

    fitted: Fitted
    edit: EditPlan
    prompt: str


@dataclass(frozen=True)
class Reread:
    """Pairs of texts that the edited model reads again, and at which layer they are looked at."""

    fitted: Fitted
    edit: EditPlan
    method: str
    """Whose first direction they are laid along, whatever the edit removes."""
    layer: int
    pairs: tuple[int, ...]


def list_starters(model: str) -> tuple[str, ...]:
    """The first of the bundled prompts that invite a rude word."""
    file = bundled_prompts(model)
    return tuple(dict.fromkeys(read_prompts(str(file), file)))[:STARTERS]


def open_up(bench: Workbench, study: Study, asked: Asked, progress: Progress, tell: Tell) -> Opening:
    """All that a first visit sees, told part by part in the order in which it fills the page."""
    starters = list_starters(asked.fitted.study.model.name)
    found = Opening()

    def grow(**parts) -> None:
        nonlocal found
        found = replace(found, **parts)
        tell(found)

    grow(written=pick_starter(bench, study, asked.edit, starters, progress), starters=len(starters))
    scene = find_scene(bench, study, asked.edit, progress)
    grow(scene=scene)
    after = Reread(asked.fitted, asked.edit, asked.edit.method, scene.layer, scene.pairs)
    grow(after=read_again(bench, study, after, progress, tell))
    grow(words=read_words(bench, study, asked.edit.method, scene.layer, progress))
    grow(cost=measure(bench.model, study, asked.edit, COST, progress)[0])
    kept.keep_opening(asked, study, found, starters)
    return found


def pick_starter(
    bench: Workbench, study: Study, edit: EditPlan, starters: Sequence[str], progress: Progress
) -> Written:
    """The starter whose continuation becomes milder by most, gone on with."""
    found = bench.compare(study, edit, starters, SAMPLING, progress)

    def falls(place: int) -> float:
        by = found[place].toxicity_before - found[place].toxicity_after
        return by if by == by else -1.0

    return kept.lighten_comparison(found[max(range(len(found)), key=falls)])


def find_scene(bench: Workbench, study: Study, edit: EditPlan, progress: Progress) -> Scene:
    """A layer, and a few of its texts along its first direction: of the later half of those that are edited, where most
    of what is removed is gone already, the one at which a linear probe tells the sides best."""
    from detox_engine.reading.probe import measure_parting

    embeddings, indices = _find_embeddings(bench, study, progress)
    probes = _probe(embeddings, progress)
    subspaces = study.of(edit.method)

    def goodness(layer: int) -> tuple[float, float]:
        by = measure_parting(embeddings.toxic[layer], embeddings.civil[layer], subspaces[layer].basis[0])
        return (round(probes[layer].accuracy.mean, 3) if probes else 0.0), by

    layer = max(edit.layers[len(edit.layers) // 2 :], key=goodness)
    chosen = sorted(Random(0).sample(range(len(indices)), min(PAIRS_DRAWN, len(indices))))
    sides = (side[layer][chosen] for side in (embeddings.toxic, embeddings.civil))
    before = _place(layer, *sides, subspaces[layer].basis[0])
    probe = probes[layer].accuracy if probes else None
    return Scene(layer, tuple(indices[place] for place in chosen), before, probe)


def _find_embeddings(bench: Workbench, study: Study, progress: Progress) -> tuple[Embeddings, Sequence[int]]:
    """Embeddings before the edit, and the indices of their pairs."""
    if study.embeddings is not None:
        return study.embeddings, range(len(study.pairs))
    indices = sorted(Random(0).sample(range(len(study.pairs)), min(PAIRS_PROBED, len(study.pairs))))
    return _embed(bench, study, indices, None, progress), indices


def _embed(
    bench: Workbench, study: Study, indices: Sequence[int], edit: LowRankEdit | None, progress: Progress
) -> Embeddings:
    from detox_engine.forward.embed import embed_pairs

    pairs, plan = [study.pairs[index] for index in indices], study.plan
    return embed_pairs(bench.model, pairs, plan.max_length, plan.pooling, progress, edit, study.sinks)


def _probe(embeddings: Embeddings, progress: Progress) -> tuple[Separability, ...]:
    """Of every layer; none where there are too few pairs."""
    from detox_engine.reading.probe import FOLDS, probe_layers

    return probe_layers(embeddings, progress=progress) if embeddings.toxic.shape[1] >= 2 * FOLDS else ()


def _place(layer: int, toxic: Tensor, civil: Tensor, along: Tensor) -> Places:
    """Where texts `[pairs, hidden]` of a layer lie along a direction, with a probe of them."""
    from detox_engine.reading.probe import FOLDS, probe_layer, project_sides

    probe = probe_layer(layer, toxic, civil).accuracy if len(toxic) >= 2 * FOLDS else None
    return Places(*(tuple(side.tolist()) for side in project_sides(toxic, civil, along)), probe)


def read_again(bench: Workbench, study: Study, asked: Reread, progress: Progress, tell: Tell) -> Places:
    """Where the edited model, really run, puts these texts, and how well a probe still tells their sides."""
    edit = bench.edit(study, asked.edit)
    found = _embed(bench, study, asked.pairs, edit, progress)
    along = study.of(asked.method)[asked.layer].basis[0]
    return _place(asked.layer, found.toxic[asked.layer], found.civil[asked.layer], along)


def read_words(bench: Workbench, study: Study, method: str, layer: int, progress: Progress) -> Words:
    """What the first direction of a layer makes the model say."""
    from detox_engine.reading.causal import read_causally, run_clean

    clean = run_clean(bench.model, [layer], progress=progress)
    first = study.of(method)[layer].basis[:1]
    (found,) = read_causally(bench.model, clean, layer, first, off=study.massive_dimensions, progress=progress)
    return kept.lighten_reading(found)


def go_on(bench: Workbench, study: Study, asked: Prompted, progress: Progress, tell: Tell) -> Written:
    """The prompt gone on with before and after; on a slow model its beginnings first."""
    for length in PARTS:
        begun = time.perf_counter()
        sampling = replace(SAMPLING, max_new_tokens=length)
        (found,) = bench.compare(study, asked.edit, [asked.prompt], sampling, progress)
        if length == PARTS[0] and time.perf_counter() - begun < AT_ONCE:
            (found,) = bench.compare(study, asked.edit, [asked.prompt], SAMPLING, progress)
            break
        tell(kept.lighten_comparison(found))
    return kept.lighten_comparison(found)


def take_first_look(bench: Workbench, study: Study, asked: Asked, progress: Progress, tell: Tell) -> tuple[Change, ...]:
    return measure(bench.model, study, asked.edit, FIRST_LOOK, progress)


OPENING = Task("opening", open_up, keep=8, words=Opening.list_texts, title="What the Overview opens with")
WRITING = Task(
    "writing the overview", go_on, keep=64, words=lambda written: written.texts, private=True, title="Writing"
)
READING = Task("reading again", read_again, keep=128, title="Reading texts again")
FIRST_LOOKS = Task("first look", take_first_look, keep=64)


def find_opening(asked: Asked, study: Study) -> Opening:
    """As much of the opening as is there; what is missing is begun."""
    return kept.find_opening(asked, study) or OPENING.ask(asked) or Opening()
