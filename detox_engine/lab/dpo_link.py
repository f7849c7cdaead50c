"""The link to DPO: how much of its first step lies inside the toxic subspace, and of the steps that follow.

At the reference policy DPO's loss −log σ(β (Δ⁺ − Δ⁻)) has the slope −β/2 along the difference of the two texts' log
probabilities, since both Δ are 0 and σ(0) is 1/2. So its first gradient with respect to a layer's value matrix is

    G = −β/2 · mean over pairs of ∇W log π(civil | prompt) − ∇W log π(toxic | prompt)

(arXiv 2405.13967, section 5: a step of DPO moves weights along differences of embeddings, of which DeTox keeps the
leading directions). The share of a matrix inside a subspace V is ‖G Vᵀ‖ / ‖G‖; random subspaces of rank r hold about
√(r / hidden) of anything.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detox_engine.data.columns import Pair
from detox_engine.edit.change import Adapter
from detox_engine.edit.low_rank import LowRankEdit
from detox_engine.errors import InputError, Progress, ignore_progress
from detox_engine.forward.likelihood import Span, cut_continuations, find_scored
from detox_engine.lab.contestants import Draw
from detox_engine.lab.dpo import LONGEST, list_linear, train_dpo
from detox_engine.model.anatomy import OutputProjection
from detox_engine.model.head import read_head
from detox_engine.model.load import OpenModel
from detox_engine.model.trunk import record_trunk
from detox_engine.plans.fit import PAPER
from detox_engine.plans.lab.experiments import LinkPlan
from detox_engine.study.methods import fit_layer
from detox_engine.study.study import Study, identify, stamp

STAGE = "Reading DPO's first step"
PAIRS_AT_ONCE = 8
CHANCES = 10
"""Random subspaces in which the step of few pairs is looked at, in each layer and draw."""


@dataclass(frozen=True)
class Share:
    """How much of a matrix's norm lies inside subspaces of one layer, 0 to 1."""

    layer: int
    inside: float
    """The toxic subspace."""
    random: float
    """Random subspaces of its rank: mean over draws, and what 95 % of them lie between."""
    random_low: float
    random_high: float
    first: float
    """Its first direction alone."""
    mean_difference: float
    """The mean difference, one direction too."""
    random_first: float
    """A random direction: mean over draws."""

    @property
    def beyond_chance(self) -> bool:
        return self.inside > self.random_high


@dataclass(frozen=True)
class Denoised:
    """The step of few pairs beside the step of all others, mean over layers: the cosine between them."""

    pairs: int
    draw: int
    plain: float
    filtered: float
    """The step of the few projected on the toxic subspace that they themselves have."""
    filtered_both: float
    """Both steps projected on it."""
    random_both: float
    """Both projected on a random subspace of the same rank, mean over several."""


@dataclass(frozen=True, eq=False)
class DpoLink:
    """What DPO's steps have to do with the toxic subspace."""

    rank: int
    pairs: int
    first_step: tuple[Share, ...]
    """One a layer."""
    along_training: Mapping[int, tuple[Share, ...]]
    """Step -> the shares of all that training had changed by then."""
    denoised: tuple[Denoised, ...]


def measure_link(
    model: OpenModel,
    study: Study,
    plan: LinkPlan = LinkPlan(),  # noqa: B008
    progress: Progress = ignore_progress,
) -> DpoLink:
    """Everything about the link; training only where the plan asks for steps.

    Raises:
        InputError: the study is of another model or kept no embeddings, or TRL is not installed where it is to train.
    """
    study.require_fit(model)
    if study.embeddings is None:
        raise InputError("The study kept no embeddings to fit few pairs on: fit it again, with --embeddings.")
    rank = min(plan.rank or study.suggested_edit.rank, study.kept)
    bases = {layer: subspace.basis[:rank] for layer, subspace in enumerate(study.subspaces)}
    means = {layer: subspace.basis[:1] for layer, subspace in enumerate(study.of("mean-difference"))}
    pairs = study.pairs
    whole = first_gradient(model, pairs, plan.training.beta, progress)
    first = tuple(_share(model, layer, whole[layer], bases, means, plan) for layer in range(study.layers))
    denoised = tuple(_denoise(model, study, whole, rank, plan, progress))
    along: dict[int, tuple[Share, ...]] = {}
    if plan.trained_steps:
        training = replace(
            plan.training, learning_rates=(plan.learning_rate,), steps=plan.trained_steps[-1], seed=plan.seed
        )
        trained = train_dpo(model, pairs, training, at_steps=plan.trained_steps, progress=progress)
        for step, adapter in trained.at_steps.items():
            changes = list_changes(model, adapter)
            along[step] = tuple(
                _share(model, layer, change, bases, means, plan) for layer, change in sorted(changes.items())
            )
    return DpoLink(rank, len(pairs), first, along, denoised)


