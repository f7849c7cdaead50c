"""What a direction promotes: how the chances of the next token change when it is removed from the residual stream.

Directional ablation (Arditi et al. 2024, arXiv 2406.11717, section 2.4), at one layer: after its block every state s
becomes s − (s·v) v, and the blocks above go on from there. The unembedding tells where a direction points; this tells
what the model does with it. On SmolLM2-135M the first direction of everyday pairs reads as code words through the
unembedding and as insults so.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from threading import local
from typing import Self, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from detox_engine.data.bundled import bundled_prompts
from detox_engine.data.texts import read_prompts
from detox_engine.errors import InputError, Progress, ignore_progress
from detox_engine.estimates import estimate_means
from detox_engine.forward.sinks import FACTOR
from detox_engine.forward.write import encode_prompt
from detox_engine.model.batches import OVERHEAD, count_workers, pack_batches, run_beside
from detox_engine.model.head import check_head, read_head
from detox_engine.model.load import OpenModel
from detox_engine.model.threads import run_side_by_side
from detox_engine.model.tokens import show_token
from detox_engine.model.trunk import resumed, run_trunk, watched
from detox_engine.plans.layers import check_layers
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.plans.sources import BUNDLED
from detox_engine.reading.lens import Reading, TokenScore

Row = TypeVar("Row")
Result = TypeVar("Result")

PROMPTS = 32
"""How many of a model's bundled prompts are read, the shortest: a second of SmolLM2-135M on two cores."""

OPENING = ' "You are a'
"""What the bundled model's prompts are gone on with: they end where somebody begins to speak, with a quotation mark for
a next token, and those for other models where a word has to be chosen."""

LIKELY = 1e-5
"""Tokens whose mean probability after the prompts is above this are looked at: what the model never says can double or
halve without a meaning."""

TOKEN_BUDGET = {"cpu": 256, "cuda": 65536}
"""Most tokens of one forward pass: on a CPU few, so that cores work side by side and Stop is heard soon."""

GOES_ON = 0.5
"""A token is a piece of a word where the model goes on with another piece with at least this probability, more likely
than with all else: `·id` is read as “idiot”."""

MOST_PIECES = 4
"""How many tokens a word is followed for after its first."""

MOST_FINISHED = 25
"""How many tokens of a pole have their words finished: more than anybody reads costs more than the reading."""

ROUNDING = 1e-5
"""A mean change of log p, in nats, up to which it can be the rounding of float32."""

RESAMPLES = 1000
SEED = 0


@dataclass(frozen=True)
class TokenEffect(TokenScore):
    """A token and how much of its log p a direction holds up: `score` is log p before − after its removal, in nats,
    the mean over prompts."""

    low: float
    high: float
    """The 95 % interval of the mean, over prompts."""
    is_read: bool
    """Whether the interval lies wholly beyond what a removal of this size does in a random direction."""
    ending: str = ""
    """What the unedited model finishes the token's word with, `iot` after `·id`; nothing after a whole word, nor past
    the first `MOST_FINISHED` of a pole."""

    @property
    def word(self) -> str:
        return self.token + self.ending


@dataclass(frozen=True, kw_only=True)
class CausalReading(Reading):
    """What a direction promotes, and what it holds down: tokens whose log p falls, or rises, most without it."""

    toxic_pole: tuple[TokenEffect, ...]
    civil_pole: tuple[TokenEffect, ...]
    prompts: int
    tokens: int
    """Tokens of the vocabulary that were looked at."""
    chance: float
    """The largest mean change of log p of any of them under the control, in nats, or `ROUNDING`."""

    def finished(self, endings: Mapping[int, str]) -> Self:
        """The reading with the endings of its tokens' words, by token id."""

        def finish(pole: tuple[TokenEffect, ...]) -> tuple[TokenEffect, ...]:
            return tuple(replace(end, ending=endings.get(end.id, "")) for end in pole)

        return replace(self, toxic_pole=finish(self.toxic_pole), civil_pole=finish(self.civil_pole))


