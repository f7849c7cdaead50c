"""How fast edits act and what they cost, of every layer, site and direction at once, from one gradient pass.

An edit of strength α removes α ((out − bias) · v) v from the output `out` of an output projection. With g = ∂L/∂out for
a sum L of log-probabilities, dL/dα at α = 0 is therefore −Σ over the tokens of (g · v) ((out − bias) · v).

- With L = log p(civil continuation) − log p(toxic continuation) this is the slope of the gap between the sides.
- With L = log p(y) for labels y that the model itself draws at every place, and h its slopes of one text, the mean of
  h hᵀ over a token is the Fisher information F in the strengths, since the labels of different places are independent
  and their scores have mean 0. The divergence of the edited model is then KL ≈ ½ αᵀFα (Kullback 1959, section 2.6).

So the gap and the divergence of any combination of layers, sites and strengths follow to first and to second order.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from threading import local
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from detox_engine.errors import InputError, Progress, ignore_progress
from detox_engine.forward.likelihood import Span, count_rows, find_scored
from detox_engine.model.anatomy import Anatomy, OutputProjection
from detox_engine.model.batches import OVERHEAD, count_workers, pack_batches, run_beside
from detox_engine.model.head import check_head, read_head
from detox_engine.model.load import OpenModel
from detox_engine.model.trunk import record_trunk
from detox_engine.plans.edit import Site

SITES: tuple[Site, ...] = ("attention", "mlp")
"""In the order in which a block has them."""
STAGE = "Differentiating"
"""What progress calls it; counts texts."""
Bases = Mapping[str, Sequence[Tensor]]
"""Method -> for every layer, layer 0 first, `[directions, hidden]` orthonormal rows in the residual stream."""

Measure = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""Of some scored tokens, the number of each one's text and its place among that text's scored ones `[tokens]`, their
log-probabilities `[tokens, vocab]` and ids `[tokens]` -> what each adds to its text's sums, `[tokens, draws]`."""

NUMBERS_AT_ONCE = {"cpu": 2**27, "cuda": 2**31}
"""Numbers that one pass may keep for its gradient, in all its batches that run side by side."""
LEAST_TOKENS = 64
"""Tokens that a batch may always have: with fewer, reading the weights would cost more than using them."""


class Place(NamedTuple):
    """One direction at one output projection."""

    layer: int
    site: Site
    method: str
    direction: int


@dataclass(frozen=True, eq=False)
class Slopes:
    """What a little of each direction at each place does; strengths are those of edits, 1 removes all."""

    places: tuple[Place, ...]
    gap: NDArray[np.float64]
    """`[places]` slope of log p(civil) − log p(toxic), in nats a token of a side, per unit of strength."""
    information: NDArray[np.float64]
    """`[places, places]` Fisher information in the strengths, in nats a token."""

    def predict(self, strengths: NDArray[np.float64]) -> tuple[float, float]:
        """The gap and the divergence, in nats a token, of an edit of `strengths` `[places]`."""
        return float(self.gap @ strengths), float(0.5 * strengths @ self.information @ strengths)


def read_slopes(
    model: OpenModel,
    bases: Bases,
    pairs: Sequence[tuple[Span, Span]],
    neutral: Sequence[Span],
    draws: int = 1,
    seed: int = 0,
    progress: Progress = ignore_progress,
) -> Slopes:
    """The slopes of every row of `bases`, at what its layer's MLP writes and at what its attention writes.

    Where a norm with a gain follows an output projection, directions are those of `LowRankEdit.basis_at`, made
    orthonormal in their order, so that the first of them are also those of an edit of a lower rank.

    Args:
        pairs: toxic and civil side; each counts by the mean over its scored tokens.
        neutral: what the divergence is of.
        draws: labels drawn at each place; the error of a predicted divergence falls with the root of texts × draws.
        seed: of the draws, which depend on it and on the text's number alone.

    Raises:
        InputError: one text alone does not fit into memory, or the model's gradients are not numbers.
    """
    with model.turns:
        check_head(model)
    places = _list_places(model.anatomy, bases)
    sides = [span for pair in pairs for span in pair]
    signs = torch.tensor([sign / span.scored for pair in pairs for sign, span in zip((-1, 1), pair, strict=True)])
    total = len(sides) + len(neutral)
    luck = [
        torch.from_numpy(np.random.default_rng([seed, index]).random((span.scored, draws), dtype=np.float32))
        for index, span in enumerate(neutral)
    ]

    def of_pairs(texts: Tensor, places: Tensor, logarithms: Tensor, targets: Tensor) -> Tensor:
        return signs[texts, None].to(logarithms.device) * logarithms.gather(-1, targets[:, None])

    def of_labels(texts: Tensor, places: Tensor, logarithms: Tensor, targets: Tensor) -> Tensor:
        drawn = torch.stack([luck[text][place] for text, place in zip(texts.tolist(), places.tolist(), strict=True)])
        return logarithms.gather(-1, _draw_labels(logarithms.detach(), drawn))

    def tell(done: int) -> None:
        progress(STAGE, done, total)

    tell(0)
    gap = _differentiate(model, bases, sides, of_pairs, 1, tell)[0].sum(0) / len(pairs)
    labels = _differentiate(model, bases, neutral, of_labels, draws, lambda done: tell(len(sides) + done))
    each = labels.reshape(-1, len(places))
    information = each.T @ each / (draws * sum(span.scored for span in neutral))
    if not (np.isfinite(gap).all() and np.isfinite(information).all()):
        raise InputError(
            "The model's gradients are not numbers: load it in float32 or bfloat16, or check the model's weights."
        )
    return Slopes(places, gap, information)