def value_matrix(model: OpenModel, layer: int) -> OutputProjection:
    """Where the MLP of a layer writes."""
    written = model.anatomy.value_at(layer)
    if written.is_mixture or written.packed:
        told = f"writes through {len(written.list_names())} matrices" if written.is_mixture else "is quantised"
        raise InputError(
            f"The MLP of layer {layer} {told}; the link to DPO is measured where there is one matrix of plain numbers: "
            "take a dense model that is not quantised."
        )
    return written


def first_gradient(
    model: OpenModel, pairs: Sequence[Pair], beta: float, progress: Progress = ignore_progress
) -> tuple[Tensor, ...]:
    """DPO's gradient at the reference policy with respect to each layer's value matrix: `[inner, hidden]` float32.

    The mean over pairs whose both sides have something to score. Progress counts pairs.
    """
    model.require_whole("The link to DPO")
    sides = cut_continuations(model, pairs, LONGEST)
    if not sides:
        raise InputError("No pair has a token to score on both its sides: take longer texts.")
    projections = [value_matrix(model, layer) for layer in range(model.anatomy.layers)]
    weights = [written.module.weight for written in projections]
    sums = [torch.zeros_like(written.rows, dtype=torch.float32) for written in projections]
    order = sorted(range(len(sides)), key=lambda pair: -max(len(span.ids) for span in sides[pair]))
    for start in range(0, len(order), PAIRS_AT_ONCE):
        batch = [sides[pair] for pair in order[start : start + PAIRS_AT_ONCE]]
        with model.turns, _recording(weights):
            slope = sum_log_probabilities(model, [civil for _, civil in batch])
            slope = slope - sum_log_probabilities(model, [toxic for toxic, _ in batch])
            for total, gradient, written in zip(sums, torch.autograd.grad(slope, weights), projections, strict=True):
                total += _as_rows(gradient, written).float()
        progress(STAGE, start + len(batch), len(order))
    return tuple(-beta / 2 * total / len(sides) for total in sums)


def _as_rows(gradient: Tensor, written: OutputProjection) -> Tensor:
    """As `written.rows` lies: `[inner, hidden]`."""
    return gradient.T if written.transposed else gradient


@contextmanager
def _recording(weights: Sequence[Tensor]) -> Iterator[None]:
    """The weights take gradients inside."""
    for weight in weights:
        weight.requires_grad_(True)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(False)


def sum_log_probabilities(model: OpenModel, spans: Sequence[Span]) -> Tensor:
    """Σ log π of all scored tokens of `spans`, with what a gradient needs."""
    states = record_trunk(model, [span.ids for span in spans])
    owner, places, targets = find_scored(spans)
    logits = read_head(model, states[owner, places]).float()
    return logits.log_softmax(-1).gather(-1, targets.to(logits.device)[:, None]).sum()


def list_changes(model: OpenModel, adapter: Adapter) -> dict[int, Tensor]:
    """What an adapter adds to each layer's value matrix, `[inner, hidden]` float32."""
    inner_names = list_linear(model)
    found = {}
    for layer in range(model.anatomy.layers):
        _, inner = inner_names[value_matrix(model, layer).name]
        down, up = adapter.factors[layer][inner]
        found[layer] = (up @ down).T
    return found


def share_inside(gram: Tensor, basis: Tensor) -> float:
    """‖G Vᵀ‖ / ‖G‖ from GᵀG `[hidden, hidden]` and orthonormal rows V `[rank, hidden]`."""
    size = gram.trace()
    return float((torch.einsum("rh,hk,rk->", basis, gram, basis) / size).clamp(0, 1).sqrt()) if size > 0 else 0.0