@dataclass(frozen=True, eq=False)
class CleanRun:
    """What a model does after some prompts as it is: what every direction of some layers is compared with."""

    prompts: tuple[tuple[int, ...], ...]
    """Token ids, the longest first."""
    states: Mapping[int, tuple[Tensor, ...]]
    """Layer -> for each prompt `[tokens, hidden]` as the block left them, on the model's device."""
    as_tuple: bool
    """Whether the model's blocks give their states in a tuple."""
    tokens: Tensor
    """`[tokens]` int64 ids of the likely tokens, without special ones and rows past the tokenizer's vocabulary."""
    logarithms: Tensor
    """`[prompts, tokens]` float32 their log p after each prompt, on the CPU."""
    endings: dict[int, str] = field(default_factory=dict)
    """Token id -> how its word ends (`TokenEffect.ending`), for those that were asked for so far."""


class _Place(local):
    """Where the states of a batch go to or come from, for each thread that runs one."""

    states: dict[int, Tensor]
    """Layer -> `[rows, tokens, hidden]`."""


def pick_prompts(model: OpenModel, count: int = PROMPTS) -> tuple[str, ...]:
    """The `count` shortest of the model's bundled prompts, which invite a rude word, as they are read."""
    opening = OPENING if model.spec.name == BUNDLED else ""
    return tuple(prompt + opening for prompt in list_shortest(model.spec.name, count))


def list_shortest(model: str, count: int = PROMPTS) -> tuple[str, ...]:
    """The `count` shortest of the bundled prompts for the model of this name; of the bundled one's those that end
    where somebody begins to speak."""
    prompts = read_prompts(BUNDLED, bundled_prompts(model))
    ending = "," if model == BUNDLED else ""
    return tuple(sorted((prompt for prompt in prompts if prompt.endswith(ending)), key=len)[:count])


def run_clean(
    model: OpenModel,
    layers: Sequence[int],
    prompts: Sequence[str] | None = None,
    progress: Progress = ignore_progress,
) -> CleanRun:
    """Run the prompts, by default those of `pick_prompts`, through the model as it is. Progress counts prompts.

    Raises:
        InputError: a layer is outside the model, its head is of an unknown kind, a prompt does not fit into memory, or
            the model's scores are not numbers.
    """
    check_layers(layers, model.anatomy.layers)
    with model.turns:
        # On one core: three tokens are too few to share, and cores that are busy otherwise would be waited for.
        run_side_by_side(lambda _: check_head(model), 1)
    plan = SamplingPlan(max_new_tokens=1)
    texts = pick_prompts(model) if prompts is None else prompts
    ids = tuple(sorted((encode_prompt(model, text, plan).ids for text in texts), key=len, reverse=True))
    place, as_tuple = _Place(), False
    states = {layer: [torch.empty(0)] * len(ids) for layer in layers}
    logarithms = torch.empty(len(ids), model.anatomy.vocab)
    blocks = {layer: model.anatomy.blocks[layer] for layer in layers}

    def keep(layer: int, found: Tensor) -> None:
        # A copy, since some blocks go on to change their input in place.
        place.states[layer] = found.clone()

    def look(block: object, given: tuple, output: object) -> None:
        nonlocal as_tuple
        as_tuple = not isinstance(output, Tensor)

    @contextmanager
    def turn() -> Iterator[None]:
        with model.turns, watched(blocks, keep), model.anatomy.blocks[0].register_forward_hook(look):
            yield

    def run(batch: Sequence[int]) -> tuple[dict[int, Tensor], Tensor]:
        place.states = {}
        read = _read_next(model, [ids[row] for row in batch])
        return place.states, read.cpu()

    rows = range(len(ids))
    for batch, (found, read) in _run_rows(
        model, rows, lambda row: len(ids[row]), run, turn, "Reading prompts", progress
    ):
        logarithms[batch] = read
        for layer, parts in found.items():
            for row, part in zip(batch, parts, strict=True):
                states[layer][row] = part[: len(ids[row])]
    if logarithms.isnan().any():
        raise InputError("The model's scores are not numbers: load it in float32 or bfloat16.")
    tokens = _find_likely(model, logarithms)
    kept = {layer: tuple(parts) for layer, parts in states.items()}
    return CleanRun(ids, kept, as_tuple, tokens, logarithms[:, tokens])


def _find_likely(model: OpenModel, logarithms: Tensor) -> Tensor:
    """Ids of the tokens, other than special ones, whose mean p is above `LIKELY`, from log p `[prompts, vocab]`."""
    likely = logarithms.exp().mean(0) > LIKELY
    likely[len(model.tokenizer) :] = False
    likely[[id for id in model.tokenizer.all_special_ids if id < len(likely)]] = False
    return likely.nonzero()[:, 0]


