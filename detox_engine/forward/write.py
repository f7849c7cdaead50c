"""Rows of prompts and edits turned into tokens: the loop that writes, and the pass that reads probabilities."""

from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache

from detox_engine.edit.change import Change, adjust_logits
from detox_engine.edit.in_pass import edited
from detox_engine.errors import InputError
from detox_engine.forward.decoding import run_on
from detox_engine.forward.few_rows import few_rows_shared
from detox_engine.forward.sampling import choose_tokens, read_choice
from detox_engine.forward.shared_layers import run_prompts, try_passes
from detox_engine.model.anatomy import Anatomy
from detox_engine.model.batches import pad_left, run_in_batches, run_model
from detox_engine.model.load import OpenModel
from detox_engine.model.tokens import speak, tokenize_text
from detox_engine.plans.sampling import SamplingPlan

LOGITS_OF_A_TOKEN = 4096
"""How many logits take about as much memory as a token's states and cache."""


class Prompt(NamedTuple):
    """A prompt as the model gets it."""

    text: str
    ids: tuple[int, ...]
    cut: int
    """Tokens dropped on the left."""


class Row(NamedTuple):
    """One continuation to write: a prompt, a sample, and the edit that it carries or None."""

    prompt: Prompt
    sample: int
    edit: Change | None


class Written(NamedTuple):
    """The tokens of a continuation, and the probability the model gave each of them."""

    ids: tuple[int, ...]
    probabilities: tuple[float, ...]


class Scored(NamedTuple):
    """Tokens whose probabilities are to be read: those of `ids` from `start` on, after a prompt, under an edit."""

    prompt: Prompt
    ids: tuple[int, ...]
    start: int
    edit: Change | None


CHARACTERS_A_TOKEN = 32
"""Characters that a token of the context may stand for at most: words of a dozen are one token."""
LONGEST_PROMPT = 32_768
"""Tokens of a prompt for a model whose context is not known."""


def encode_prompt(model: OpenModel, text: str, plan: SamplingPlan, prefix: Sequence[int] = ()) -> Prompt:
    """The prompt's tokens, cut from the left where they and the new tokens would not fit into the context.

    Args:
        prefix: tokens that stand in front of it and are never cut.
    """
    if plan.chat:
        return _encode_turn(model, text, plan, prefix)
    tokenizer = model.tokenizer
    # A tokenizer takes minutes and gigabytes for megabytes, of which a context holds the end.
    most = CHARACTERS_A_TOKEN * (model.context or LONGEST_PROMPT)
    ids = list(tokenize_text(tokenizer, text[-most:]).ids)
    before = round(max(0, len(text) - most) * len(ids) / most)
    if not ids:
        start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        if start is None:
            raise InputError("A prompt is empty and this model has no token that starts a text: write a prompt.")
        ids = [start]
    if prefix and ids[0] == tokenizer.bos_token_id:
        ids = ids[1:]
    if model.context is None:
        return Prompt(text, (*prefix, *ids), 0)
    room = model.context - plan.max_new_tokens - len(prefix)
    # A token that starts every text stays in its place.
    head = ids[:1] if ids[:1] == [tokenizer.bos_token_id] else []
    if room <= len(head):
        raise InputError(
            f"{plan.max_new_tokens} new tokens leave no room for a prompt in this model's context of "
            f"{model.context} tokens: ask for {model.context - len(prefix) - len(head) - 1} or fewer."
        )
    cut = max(0, len(ids) - room)
    return Prompt(text, (*prefix, *head, *ids[len(head) + cut :]), cut + before)


