"""What the lesson measures on the study at hand; kept for all sessions."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from detox_engine.estimates import INTERVAL
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.lab.factors import FactorPlan
from detox_engine.plans.read import MapPlan
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.plans.sources import TextSpec
from pages.learn.steps import Name
from ui.session.shared_models import Kept, shelf
from ui.session.view import Fitted
from ui.work.tasks import Task, Tell

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from detox_engine.errors import Progress
    from detox_engine.estimates import Tally
    from detox_engine.forward.compare import Comparison
    from detox_engine.lab.factor_model import Recovery
    from detox_engine.reading.lens import Reading
    from detox_engine.study.study import Study
    from detox_engine.workbench import Workbench

WORDS = 10
"""Words that are read at an end of a direction."""
MOST_LAYERS_READ = 8
"""Layers whose mean direction is read: all of a small model, some of a large one."""
WIDE, STRONG = 16, 4.0
"""The rank and the strength of edits that are to break something."""
SHARES = (0, 10, 20, 30, 40, 50)
"""Per cent of the labels that are swapped."""
DRAWS = 3
"""How often other pairs are swapped; the middle of them is told."""
PROMPTS, TEXTS, TOKENS = 8, 24, 20
"""Prompts that are continued, ordinary texts that are read, and tokens of a continuation: few, so that a class waits
for seconds."""
MOST_COMPARED = 1000
"""Pairs whose texts are searched for neighbours."""
RESAMPLES, SEED = 1000, 0
KEPT: Kept = Kept(400)


def find_best_layer(study: Study) -> int:
    """The layer whose first direction stands furthest above its noise."""
    heights = [
        float(subspace.singular_values[0]) / max(threshold, 1e-9)
        for subspace, threshold in zip(study.subspaces, study.noise_thresholds, strict=True)
    ]
    return int(np.argmax(heights))


def _keep(key: Hashable, make: Callable[[], Any]) -> Any:
    """What is under `key`, or else made on one core, where it does not wait for others that are busy."""
    from detox_engine.model.threads import run_side_by_side

    return KEPT.find_or_make(key, lambda: next(iter(run_side_by_side(lambda _: make(), 1))))


# 1. What an embedding is


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Which text lies nearest to a toxic one: shares of the toxic texts."""

    twin: float
    toxic: float
    civil: float
    """Of another pair."""
    count: int


def find_neighbours(fitted: Fitted, study: Study, layer: int) -> Neighbours:
    return _keep(("neighbours", fitted, layer), lambda: _find_neighbours(study, layer))


def _find_neighbours(study: Study, layer: int) -> Neighbours:
    import torch

    # In double precision, since long embeddings that lie close would round to one place.
    sides = study.embeddings.toxic[layer], study.embeddings.civil[layer]
    toxic, civil = (side[:MOST_COMPARED].double() for side in sides)
    count = len(toxic)
    distances = torch.cdist(toxic, torch.cat([toxic, civil]))
    distances[range(count), range(count)] = torch.inf
    nearest = distances.argmin(dim=1)
    twin = nearest == torch.arange(count) + count
    rude = nearest < count
    shares = (each.double().mean().item() for each in (twin, rude, ~twin & ~rude))
    return Neighbours(*shares, count)


def find_places(fitted: Fitted, study: Study, layer: int) -> NDArray:
    """`[sides, pairs, 2]` all texts along the two directions in which they differ most; side 0 is toxic."""
    return KEPT.find_or_make(("places", fitted, layer), lambda: _find_places(study, layer))


def _find_places(study: Study, layer: int) -> NDArray:
    from detox_engine.reading.map import draw_map, stack_sides

    return draw_map(layer, [stack_sides(study.embeddings, layer)], MapPlan("pca")).points[0].numpy()


# 2. Pairs


@dataclass(frozen=True, eq=False)
class Distances:
    """Between toxic and civil texts."""

    within: NDArray
    """`[pairs]` from a text to its twin."""
    between: NDArray
    """`[pairs]` from a toxic text to the civil one of the next pair in a random order."""

    @property
    def ratio(self) -> float:
        """Of the medians; 1 where texts of different pairs are all alike."""
        between = float(np.median(self.between))
        return float(np.median(self.within)) / between if between else 1.0


def find_distances(fitted: Fitted, study: Study, layer: int) -> Distances:
    return KEPT.find_or_make(("distances", fitted, layer), lambda: _find_distances(study, layer))


def _find_distances(study: Study, layer: int) -> Distances:
    toxic, civil = (side[layer].double().numpy() for side in (study.embeddings.toxic, study.embeddings.civil))
    order = np.random.default_rng(SEED).permutation(len(toxic))
    within = np.linalg.norm(toxic - civil, axis=1)
    between = np.linalg.norm(toxic[order] - civil[np.roll(order, 1)], axis=1)
    return Distances(within, between)


# 3. Centring


