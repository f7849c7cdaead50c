"""The embeddings of a layer in two dimensions, before and after an edit in one frame (PCA, UMAP)."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from detox_engine.edit.low_rank import LowRankEdit
from detox_engine.errors import InputError, Progress, ignore_progress
from detox_engine.forward.embed import embed_pairs
from detox_engine.forward.embedded_pairs import Embeddings
from detox_engine.model.load import OpenModel
from detox_engine.model.threads import run_side_by_side
from detox_engine.plans.layers import check_layers
from detox_engine.plans.read import MapPlan
from detox_engine.reading.umap_process import UmapProcess
from detox_engine.study.study import Study
from detox_engine.study.subspace import decompose

POINT = ("pair", "side", "state", "x", "y", "text")
"""What a row of `list_points` holds."""
FEWEST_FOR_UMAP = 8
"""Texts; with fewer there are no neighbourhoods to keep."""


@dataclass(frozen=True, eq=False)
class LayerMap:
    """Places of the texts of one layer."""

    layer: int
    points: tuple[Tensor, ...]
    """`[sides, pairs, 2]` float32 for each state that was given, the first before the edit; side 0 is toxic, 1 civil.
    All are in one frame: what lies at the same place was at the same place."""
    shares: tuple[float, float] | None
    """Of the variance before the edit along the two axes; None for UMAP, whose axes mean nothing."""


def embed_study(
    model: OpenModel,
    study: Study,
    edit: LowRankEdit | None = None,
    progress: Progress = ignore_progress,
) -> Embeddings:
    """The embeddings of a study's pairs, as its plan takes them.

    Without an edit they are the study's own, run again only where it did not keep them; with one they come from
    the edited model, really run.
    """
    study.require_fit(model)
    if edit is None and study.embeddings is not None:
        return study.embeddings
    plan = study.plan
    return embed_pairs(
        model, study.pairs, plan.max_length, plan.pooling, progress=progress, edit=edit, sinks=study.sinks
    )


def project_on_paper(embeddings: Embeddings, edit: LowRankEdit) -> Embeddings:
    """Embeddings with the edit's directions taken out of the edited layers only, and no model run.

    That is not what the edited model does: there each edit changes what all layers above it compute, and what is not
    edited, such as the embedding layer, goes on to write along the directions.
    """
    sides = {}
    for name in ("toxic", "civil"):
        states = getattr(embeddings, name).clone()
        for layer, basis in edit.bases.items():
            rows, reads = (each.to(states.device, states.dtype) for each in (basis, edit.reads.get(layer, basis)))
            states[layer] -= edit.strength * (states[layer] @ reads.T) @ rows
        sides[name] = states
    return replace(embeddings, **sides)


def stack_sides(embeddings: Embeddings, layer: int) -> Tensor:
    """`[sides, pairs, hidden]` of one layer: toxic, then civil."""
    check_layers((layer,), len(embeddings.toxic))
    return torch.stack([embeddings.toxic[layer], embeddings.civil[layer]])


def draw_map(
    layer: int,
    states: Sequence[Tensor],
    plan: MapPlan = MapPlan(),  # noqa: B008
    progress: Progress = ignore_progress,
) -> LayerMap:
    """Lay out one layer; see `draw_maps`."""
    (found,) = draw_maps({layer: states}, plan, progress)
    return found


def draw_maps(
    layers: Mapping[int, Sequence[Tensor]], plan: MapPlan, progress: Progress = ignore_progress
) -> Iterator[LayerMap]:
    """Lay out the states of each layer, each `[sides, pairs, hidden]` and the first before the edit, in one frame.

    Along each axis toxic texts lie further up than their civil twins on average. Each map comes as soon as it is
    there; UMAP can be stopped by `progress` at any moment.

    Raises:
        InputError: too few texts for UMAP, or all at one place.
    """
    with ExitStack() as stack:
        umap = None
        for done, (layer, states) in enumerate(layers.items()):
            flat = [side.flatten(0, 1) for side in states]
            fitted = 1 if plan.frame == "before" else len(flat)
            _check_variety(torch.cat(flat[:fitted]))
            step = ("Laying out texts", done, len(layers))
            progress(*step)
            if plan.method == "pca":
                places, shares = _lay_out_pca(flat, fitted)
            else:
                _check_count(len(flat[0]) * fitted)
                umap = umap or stack.enter_context(UmapProcess())
                places, shares = _lay_out_umap(umap, flat, fitted, plan, progress, step), None
            yield LayerMap(layer, _face_up([place.unflatten(0, (2, -1)) for place in places]), shares)
    progress("Laying out texts", len(layers), len(layers))


def _face_up(points: Sequence[Tensor]) -> tuple[Tensor, ...]:
    lead = (points[0][0] - points[0][1]).mean(0)
    signs = torch.where(lead < 0, -1.0, 1.0)
    return tuple((place * signs).float() for place in points)


def _check_count(texts: int) -> None:
    if texts < FEWEST_FOR_UMAP:
        raise InputError(f"UMAP needs {FEWEST_FOR_UMAP // 2} pairs or more, and there are {texts // 2}: choose PCA.")


def _check_variety(texts: Tensor) -> None:
    if not texts.isfinite().all():
        raise InputError("The embeddings hold NaN or infinity: fit the study again, or lower the strength of the edit.")
    if (texts == texts[0]).all():
        raise InputError("All texts have the same embedding at this layer: there is nothing to lay out.")


def _lay_out_pca(states: Sequence[Tensor], fitted: int) -> tuple[list[Tensor], tuple[float, float]]:
    """Each of `states` `[texts, hidden]` along the two principal axes of the first `fitted` of them."""
    texts = torch.cat(tuple(states[:fitted])).double()
    mean = texts.mean(0)
    # On one core, where it does not wait for others that are busy.
    ((values, axes),) = run_side_by_side(lambda _: decompose(texts - mean, 2), 1)
    places = [(state.double() - mean) @ axes.T for state in states]
    if len(axes) < 2:
        places = [torch.cat([place, torch.zeros_like(place)], dim=1) for place in places]
    variances = values.square()
    first, second = [*(variances / variances.sum()).tolist(), 0.0][:2]
    return places, (first, second if len(axes) > 1 else 0.0)


def _lay_out_umap(
    umap: UmapProcess, states: Sequence[Tensor], fitted: int, plan: MapPlan, progress: Progress, step
) -> list[Tensor]:
    """UMAP (McInnes, Healy, Melville 2018) fitted on the first `fitted` states; the others are placed among them."""
    texts = torch.cat(tuple(states[:fitted])).float().numpy()
    others = [state.float().numpy() for state in states[fitted:]]
    first, *rest = (torch.as_tensor(place).double() for place in umap.lay_out(texts, others, plan, progress, step))
    return [*first.split([len(state) for state in states[:fitted]]), *rest]


def orient_maps(maps: Sequence[LayerMap]) -> tuple[LayerMap, ...]:
    """Centre and scale each map, and turn it (or its mirror image) as close to its predecessor as it goes.

    An orthogonal Procrustes fit of the points before the edit (Schönemann 1966), which the other points follow, so
    that the eye can follow a text from layer to layer. Before the edit the points' mean square radius is 1.
    """
    oriented: list[LayerMap] = []
    for entry in maps:
        centre = entry.points[0].flatten(0, 1).mean(0)
        radius = (entry.points[0] - centre).square().sum(-1).mean().sqrt().clamp(min=1e-12)
        points = [(place - centre) / radius for place in entry.points]
        if oriented:
            turn = find_rotation(points[0].flatten(0, 1), oriented[-1].points[0].flatten(0, 1))
            points = [place @ turn for place in points]
        oriented.append(replace(entry, points=tuple(points)))
    return tuple(oriented)


def find_rotation(points: Tensor, target: Tensor) -> Tensor:
    """The orthogonal `[2, 2]` matrix R, reflections included, with the least ‖points R − target‖ for `[points, 2]`."""
    left, _, right = torch.linalg.svd(points.double().T @ target.double())
    return (left @ right).to(points.dtype)


def list_points(study: "Study", drawn: "LayerMap", states: tuple[str, ...]) -> list[tuple[Any, ...]]:
    """A row for each pair, side and state."""
    places = [points.tolist() for points in drawn.points]
    return [
        (index, name, state, *place[side][index], text)
        for index, pair in enumerate(study.pairs)
        for side, (name, text) in enumerate((("toxic", pair.toxic_text), ("civil", pair.civil_text)))
        for state, place in zip(states, places, strict=True)
    ]