def _encode_turn(model: OpenModel, text: str, plan: SamplingPlan, prefix: Sequence[int]) -> Prompt:
    """The prompt as what a person says, up to where the model answers; its beginning is cut where it is too long."""
    if prefix:
        raise InputError("An instruction comes by the chat template already: leave the chat template of prompts out.")
    tokenizer, room = model.tokenizer, model.context and model.context - plan.max_new_tokens
    most = CHARACTERS_A_TOKEN * (model.context or LONGEST_PROMPT)
    said = list(tokenizer(text[-most:], add_special_tokens=False)["input_ids"])
    ids, kept = speak(tokenizer, text[-most:]), len(said)
    while room is not None and len(ids) > room:
        kept -= len(ids) - room
        if kept <= 0:
            raise InputError(
                f"{plan.max_new_tokens} new tokens leave no room for a prompt in its chat template, in this model's "
                f"context of {model.context} tokens: ask for fewer."
            )
        ids = speak(tokenizer, tokenizer.decode(said[-kept:]))
    return Prompt(text, ids, len(said) - kept + round(max(0, len(text) - most) * len(said) / most))


def write_rows(
    model: OpenModel,
    rows: Sequence[Row],
    plan: SamplingPlan,
    tick: Callable[[float], None],
    static: bool | None = None,
) -> dict[Row, Written]:
    """The continuation of each of these different rows; `tick` gets the share of the work done, at every step.

    Args:
        static: see `run_on`; for tests alone.
    """
    written: dict[Row, Written] = {}

    def run(batch: Sequence[Row]) -> list[Written]:
        def tell(share: float) -> None:
            tick((len(written) + share * len(batch)) / len(rows))

        with model.turns:
            return _write_batch(model, batch, plan, tell, static)

    def width(row: Row) -> int:
        return len(row.prompt.ids) + plan.max_new_tokens + _count_logits(model.anatomy, 1)

    try:
        for together in _apart_by_length(model, rows, lambda row: len(row.prompt.ids)):
            for row, result in run_in_batches(together, width, run, model.device):
                written[row] = result
    except MemoryError as error:
        longest = max(len(row.prompt.ids) for row in rows) + plan.max_new_tokens
        raise InputError(_describe_memory(model, longest)) from error
    tick(1.0)
    return written


def score_texts(
    model: OpenModel, texts: Sequence[Scored], tick: Callable[[float], None]
) -> dict[Scored, tuple[float, ...]]:
    """The probability of every token of each text from its start on, in one pass over prompt and tokens."""
    scored: dict[Scored, tuple[float, ...]] = {}

    def run(batch: Sequence[Scored]) -> list[tuple[float, ...]]:
        tick(len(scored) / len(texts))
        with model.turns:
            return _score_batch(model, batch)

    def width(text: Scored) -> int:
        return len(text.prompt.ids) + len(text.ids) + _count_logits(model.anatomy, len(text.ids) - text.start)

    try:
        for together in _apart_by_length(model, texts, lambda text: len(text.prompt.ids) + len(text.ids)):
            for text, result in run_in_batches(together, width, run, model.device):
                scored[text] = result
    except MemoryError as error:
        longest = max(len(text.prompt.ids) + len(text.ids) for text in texts)
        raise InputError(_describe_memory(model, longest)) from error
    tick(1.0)
    return scored


def _apart_by_length(model: OpenModel, rows: Sequence[Any], length: Callable[[Any], int]) -> list[list[Any]]:
    """The rows that may share a batch: all, unless padding would change what the model makes of them."""
    with model.turns:
        if try_passes(model).pads:
            return [list(rows)]
    lengths = sorted({length(row) for row in rows}, reverse=True)
    return [[row for row in rows if length(row) == each] for each in lengths]


def _count_logits(anatomy: Anatomy, tokens: int) -> int:
    """The logits of `tokens` tokens as tokens of the batch's budget: they can weigh more than the states."""
    return tokens * anatomy.vocab // LOGITS_OF_A_TOKEN


def _describe_memory(model: OpenModel, tokens: int) -> str:
    size = model.network.dtype.itemsize
    needed = tokens * 2 * model.anatomy.layers * model.anatomy.hidden * size + 4 * 4 * model.anatomy.vocab
    return (
        f"Not enough memory for even one text of {tokens} tokens, which takes about {max(1, needed >> 20)} MB beside "
        "the model: shorten the prompts, ask for fewer new tokens, or choose a smaller model or bfloat16."
    )