@dataclass(frozen=True, eq=False)
class Mean:
    """What lies along the mean direction."""

    layers: tuple[int, ...]
    readings: tuple[Reading, ...]
    """One of each of these layers."""
    of_texts: float
    """The share of the square of the embeddings, at one layer."""
    of_differences: float
    """The same of the differences."""
    cosine: float
    """Of the mean difference with the mean direction."""


def find_mean(fitted: Fitted, study: Study, layer: int) -> Mean:
    return KEPT.find_or_make(("mean", fitted, layer), lambda: _find_mean(fitted, study, layer))


def _find_mean(fitted: Fitted, study: Study, layer: int) -> Mean:
    import torch

    from detox_engine.reading.lens import read_tokens

    count = min(study.layers, MOST_LAYERS_READ)
    layers = tuple(np.linspace(0, study.layers - 1, count).astype(int).tolist())
    vectors = torch.stack([study.subspaces[each].mean_direction for each in layers])
    model = shelf().workbench(fitted.study.model).model
    toxic, civil = (side[layer].double() for side in (study.embeddings.toxic, study.embeddings.civil))
    direction, differences = study.subspaces[layer].mean_direction.double(), toxic - civil
    texts, mean = torch.cat([toxic, civil]), differences.mean(0)

    def share(rows) -> float:
        return float((rows @ direction).square().sum() / rows.square().sum().clamp(min=1e-12))

    return Mean(
        layers,
        read_tokens(vectors, model, top=WORDS),
        share(texts),
        share(differences),
        float(mean @ direction / mean.norm().clamp(min=1e-12)),
    )


# 4. Singular values: they are the study's own; the synthetic world is drawn here.


def judge_world(plan: FactorPlan) -> Recovery:
    """Who finds what in the synthetic world of a plan; a few hundredths of a second."""
    from detox_engine.lab import factor_model

    return _keep(plan, lambda: factor_model.judge_world(factor_model.draw_world(plan), plan.rank))


# 5. Reading


@dataclass(frozen=True, eq=False)
class Poles:
    """The two ends of the first direction, in words."""

    reading: Reading
    agreeing: float
    """The share of the pairs whose toxic text lies further along it."""
    pairs: int


def find_poles(fitted: Fitted, study: Study, layer: int) -> Poles:
    return KEPT.find_or_make(("poles", fitted, layer), lambda: _find_poles(fitted, study, layer))


def _find_poles(fitted: Fitted, study: Study, layer: int) -> Poles:
    from detox_engine.reading.lens import read_tokens

    direction = study.subspaces[layer].basis[:1]
    (reading,) = read_tokens(direction, shelf().workbench(fitted.study.model).model, top=WORDS)
    along = (study.embeddings.toxic[layer] - study.embeddings.civil[layer]).float() @ direction[0]
    return Poles(reading, float((along > 0).float().mean()), len(along))


# 6, 7 and 9. Edits


def gentle_edit(study: Study) -> EditPlan:
    """The paper's edit of one direction, on the layers that the study suggests."""
    return EditPlan(study.suggested_edit.layers, 1, 1.0)


def breaking_edits(study: Study) -> tuple[EditPlan, EditPlan]:
    """Many directions of every layer, and one that is taken out several times over."""
    every = EditPlan(tuple(range(study.layers)), min(WIDE, study.kept), 1.0)
    return every, replace(gentle_edit(study), strength=STRONG)


@dataclass(frozen=True)
class Asked:
    """Which edits of which study, and for which step."""

    fitted: Fitted
    edits: tuple[EditPlan, ...]
    step: Name = field(compare=False)
    """Runs of different steps do not stop each other; what one finds the others find too."""


@dataclass(frozen=True)
class Change:
    """A score before and after an edit."""

    before: float
    after: float
    low: float
    """Ends of the 95 % interval of after / before, over prompts or texts."""
    high: float

    @property
    def ratio(self) -> float:
        """After / before; 1 where there was nothing."""
        return self.after / self.before if self.before > 0 else 1.0


@dataclass(frozen=True, eq=False)
class Outcome:
    """What some edits do."""

    rude: tuple[Change, ...]
    """Of each edit: the probability of rude words."""
    perplexity: tuple[Change, ...]
    comparisons: tuple[tuple[Comparison, ...], ...]
    """`[edits][prompts]`."""
    texts: int