def _list_places(anatomy: Anatomy, bases: Bases) -> tuple[Place, ...]:
    """Layer by layer and site by site, as the hooks find their products."""
    return tuple(
        Place(layer, site, method, direction)
        for layer, site in _list_projections(anatomy)
        for method, rows in bases.items()
        for direction in range(len(rows[layer]))
    )


def _list_projections(anatomy: Anatomy) -> tuple[tuple[int, Site], ...]:
    """Every layer and site; without the attention of layers in which what it writes with was not found."""
    return tuple(
        (layer, site)
        for layer in range(anatomy.layers)
        for site in SITES
        if site == "mlp" or anatomy.attention_outputs[layer] is not None
    )


def _draw_labels(logarithms: Tensor, luck: Tensor) -> Tensor:
    """`[places, draws]` tokens of the distributions `logarithms` `[places, vocab]`, by uniform `luck` in [0, 1)."""
    sums = logarithms.exp().cumsum(-1)
    reached = luck.to(sums.device) * sums[:, -1:]
    return torch.searchsorted(sums, reached, right=True).clamp(max=sums.shape[-1] - 1)


def _differentiate(
    model: OpenModel,
    bases: Bases,
    spans: Sequence[Span],
    measure: Measure,
    draws: int,
    tell: Callable[[int], None],
) -> NDArray[np.float64]:
    """`[draws, spans, places]` slopes of what `measure` makes of each span.

    Args:
        draws: how many measures of a span `measure` gives.
    """
    device = model.device
    projections = _place_bases(model.anatomy, bases)
    kept = _Kept()

    @contextmanager
    def turn() -> Iterator[None]:
        with model.turns, ExitStack() as hooks:
            for key, (projection, basis) in projections.items():
                tap = _tap(kept, key, projection, basis)
                hooks.enter_context(projection.module.register_forward_hook(tap, with_kwargs=True))
            yield

    def run(batch: Sequence[int]) -> NDArray[np.float64]:
        kept.rows, kept.leaves, kept.products = len(batch), {}, {}
        try:
            return _run_batch(model, [spans[index] for index in batch], batch, measure, draws, projections, kept)
        finally:
            kept.leaves, kept.products = {}, {}

    found = np.zeros((draws, len(spans), sum(len(basis) for _, basis in projections.values())))
    workers = count_workers(device, model.is_split)
    budget = _tokens_at_once(model.anatomy, device.type) // workers
    batches = pack_batches(
        [len(span.ids) for span in spans], max(LEAST_TOKENS, budget), OVERHEAD.get(device.type, OVERHEAD["cpu"])
    )
    done = 0
    try:
        for batch, slopes in run_beside(batches, run, workers, turn, lambda: model.turns.wanted):
            found[:, batch] = slopes
            done += len(batch)
            tell(done)
    except MemoryError:
        longest = max(len(span.ids) for span in spans)
        raise InputError(
            f"There is not enough memory for the gradients of one text of {longest} tokens: lower the longest length, "
            "or load the model in a smaller number format."
        ) from None
    return found


class _Kept(local):
    """What the hooks keep of a pass, for each thread that runs a batch of its own."""

    rows: int
    leaves: dict[tuple[int, Site], Tensor]
    """Zeros that are added to an output, whose gradient is therefore the output's."""
    products: dict[tuple[int, Site], Tensor]
    """`[rows, tokens, directions]` (out − bias) · v."""


