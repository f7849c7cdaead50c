"""How well a model predicts given text under several edits at once, and how far its predictions move."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detox_engine.data.columns import Pair
from detox_engine.data.texts import Text
from detox_engine.edit.change import Change, adjust_logits
from detox_engine.edit.low_rank import LowRankEdit
from detox_engine.errors import InputError, Progress, ignore_progress
from detox_engine.forward.shared_layers import run_edits
from detox_engine.model.batches import run_in_batches
from detox_engine.model.head import check_head, read_head
from detox_engine.model.load import OpenModel
from detox_engine.model.tokens import put_before, tokenize_text

LOGITS_AT_ONCE = {"cpu": 2**20, "cuda": 2**28}
"""Entries of `[rows, vocab]` held at a time, a row being a position under an edit; a device of another kind gets the
CPU's. On a CPU they stay in its caches: of the bundled model two cores read 65,000 rows a second so, and 48,000 with
eight times as many."""

LEAST_ROWS, MOST_LOGITS = 128, 2**24
"""Rows that are read together even so, as long as they are no more entries than these: a large unembedding is read from
memory for each few of them. Two cores read 1,300 rows a second of SmolLM2's 49,152 tokens by 128 of them and 840 by 21;
of Gemma 3's 262,144 tokens 144 by 64 and 48 by 4."""

ROUNDING = 1e-5
"""A divergence this far below 0 is the rounding of float32 logarithms over a vocabulary."""

MATCHING = (1.0, 3.0, 9.0)
"""Multiples of an edit's strength at which a control is read, to find the strength that moves predictions as far."""
MATCHING_TOKENS = 1024
"""Tokens that a control is matched by; four times as many change its strength by 2 to 7 % on the bundled model."""


@dataclass(frozen=True)
class Span:
    """Tokens that the model reads at once, of which the last `scored` count; the rest are context."""

    ids: tuple[int, ...]
    scored: int


@dataclass(frozen=True, eq=False)
class Likelihoods:
    """Sums over the scored tokens of each span, under each edit."""

    surprise: NDArray[np.float64]
    """`[edits, spans]` −log p of the tokens, in nats."""
    divergence: NDArray[np.float64]
    """`[edits, spans]` KL(first edit ‖ this edit) of the next-token distributions, in nats."""
    greedy: NDArray[np.bool_]
    """`[edits, spans]` whether every scored token is the most probable one."""
    tokens: NDArray[np.int64]
    """`[spans]` how many tokens are scored."""
    mass: NDArray[np.float64]
    """`[edits, spans]` probability that the listed tokens together have at each scored place; 0 where none are."""


@dataclass(frozen=True)
class Match:
    """The strength at which a control moves the model's predictions as far as the edit does."""

    strength: float
    divergence: float
    """KL(unedited ‖ control) there, in nats a token."""
    wanted: float
    """That of the edit."""

    @property
    def reached(self) -> bool:
        """Whether they are equal; else even the strongest control that was tried stays below the edit."""
        return self.divergence >= self.wanted


def cut_windows(ids: Sequence[int], window: int, stride: int) -> list[Span]:
    """Spans that score every token of `ids` but the first exactly once, each with as much context as fits.

    The windows are those of the transformers documentation (“Perplexity of fixed-length models”): they begin
    every `stride` tokens, and score what the window before did not reach.

    Args:
        window: longest span in tokens.
        stride: below `window`, so that no token is left without context.
    """
    spans, reached = [], 0
    for begin in range(0, len(ids), stride):
        end = min(begin + window, len(ids))
        # The first token of a text has nothing to be predicted from.
        spans.append(Span(tuple(ids[begin:end]), min(end - reached, end - begin - 1)))
        reached = end
        if end == len(ids):
            break
    return [span for span in spans if span.scored > 0]


def read_likelihoods(
    model: OpenModel,
    spans: Sequence[Span],
    edits: Sequence[Change | None],
    progress: Progress = ignore_progress,
    stage: str = "Reading text",
    listed: Sequence[int] = (),
) -> Likelihoods:
    """Read `spans` under every one of `edits`; all edits of a span share one pass, and each what lies below it.

    Logits become float32 before the logarithm, a few positions at a time. Progress counts spans.

    Args:
        listed: tokens whose probability is summed up, whichever token follows.

    Raises:
        InputError: one span alone does not fit into memory, or the model's scores are not numbers.
    """
    shape = len(edits), len(spans)
    surprise, divergence, misses, mass = (np.zeros(shape) for _ in range(4))
    tokens = np.array([span.scored for span in spans], dtype=np.int64)
    with model.turns:
        check_head(model)
    ahead = max((len(edit.prefix) for edit in edits if edit is not None), default=0)
    longest = max((len(span.ids) for span in spans), default=0)
    if model.context is not None and longest + ahead > model.context:
        raise InputError(
            f"An instruction of {ahead} tokens and a text of {longest} are more than this model's context of "
            f"{model.context}: choose a smaller window, or a shorter instruction."
        )

    def run(batch: Sequence[int]) -> list[tuple[Tensor, ...]]:
        with model.turns:
            return _read_batch(model, [spans[index] for index in batch], edits, listed)

    progress(stage, 0, len(spans))
    done = 0
    try:
        width = len(edits)
        for index, sums in run_in_batches(
            range(len(spans)), lambda index: width * len(spans[index].ids), run, model.device
        ):
            for total, part in zip((surprise, divergence, misses, mass), sums, strict=True):
                total[:, index] = part.numpy()
            done += 1
            progress(stage, done, len(spans))
    except MemoryError as error:
        raise InputError(
            f"Not enough memory to read {longest} tokens under {len(edits)} edits at once: choose a smaller window, "
            "fewer random subspaces, or load the model in a smaller number format."
        ) from error
    if not np.isfinite(surprise).all():
        raise InputError(
            "The model's scores of the text are not numbers: load it in float32 or bfloat16, or lower the strength "
            "of the edit."
        )
    return Likelihoods(surprise, divergence, misses == 0, tokens, mass)


