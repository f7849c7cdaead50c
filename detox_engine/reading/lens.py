"""Logit lens: what a direction of the residual stream means in tokens (method, step 6)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from detox_engine.model.head import find_scale, read_head
from detox_engine.model.load import OpenModel
from detox_engine.model.placement import read_weight
from detox_engine.model.tokens import show_token
from detox_engine.plans.read import Measure


@dataclass(frozen=True)
class TokenScore:
    """A token of the vocabulary and how far it lies along a direction."""

    id: int
    token: str
    """As shown to people: a space is ·, a line break ↵, a byte that is no character of its own <0xE2>."""
    score: float

    @property
    def word(self) -> str:
        """The token, or as much of the word that it begins as is known."""
        return self.token


FEWEST_READ = 5
"""Tokens beyond chance, of both poles together, from which on a direction is readable as words: one or two stand out of
any direction."""


@dataclass(frozen=True)
class Reading:
    """The two ends of a direction, in tokens."""

    toxic_pole: tuple[TokenScore, ...]
    """The tokens with the largest scores, largest first."""

    civil_pole: tuple[TokenScore, ...]
    """The tokens with the smallest scores, smallest first."""

    read: int | None = None
    """Tokens, listed or not, that lie further along the direction than by chance; None where nobody asked."""

    @property
    def is_readable(self) -> bool:
        """False where it is known that the direction says no more in words than a random one."""
        return self.read is None or self.read >= FEWEST_READ


ROWS_AT_ONCE = 8192
"""Rows of the unembedding that are copied to float32 at a time: it can be the largest matrix of all."""

ALIKE = 0.8
"""A row whose cosine with that of a special token is above this was trained as little: in SmolLM2 28 code words and
marks of its data are above 0.9, and words below 0.7."""

SHORT = 4.0
"""A row whose vector is so many robust standard deviations shorter, on a log scale, than the typical one was never
trained."""

CONTROLS = 64
"""Random directions that a lens reading is judged by; the median of their largest cosines is chance. 4 % of random
directions have `FEWEST_READ` tokens beyond it in SmolLM2."""


@torch.inference_mode()
def score_tokens(directions: Tensor, model: OpenModel, measure: Measure = "lens") -> Tensor:
    """Scores `[directions, vocab]` of every token along each of `directions` `[directions, hidden]`, float32.

    Args:
        measure: “lens” is the cosine with the token's vector in the residual stream, its unembedding row minus the
            mean row, times the gain of the final normalisation (the unembedding with the norm folded in and centred,
            as logit lenses read it; nostalgebraist 2020). “product” is the plain product with the row: what a unit
            step along the direction would add to the logit if nothing normalised it, before any soft cap.

    Tokens that a cosine says nothing of are NaN: special ones, those past the tokenizer's vocabulary, and those that
    were hardly trained, whose vectors are like theirs or far shorter than others (Land and Bartolo 2024, arXiv
    2405.05417, section 2).
    """
    unembedding = read_weight(model.anatomy.unembedding, "weight")
    rows = directions.to(unembedding.device).float()
    if measure == "product":
        # Read in its own dtype, never copied to float32 as a whole.
        return (rows.to(unembedding.dtype) @ unembedding.T).float().cpu() * find_scale(model)
    gain = model.anatomy.norm_gain.to(unembedding.device).float()
    words = _list_words(model)
    mean = torch.zeros_like(gain)
    parts = range(0, len(unembedding), ROWS_AT_ONCE)
    for start in parts:
        inside = words[start : start + ROWS_AT_ONCE].to(unembedding.device)
        mean += unembedding[start : start + ROWS_AT_ONCE][inside].float().sum(0)
    mean /= words.sum()
    rows = rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-12)
    special = functional.normalize((unembedding[_list_special(model)].float() - mean) * gain, dim=1)
    scores, likeness = torch.empty(len(rows), len(unembedding)), torch.zeros(len(unembedding))
    lengths = torch.empty(len(unembedding))
    for start in parts:
        part = slice(start, start + ROWS_AT_ONCE)
        vectors = (unembedding[part].float() - mean) * gain
        lengths[part] = vectors.norm(dim=1).cpu()
        vectors = functional.normalize(vectors, dim=1)
        scores[:, part] = (rows @ vectors.T).cpu()
        if len(special):
            likeness[part] = (vectors @ special.T).amax(1).cpu()
    used = words & (likeness <= ALIKE) & ~_are_short(lengths, words)
    return scores.where(used, torch.nan)


def _list_words(model: OpenModel) -> Tensor:
    """`[vocab]` bool: which rows are tokens of the tokenizer, and no special ones."""
    words = torch.zeros(model.anatomy.vocab, dtype=torch.bool)
    words[: len(model.tokenizer)] = True
    words[_list_special(model)] = False
    return words


def _list_special(model: OpenModel) -> list[int]:
    return [id for id in model.tokenizer.all_special_ids if id < model.anatomy.vocab]


def _are_short(lengths: Tensor, words: Tensor) -> Tensor:
    """`[vocab]` bool: whose vectors, of these `lengths`, are outliers among those of `words` on the short side."""
    logs = lengths.clamp(min=1e-12).log()
    centre = logs[words].median()
    spread = 1.4826 * (logs[words] - centre).abs().median()
    return logs < centre - SHORT * spread


def read_tokens(
    directions: Tensor,
    model: OpenModel,
    top: int = 10,
    measure: Measure = "lens",
    judge: bool = False,
) -> tuple[Reading, ...]:
    """Both poles of each of `directions` `[directions, hidden]`, `top` tokens each.

    Rows of the unembedding beyond the tokenizer's vocabulary, which some models have as padding, are left out.

    Args:
        measure: see `score_tokens`.
        judge: also count the tokens beyond chance, whose cosine, of either sign, is above the largest that a random
            direction has with any token, in the median over `CONTROLS` of them. The plain product is not judged.
    """
    tokenizer = model.tokenizer
    scores = score_tokens(directions, model, measure)[:, : len(tokenizer)]
    top = min(top, int((~scores[:1].isnan()).sum()))
    highest, lowest = scores.nan_to_num(-torch.inf).topk(top), scores.nan_to_num(torch.inf).topk(top, largest=False)
    read: list[int | None] = [None] * len(scores)
    if judge and measure == "lens":
        generator = torch.Generator().manual_seed(0)
        random = torch.randn(CONTROLS, directions.shape[1], generator=generator)
        chance = score_tokens(random, model).nan_to_num(0).abs().amax(1).median()
        read = (scores.abs() > chance).sum(1).tolist()

    def listed(values: Sequence[float], ids: Sequence[int]) -> tuple[TokenScore, ...]:
        return tuple(TokenScore(id, show_token(tokenizer, id), value) for value, id in zip(values, ids, strict=True))

    return tuple(
        Reading(
            listed(highest.values[row].tolist(), highest.indices[row].tolist()),
            listed(lowest.values[row].tolist(), lowest.indices[row].tolist()),
            read[row],
        )
        for row in range(len(scores))
    )


TOKENS_READ_AT_ONCE = 64
"""Every token has as many logits as the vocabulary has entries: a few at a time, for the memory's sake."""


@torch.inference_mode()
def read_predictions(model: OpenModel, states: Tensor, top: int = 5) -> tuple[tuple[TokenScore, ...], ...]:
    """The logit lens at each of `states` `[tokens, hidden]`, as a block left them: the `top` most probable next tokens.

    The states go through the final normalisation and the head, as if the blocks above did not exist; after
    the last layer these are the model's own predictions. Scores are probabilities.
    """
    found: list[tuple[list[int], list[float]]] = []
    for part in states.split(TOKENS_READ_AT_ONCE):
        with model.turns:
            logits = read_head(model, model.anatomy.final_norm(part.to(model.device))).float()
        best = logits.softmax(-1)[:, : len(model.tokenizer)].topk(min(top, len(model.tokenizer)))
        found += zip(best.indices.tolist(), best.values.tolist(), strict=True)
    shown = {id: show_token(model.tokenizer, id) for ids, _ in found for id in ids}
    return tuple(
        tuple(TokenScore(id, shown[id], score) for id, score in zip(ids, scores, strict=True)) for ids, scores in found
    )