def _share(
    model: OpenModel,
    layer: int,
    matrix: Tensor,
    bases: Mapping[int, Tensor],
    means: Mapping[int, Tensor],
    plan: LinkPlan,
) -> Share:
    written = value_matrix(model, layer)
    wide = matrix.double()
    gram = wide.T @ wide
    # In the space of what the matrix writes, which a norm may stand behind.
    toxic, first, mean = (
        LowRankEdit({layer: basis}).basis_at(layer, written).double().to(gram.device)
        for basis in (bases[layer], bases[layer][:1], means[layer])
    )
    draws = _draw_shares(gram, len(toxic), plan.random, (plan.seed, layer))
    return Share(
        layer,
        share_inside(gram, toxic),
        float(draws.mean()),
        *(float(each) for each in np.quantile(draws, (0.025, 0.975))),
        share_inside(gram, first),
        share_inside(gram, mean),
        float(_draw_shares(gram, 1, plan.random, (plan.seed, layer)).mean()),
    )


def draw_bases(hidden: int, rank: int, draws: int, key: Sequence[int]) -> Iterator[Tensor]:
    """`[rank, hidden]` orthonormal float64 rows, uniform over the subspaces of that rank."""
    generator = np.random.default_rng(tuple(key))
    for _ in range(draws):
        yield torch.linalg.qr(torch.from_numpy(generator.standard_normal((hidden, rank)))).Q.T


def _draw_shares(gram: Tensor, rank: int, draws: int, key: Sequence[int]) -> np.ndarray:
    gram = gram.cpu()
    return np.array([share_inside(gram, basis) for basis in draw_bases(len(gram), rank, draws, key)])


def _denoise(
    model: OpenModel, study: Study, whole: Sequence[Tensor], rank: int, plan: LinkPlan, progress: Progress
) -> Iterator[Denoised]:
    """The step of few pairs, filtered by their own subspace, beside the step of the others."""
    total = len(study.pairs)
    for count in sorted({count for count in plan.few if count <= total // 2}):
        for number in range(plan.draws):
            draw = Draw.of(study, count, 0.0, 1000 * plan.seed + number)
            few = first_gradient(model, draw.pairs(study), plan.training.beta, progress)
            toxic, civil = draw.embeddings(study)
            cosines = []
            for layer, (one, every) in enumerate(zip(few, whole, strict=True)):
                # A pair of which a side has nothing to score counts in neither; there are next to none.
                others = (total * every - count * one) / (total - count)
                basis = fit_layer(toxic[layer], civil[layer], rank).basis
                own = LowRankEdit({layer: basis}).basis_at(layer, value_matrix(model, layer))
                chance = list(draw_bases(one.shape[1], len(own), CHANCES, (plan.seed, number, layer)))
                inside, inside_others = one @ own.T, others @ own.T
                at_random = [basis.to(one.device, one.dtype).T for basis in chance]
                cosines.append(
                    (
                        _cosine(one, others),
                        _cosine(inside @ own, others),
                        _cosine(inside, inside_others),
                        np.mean([_cosine(one @ basis, others @ basis) for basis in at_random]),
                    )
                )
            yield Denoised(count, number, *(float(each) for each in np.mean(cosines, axis=0)))


def _cosine(one: Tensor, other: Tensor) -> float:
    size = one.norm() * other.norm()
    return float((one * other).sum() / size) if size > 0 else 0.0


def record_link(link: DpoLink, model: OpenModel, study: Study, plan: LinkPlan) -> dict[str, Any]:
    """All of it, for JSON."""
    made, versions = stamp()
    return {
        "model": asdict(identify(model)),
        "pairs_hash": study.pairs_hash,
        "method": PAPER,
        "plan": asdict(plan),
        "rank": link.rank,
        "pairs": link.pairs,
        "layers": [asdict(share) | {"beyond_chance": share.beyond_chance} for share in link.first_step],
        "along_training": [
            {"step": step, "layers": [asdict(share) for share in shares]}
            for step, shares in sorted(link.along_training.items())
        ],
        "denoised": [asdict(each) for each in link.denoised],
        "made": made,
        "versions": dict(versions),
    }