def match_controls(
    model: OpenModel,
    spans: Sequence[Span],
    edit: LowRankEdit,
    controls: Sequence[LowRankEdit],
    progress: Progress = ignore_progress,
) -> tuple[Match, ...]:
    """For each control the strength at which its KL from the unedited model, on these texts, equals that of `edit`.

    To first order KL grows with the square of the strength. It is read at the strengths `MATCHING`, taken to be a
    power of the strength in between, read once more where that puts it, and found again. No control is made more
    than 9 times as strong as the edit.
    """
    spans = take_spans(spans, MATCHING_TOKENS)

    def read(rows: Sequence[LowRankEdit]) -> NDArray[np.float64]:
        found = read_likelihoods(model, spans, [None, *rows], progress, "Matching controls")
        return found.divergence.sum(1)[1:] / found.tokens.sum()

    tried = [control.at_strength(times * edit.strength) for control in controls for times in MATCHING]
    wanted, *moved = read([edit, *tried]).tolist()
    curves = [
        dict(zip(MATCHING, moved[start : start + len(MATCHING)], strict=True))
        for start in range(0, len(moved), len(MATCHING))
    ]
    guesses = [match_divergence(curve, wanted)[0] for curve in curves]
    near = read([each.at_strength(guess * edit.strength) for each, guess in zip(controls, guesses, strict=True)])
    found = [
        match_divergence(curve | ({guess: there} if guess > 0 else {}), wanted)
        for curve, guess, there in zip(curves, guesses, near.tolist(), strict=True)
    ]
    return tuple(Match(times * edit.strength, divergence, wanted) for times, divergence in found)


def take_spans(spans: Sequence[Span], tokens: int) -> tuple[Span, ...]:
    """The first of `spans` that have as many scored tokens together, or all."""
    before = accumulate((span.scored for span in spans), initial=0)
    return tuple(span for span, counted in zip(spans, before, strict=False) if counted < tokens)


def match_divergence(moved: Mapping[float, float], wanted: float) -> tuple[float, float]:
    """The multiple of a strength at which the divergence is `wanted`, and the divergence there.

    Args:
        moved: multiple -> the divergence at it.
    """
    times, levels = zip(*sorted(moved.items()), strict=True)
    place = next((place for place, level in enumerate(levels) if level >= wanted), None)
    if place is None:
        return times[-1], levels[-1]
    if levels[place] <= 0:
        return 0.0, 0.0
    power = 2.0
    if place and levels[place - 1] > 0:
        power = math.log(levels[place] / levels[place - 1]) / math.log(times[place] / times[place - 1])
    return times[place] * (wanted / levels[place]) ** (1 / power), wanted