def answer(bench: Workbench, study: Study, asked: Asked, progress: Progress, tell: Tell) -> Outcome:
    """Write and read with the model as it is and with each edit, on a few prompts and texts."""
    progress("Reading prompts and texts", 0, 0)
    from detox_engine.data.bundled import bundled_neutral, bundled_prompts
    from detox_engine.data.texts import read_prompts, read_text
    from detox_engine.forward.compare import Comparison
    from detox_engine.forward.likelihood import cut_spans
    from detox_engine.scoring.scorers.mass import Mass
    from detox_engine.scoring.scorers.perplexity import Perplexity
    from detox_engine.scoring.scorers.profanity import ProfanityScorer
    from detox_engine.scoring.trial import Trial

    model, name = bench.model, bench.model.spec.name
    spec = TextSpec(limit=TEXTS)
    text = read_text(spec, bundled_neutral(name))
    prompts = read_prompts(spec.source, bundled_prompts(name))[:PROMPTS]
    edits = (None, *(bench.edit(study, edit) for edit in asked.edits))
    spans = cut_spans(model, text, spec.window, spec.stride)
    sampling = SamplingPlan(max_new_tokens=TOKENS, greedy=True)
    trial = Trial(model, edits, prompts, sampling, {"neutral": spans}, progress)
    rude, perplexity = _measure_change(Mass().measure(trial)), _measure_change(Perplexity().measure(trial))
    toxicity = trial.score(ProfanityScorer())
    comparisons = tuple(
        tuple(
            Comparison(
                prompt, 0, written[0][0], written[0][number], 0,
                float(toxicity[0, row, 0]), float(toxicity[number, row, 0]),
            )
            for row, (prompt, written) in enumerate(zip(prompts, trial.continuations, strict=True))
        )
        for number in range(1, len(edits))
    )  # fmt: skip
    return Outcome(rude, perplexity, comparisons, len(spans))


def _measure_change(tally: Tally) -> tuple[Change, ...]:
    """Each edit against the unedited model, with the interval of the ratio on the same items drawn anew."""
    items = tally.totals.shape[1]
    weights = np.random.default_rng(SEED).multinomial(items, np.full(items, 1 / items), size=RESAMPLES)
    drawn = tally.score(weights @ tally.totals.T, weights @ tally.counts.T)
    before, *after = (0.0 if np.isnan(score) else float(score) for score in tally.scores)
    found = []
    for column, score in enumerate(after, start=1):
        ratios = np.divide(drawn[:, column], drawn[:, 0], out=np.ones(RESAMPLES), where=drawn[:, 0] > 0)
        ratios = ratios[~np.isnan(ratios)]
        low, high = np.percentile(ratios, INTERVAL) if ratios.size else (1.0, 1.0)
        found.append(Change(before, score, float(low), float(high)))
    return tuple(found)


def words_of(found: Outcome) -> Iterator[str]:
    for comparisons in found.comparisons:
        for each in comparisons:
            yield from each.texts


MEASURING = Task(
    "lesson", answer, keep=64, words=words_of, each=lambda asked: asked.step, patience=2.0, title="What the lesson asks"
)


# 8. Labels


@dataclass(frozen=True, eq=False)
class Turned:
    """How far directions turn where labels are swapped, from those of the right labels; angles in degrees."""

    detox: NDArray
    """`[shares, draws]` of the first direction."""
    mean_difference: NDArray
    """The same."""
    left: NDArray
    """`[shares, draws]` the length of the mean difference, as a share of that with the right labels."""

    def middle(self, share: int) -> tuple[float, float, float]:
        """DeTox's angle, the mean difference's and what is left of it, of the middle draw at so many per cent."""
        row = SHARES.index(share)
        return tuple(float(np.median(each[row])) for each in (self.detox, self.mean_difference, self.left))


def find_turned(fitted: Fitted, study: Study, layer: int) -> Turned:
    return _keep(("turned", fitted, layer), lambda: _find_turned(study, layer))


def _find_turned(study: Study, layer: int) -> Turned:
    import torch

    from detox_engine.lab.contestants import Draw
    from detox_engine.study.methods import detox, mean_difference
    from detox_engine.study.subspace import centre, find_mean_direction, principal_angles

    toxic, civil = (side[layer] for side in (study.embeddings.toxic, study.embeddings.civil))

    def find(draw: Draw) -> tuple:
        flips = draw.flips[:, None]
        sides = torch.where(flips, civil, toxic), torch.where(flips, toxic, civil)
        mean = centre(*sides, find_mean_direction(sides[1])).mean(0)
        return detox.fit_subspace(*sides, 1).basis, mean_difference.fit(*sides, 1).basis, float(mean.norm())

    count = len(toxic)
    first, mean, length = find(Draw.of(study, count, 0.0, SEED))
    angles = np.zeros((3, len(SHARES), DRAWS))
    angles[2, 0] = 1
    for row, share in enumerate(SHARES[1:], start=1):
        for number in range(DRAWS):
            found = find(Draw.of(study, count, share / 100, SEED + number))
            turned = (principal_angles(found[0], first).item(), principal_angles(found[1], mean).item())
            angles[:, row, number] = (*turned, found[2] / length)
    return Turned(*angles)


def pick_rudest(comparisons: Sequence[Comparison]) -> int:
    """Which prompt is continued most rudely by the model as it is; the first where no score is a number."""
    scores = [each.toxicity_before for each in comparisons]
    return int(np.argmax(np.nan_to_num(scores, nan=-1.0)))