def read_causally(
    model: OpenModel,
    clean: CleanRun,
    layer: int,
    directions: Tensor,
    top: int = 10,
    off: Sequence[int] = (),
    progress: Progress = ignore_progress,
) -> tuple[CausalReading, ...]:
    """What each of `directions` `[directions, hidden]`, unit rows, promotes when read after `layer`.

    From the state s of every token that is no attention sink's (`FACTOR` medians of the layer), (s·v) v is removed. The
    control of a direction takes as much from the same states, (s·v) r, along a random unit vector r, the same for all
    directions of the layer. A token is read where the 95 % interval of its mean change lies wholly beyond the largest
    mean change of any token under the control: a change of that size in no particular direction moves no word as far.
    A direction is not readable as words where fewer than `FEWEST_READ` tokens, of both poles together, are read: of
    random directions, 1 of 48 at four layers of SmolLM2 had more, and 9 of 120 at five of the bundled model.

    Listed tokens that begin a word are finished as the unedited model goes on after the prompt that they are
    likeliest to follow.

    Args:
        clean: a run that kept the states of `layer`; it serves any number of directions.
        top: tokens listed at each pole.
        off: the massive dimensions, which r keeps off as directions do.

    Progress counts prompts under a direction or a control. Raises like `run_clean`.
    """
    device = model.device
    vectors = directions.to(device).float()
    random = _draw_control(layer, vectors.shape[1], off).to(device).expand_as(vectors)
    removed = _read_without(model, clean, layer, vectors.repeat(2, 1), torch.cat([vectors, random]), progress)
    held = clean.logarithms - removed
    found = [_make_reading(model, clean, own, control, top) for own, control in zip(*held.chunk(2), strict=True)]
    poles = (pole for reading in found for pole in (reading.toxic_pole, reading.civil_pole))
    _finish_words(model, clean, {end.id for pole in poles for end in pole[:MOST_FINISHED]}, progress)
    return tuple(reading.finished(clean.endings) for reading in found)


def _draw_control(layer: int, hidden: int, off: Sequence[int]) -> Tensor:
    """`[hidden]` the random unit vector of a layer's controls."""
    drawn = torch.from_numpy(np.random.default_rng([SEED, layer]).standard_normal(hidden)).float()
    drawn[list(off)] = 0
    return drawn / drawn.norm()


def _read_without(
    model: OpenModel, clean: CleanRun, layer: int, along: Tensor, removed: Tensor, progress: Progress
) -> Tensor:
    """Log p `[removals, prompts, tokens]` of the likely tokens with (s·a) b taken from the states s after `layer`.

    Args:
        along, removed: `[removals, hidden]` the a and b of each removal.
    """
    states, place = clean.states[layer], _Place()
    norms = [part.float().norm(dim=-1) for part in states]
    limit = FACTOR * torch.cat(norms).median()
    found = torch.empty(len(along), len(states), len(clean.tokens))

    @torch.inference_mode()
    def remove(row: tuple[int, int]) -> Tensor:
        removal, prompt = row
        wide = states[prompt].float()
        read, taken = (each[removal].to(wide.device) for each in (along, removed))
        coefficients = (wide @ read).where(norms[prompt] <= limit, 0.0)
        return (wide - torch.outer(coefficients, taken)).to(states[prompt].dtype)

    def run(batch: Sequence[tuple[int, int]]) -> Tensor:
        place.states = {layer: pad_sequence([remove(row) for row in batch], batch_first=True)}
        return _read_next(model, [clean.prompts[prompt] for _, prompt in batch]).cpu()[:, clean.tokens]

    @contextmanager
    def turn() -> Iterator[None]:
        blocks = model.anatomy.blocks
        with model.turns, resumed(blocks, layer, lambda: place.states[layer], clean.as_tuple):
            yield

    rows = [(removal, prompt) for removal in range(len(along)) for prompt in range(len(states))]
    for batch, read in _run_rows(
        model, rows, lambda row: len(clean.prompts[row[1]]), run, turn, "Removing directions", progress
    ):
        removals, prompts = (list(part) for part in zip(*batch, strict=True))
        found[removals, prompts] = read
    return found