@torch.inference_mode()
def _read_batch(
    model: OpenModel, spans: Sequence[Span], edits: Sequence[Change | None], listed: Sequence[int]
) -> list[tuple[Tensor, ...]]:
    """For each span, summed over its scored tokens: surprise, divergence, misses and mass, `[edits]` each."""
    states, shifts = _run_edits(model, [span.ids for span in spans], edits)
    owner, places, targets = find_scored(spans)
    under = torch.arange(len(edits))
    chosen = torch.tensor(listed, dtype=torch.long, device=states.device)
    count = max(1, count_rows(model) // len(edits))
    parts = [slice(start, start + count) for start in range(0, len(owner), count)]
    read = [
        _read_positions(
            model,
            states[owner[part, None], under, places[part, None] + shifts[owner[part]]],
            targets[part].to(states.device),
            chosen,
            edits,
        )
        for part in parts
    ]
    sums = [
        torch.zeros(len(spans), len(edits), dtype=torch.float64).index_add_(0, owner, torch.cat(each).double().cpu())
        for each in zip(*read, strict=True)
    ]
    return list(zip(*sums, strict=True))


def count_rows(model: OpenModel) -> int:
    """How many hidden states have their logits at one time, 1 or more."""
    device, vocab = model.device.type, model.anatomy.vocab
    usual = LOGITS_AT_ONCE.get(device, LOGITS_AT_ONCE["cpu"]) // vocab
    return max(1, usual, min(LEAST_ROWS, MOST_LOGITS // vocab))


def find_scored(spans: Sequence[Span]) -> tuple[Tensor, Tensor, Tensor]:
    """Every scored token of `spans`: its span, the place at which it is predicted, and its id, `[scored]` each."""
    owner = torch.tensor([row for row, span in enumerate(spans) for _ in range(span.scored)])
    # The token at place t is predicted at place t − 1.
    places = torch.tensor([len(span.ids) - span.scored - 1 + step for span in spans for step in range(span.scored)])
    targets = torch.tensor([token for span in spans for token in span.ids[len(span.ids) - span.scored :]])
    return owner, places, targets


def _run_edits(
    model: OpenModel, texts: Sequence[Sequence[int]], edits: Sequence[Change | None]
) -> tuple[Tensor, Tensor]:
    """Last hidden states `[texts, edits, tokens, hidden]`, and how far prefixes shift each text, `[texts, edits]`.

    What the edits of a text share is run once.
    """
    prefixes = [edit.prefix if edit is not None else () for edit in edits]
    given = {prefix: place for place, prefix in enumerate(dict.fromkeys(prefixes))}
    before = [put_before(model.tokenizer, prefix, text) for prefix in given for text in texts]
    longer = [
        [len(before[given[prefix] * len(texts) + place]) - len(text) for prefix in prefixes]
        for place, text in enumerate(texts)
    ]
    rows = [
        (given[prefix] * len(texts) + text, edit)
        for text in range(len(texts))
        for prefix, edit in zip(prefixes, edits, strict=True)
    ]
    return run_edits(model, before, rows).unflatten(0, (len(texts), len(edits))), torch.tensor(longer)


def _read_positions(
    model: OpenModel, states: Tensor, targets: Tensor, listed: Tensor, edits: Sequence[Change | None]
) -> tuple[Tensor, ...]:
    """Surprise, divergence from the first edit, whether another token was more probable, and the probability of the
    listed ones: `[positions, edits]` each.

    Args:
        states: `[positions, edits, hidden]`.
        targets: `[positions]` the token that follows.
        listed: `[listed]` token ids.
    """
    logits = read_head(model, states).float()
    logarithms = adjust_logits(logits.transpose(0, 1), edits).transpose(0, 1).log_softmax(-1)
    followed = logarithms.gather(-1, targets[:, None, None].expand(-1, states.shape[1], 1))[..., 0]
    missed = logarithms.amax(-1) > followed
    first = logarithms[:, :1]
    divergence = torch.einsum("pv,pev->pe", first[:, 0].exp(), first - logarithms)
    mass = logarithms[..., listed].exp().sum(-1)
    return -followed, divergence.where((divergence > 0) | (divergence < -ROUNDING), 0.0), missed, mass


def cut_spans(model: OpenModel, text: Text, window: int, stride: int) -> tuple[Span, ...]:
    """What the model reads at once: each line by itself, or windows over the running text.

    The first token of a line, or of the running text, is only context: nothing comes before it.

    Raises:
        InputError: no token is left to score.
    """
    window = min(window, model.context or window)
    stride = stride if stride < window else max(1, window // 2)
    parts = [text.joint.join(text.lines)] if text.running else text.lines
    spans = [span for part in parts for span in cut_windows(tokenize_text(model.tokenizer, part).ids, window, stride)]
    if not spans:
        raise InputError("The neutral text has no line of two tokens or more: there is nothing to predict in it.")
    return tuple(spans)


def cut_continuations(model: OpenModel, pairs: Sequence[Pair], longest: int) -> tuple[tuple[Span, Span], ...]:
    """The toxic and the civil side of every pair: the prompt is context, the continuation is scored.

    A token that spans the end of the prompt is the continuation's. The first token of a text is only context, since
    nothing comes before it. Texts are cut at their end to `longest` tokens and to the model's context; pairs of which
    a side then has nothing to score are left out.
    """
    longest = min(longest, model.context or longest)
    cut = []
    for pair in pairs:
        prompt = tokenize_text(model.tokenizer, pair.prompt).ids if pair.prompt else ()
        texts = (tokenize_text(model.tokenizer, text).ids for text in (pair.toxic_text, pair.civil_text))
        cut.append(tuple(_after(prompt, ids[:longest]) for ids in texts))
    return tuple(sides for sides in cut if all(span.scored > 0 for span in sides))


def _after(prompt: Sequence[int], ids: Sequence[int]) -> Span:
    """The text `ids`, scored from where it leaves the prompt's tokens."""
    shared = next((place for place, (one, other) in enumerate(zip(prompt, ids, strict=False)) if one != other), None)
    start = min(len(prompt), len(ids)) if shared is None else shared
    return Span(tuple(ids), len(ids) - max(1, start))