@torch.inference_mode()
def _write_batch(
    model: OpenModel,
    rows: Sequence[Row],
    plan: SamplingPlan,
    tick: Callable[[float], None],
    static: bool | None,
) -> list[Written]:
    """Continuations of these rows."""
    tick(0.0)
    ends = find_ends(model)
    ids: list[list[int]] = [[] for _ in rows]
    probabilities: list[list[float]] = [[] for _ in rows]
    logits, past, given, mask = _start(model, rows)
    live, last = list(range(len(rows))), plan.max_new_tokens - 1
    decoding = run_on(model, [row.edit for row in rows], past, given, mask, last, static)
    with few_rows_shared(model.network), decoding:
        for step in range(plan.max_new_tokens):
            texts, samples = [rows[row].prompt.text for row in live], [rows[row].sample for row in live]
            logits = adjust_logits(logits, [rows[row].edit for row in live])
            tokens, chosen = choose_tokens(logits, plan, texts, samples, step)
            going = []
            for place, (row, token, own) in enumerate(zip(live, *read_choice(tokens, chosen), strict=True)):
                _check_scores(own, rows[row])
                if token not in ends:
                    ids[row].append(token)
                    probabilities[row].append(own)
                    going.append(place)
            tick((step + 1) / plan.max_new_tokens)
            if not going or step == last:
                break
            live = [live[place] for place in going]
            logits = decoding.advance(tokens, going)
    return [Written(tuple(ids[row]), tuple(probabilities[row])) for row in range(len(rows))]


def _start(model: OpenModel, rows: Sequence[Row]) -> tuple[Tensor, DynamicCache | None, Tensor, Tensor]:
    """First logits `[rows, vocab]`, the cache, the ids and the mask of these rows.

    Samples of one cell share its pass.
    """
    prompts = list(dict.fromkeys(row.prompt for row in rows))
    cells = list(dict.fromkeys((row.prompt, row.edit) for row in rows))
    slot = {prompt: place for place, prompt in enumerate(prompts)}
    ids, mask = pad_left([prompt.ids for prompt in prompts], _pad(model), model.device)
    logits, past = run_prompts(model, ids, mask, [(slot[prompt], edit) for prompt, edit in cells])
    if len(cells) < len(rows):
        place = {cell: index for index, cell in enumerate(cells)}
        order = torch.tensor([place[row.prompt, row.edit] for row in rows], device=mask.device)
        logits = logits[order]
        if past is not None:
            past.reorder_cache(order)
    own = [slot[row.prompt] for row in rows]
    return logits, past, ids[own], mask[own]


def find_ends(model: OpenModel) -> frozenset[int]:
    """Ids of the tokens that end a text: the model's own, which may be several, or else the tokenizer's."""
    settings = getattr(model.network, "generation_config", None)
    ends = getattr(settings, "eos_token_id", None)
    if ends is None:
        ends = model.tokenizer.eos_token_id
    if ends is None:
        return frozenset()
    return frozenset([ends] if isinstance(ends, int) else ends)


def _pad(model: OpenModel) -> int:
    """Any token will do where the mask is 0."""
    return model.tokenizer.pad_token_id or 0


def _check_scores(probability: float, row: Row) -> None:
    if not isfinite(probability):
        raise InputError(
            f"The model's scores after “{row.prompt.text[-60:]}” are not numbers: load it in float32 or bfloat16, or "
            "lower the strength of the edit."
        )


@torch.inference_mode()
def _score_batch(model: OpenModel, texts: Sequence[Scored]) -> list[tuple[float, ...]]:
    """Probabilities of each text's tokens from its start on, in one pass without a cache."""
    ids, mask = pad_left([text.prompt.ids + text.ids[:-1] for text in texts], _pad(model), model.device)
    longest = max(len(text.ids) - text.start for text in texts)
    with edited(model.anatomy, [text.edit for text in texts]):
        logits = run_model(model.network, ids, mask, keep=longest)
    logits = adjust_logits(logits, [text.edit for text in texts])
    results = []
    for scores, text in zip(logits, texts, strict=True):
        asked = torch.tensor(text.ids[text.start :], device=scores.device)
        own = scores[-len(asked) :].float().softmax(-1).gather(-1, asked[:, None])[:, 0]
        results.append(tuple(own.tolist()))
    return results