def _place_bases(anatomy: Anatomy, bases: Bases) -> dict[tuple[int, Site], tuple[OutputProjection, Tensor]]:
    """Every output projection with the directions of all methods in the space of its output, `[directions, hidden]`."""
    placed: dict[tuple[int, Site], tuple[OutputProjection, Tensor]] = {}
    for layer, site in _list_projections(anatomy):
        [projection] = anatomy.written_at(layer, site)
        rows = [_seen_through(method[layer], projection.gain) for method in bases.values()]
        placed[layer, site] = projection, torch.cat(rows).to(projection.device)
    return placed


def _seen_through(basis: Tensor, gain: Tensor | None) -> Tensor:
    """Orthonormal rows, the first k of which span the first k of `gain * basis`: see `LowRankEdit.basis_at`."""
    if gain is None:
        return basis.float()
    scaled = basis.double() * gain.detach().to(basis.device, torch.float64)
    return torch.linalg.qr(scaled.T).Q.T.float()


def _tap(
    kept: _Kept, key: tuple[int, Site], projection: OutputProjection, basis: Tensor
) -> Callable[[nn.Module, tuple, Mapping[str, Any], Tensor | tuple], Tensor | tuple]:
    """A forward hook that leaves the output as it is, takes its products with `basis`, and asks for its gradient."""
    known = None if projection.bias is None else projection.bias.to(basis) @ basis.T

    def hook(module: nn.Module, inputs: tuple, named: Mapping[str, Any], output: Tensor | tuple) -> Tensor | tuple:
        if isinstance(output, tuple):
            return (hook(module, inputs, named, output[0]), *output[1:])
        leaf = torch.zeros_like(output, requires_grad=True)
        # Some families flatten batch and tokens before the MLP.
        products = functional.linear(output.detach().reshape(kept.rows, -1, basis.shape[1]).float(), basis)
        if known is not None:
            shares = projection.weigh_bias(inputs, named)
            products = products - (known if shares is None else (shares.detach() @ known).view(products.shape))
        kept.products[key] = products
        kept.leaves[key] = leaf
        return output + leaf

    return hook


def _run_batch(
    model: OpenModel,
    spans: Sequence[Span],
    numbers: Sequence[int],
    measure: Measure,
    draws: int,
    projections: Mapping[tuple[int, Site], tuple[OutputProjection, Tensor]],
    kept: _Kept,
) -> NDArray[np.float64]:
    """`[draws, spans, places]` slopes of one batch, padded on the right; rows do not mix, so each has its own."""
    with torch.inference_mode(False), torch.enable_grad():
        states = record_trunk(model, [span.ids for span in spans])
        gradients = _differentiate_head(model, states.detach(), spans, numbers, measure, draws)
        leaves = [kept.leaves[key] for key in projections]
        slopes = []
        for draw, gradient in enumerate(gradients):
            found = torch.autograd.grad(states, leaves, gradient, retain_graph=draw + 1 < draws)
            parts = []
            for (key, (_, basis)), own in zip(projections.items(), found, strict=True):
                along = functional.linear(own.reshape(len(spans), -1, basis.shape[1]).float(), basis)
                parts.append(-(along * kept.products[key]).sum(1).to(states.device))
            slopes.append(torch.cat(parts, dim=1))
    return torch.stack(slopes).double().cpu().numpy()


def _differentiate_head(
    model: OpenModel, states: Tensor, spans: Sequence[Span], numbers: Sequence[int], measure: Measure, draws: int
) -> list[Tensor]:
    """For each draw the gradient of the summed measures in the last hidden states `[spans, tokens, hidden]`.

    Logits become float32 before the logarithm, and are held a few places at a time.
    """
    gradients = [torch.zeros_like(states) for _ in range(draws)]
    count = count_rows(model)
    owner, places, targets = find_scored(spans)
    texts = torch.tensor(numbers)[owner]
    within = torch.cat([torch.arange(span.scored) for span in spans])
    for part in (slice(start, start + count) for start in range(0, len(owner), count)):
        picked = states[owner[part], places[part]].requires_grad_()
        logarithms = read_head(model, picked).float().log_softmax(-1)
        sums = measure(texts[part], within[part], logarithms, targets[part].to(states.device)).sum(0)
        for draw, gradient in enumerate(gradients):
            [own] = torch.autograd.grad(sums[draw], picked, retain_graph=draw + 1 < draws)
            gradient[owner[part], places[part]] = own
    return gradients


def _tokens_at_once(anatomy: Anatomy, device: str) -> int:
    """How many tokens a pass may have, by what a block keeps of each for its gradient: some states and MLP widths."""
    numbers = anatomy.layers * (8 * anatomy.hidden + 4 * anatomy.inner)
    return NUMBERS_AT_ONCE.get(device, NUMBERS_AT_ONCE["cpu"]) // numbers