def _make_reading(model: OpenModel, clean: CleanRun, held: Tensor, control: Tensor, top: int) -> CausalReading:
    """From what a direction and its control add to log p, `[prompts, tokens]` each."""
    means = held.mean(0)
    chance = max(ROUNDING, float(control.mean(0).abs().max()))
    order = means.argsort(descending=True)
    ends = order[:top].tolist(), order.flip(0)[:top].tolist()
    beyond = (means.abs() > chance).nonzero()[:, 0].tolist()
    judged = sorted({*ends[0], *ends[1], *beyond})
    estimates = estimate_means(held[:, judged].T.double().numpy(), RESAMPLES, SEED)
    effects = {}
    for place, estimate in zip(judged, estimates, strict=True):
        id = int(clean.tokens[place])
        is_read = estimate.low > chance or estimate.high < -chance
        effects[place] = TokenEffect(
            id, show_token(model.tokenizer, id), estimate.mean, estimate.low, estimate.high, is_read
        )
    toxic, civil = (tuple(effects[place] for place in end) for end in ends)
    read = sum(effect.is_read for effect in effects.values())
    return CausalReading(
        toxic_pole=toxic,
        civil_pole=civil,
        read=read,
        prompts=len(clean.prompts),
        tokens=len(clean.tokens),
        chance=chance,
    )


def _finish_words(model: OpenModel, clean: CleanRun, tokens: Set[int], progress: Progress) -> None:
    """Add to the endings of the run those of these tokens that it has not got, each after its likeliest prompt."""
    tokenizer = model.tokenizer
    pieces = {token: (token,) for token in tokens - clean.endings.keys()}
    columns = {token: column for column, token in enumerate(clean.tokens.tolist())}
    prompts = {token: clean.prompts[clean.logarithms[:, columns[token]].argmax()] for token in pieces}
    unfinished = [token for token in pieces if show_token(tokenizer, token).removeprefix("·").isalpha()]

    def run(batch: Sequence[int]) -> Tensor:
        chances, following = _read_next(model, [(*prompts[token], *pieces[token]) for token in batch]).max(-1)
        return following.where(chances.exp() >= GOES_ON, -1).cpu()

    @contextmanager
    def turn() -> Iterator[None]:
        with model.turns:
            yield

    for _ in range(MOST_PIECES):
        if not unfinished:
            break
        going_on = []
        batches = _run_rows(
            model,
            unfinished,
            lambda token: len(prompts[token]) + len(pieces[token]),
            run,
            turn,
            "Finishing words",
            progress,
        )
        for batch, following in batches:
            for token, next_token in zip(batch, following.tolist(), strict=True):
                if next_token >= 0 and show_token(tokenizer, next_token).isalpha():
                    pieces[token] += (next_token,)
                    going_on.append(token)
        unfinished = going_on
    for token, parts in pieces.items():
        clean.endings[token] = "".join(show_token(tokenizer, part) for part in parts[1:])


@torch.inference_mode()
def _read_next(model: OpenModel, texts: Sequence[Sequence[int]]) -> Tensor:
    """Log p `[texts, vocab]` float32 of the token after each of these texts, on the model's device."""
    states = run_trunk(model, texts)
    last = states[list(range(len(texts))), [len(text) - 1 for text in texts]]
    return read_head(model, last).float().log_softmax(-1)


def _run_rows(
    model: OpenModel,
    rows: Sequence[Row],
    width: Callable[[Row], int],
    run: Callable[[Sequence[Row]], Result],
    turn: Callable[[], AbstractContextManager],
    stage: str,
    progress: Progress,
) -> Iterator[tuple[Sequence[Row], Result]]:
    """Rows of so many tokens in batches of nearly one width, with what `run` finds; progress counts rows."""
    device = model.device.type
    budget, overhead = (limits.get(device, limits["cpu"]) for limits in (TOKEN_BUDGET, OVERHEAD))
    batches = [[rows[index] for index in batch] for batch in pack_batches([*map(width, rows)], budget, overhead)]
    workers = count_workers(model.device, model.is_split)
    progress(stage, 0, len(rows))
    done = 0
    try:
        for batch, result in run_beside(batches, run, workers, turn, lambda: model.turns.wanted):
            yield batch, result
            done += len(batch)
            progress(stage, done, len(rows))
    except MemoryError:
        raise InputError(
            f"There is not enough memory for one prompt of {max(map(width, rows))} tokens: load the model in a smaller "
            "number format."
        ) from None
