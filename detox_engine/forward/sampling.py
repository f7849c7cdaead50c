"""How the next token is chosen: the most probable one, or a draw whose luck is shared by before and after."""

import hashlib
from collections.abc import Sequence

import numpy
import torch
from torch import Tensor

from detox_engine.plans.sampling import SamplingPlan

LIKELY = 1024
"""How many of the most probable tokens top-p looks at before it looks at more: sorting a vocabulary is slow."""


def draw_luck(seed: int, prompt: str, sample: int, step: int, vocab: int) -> Tensor:
    """`[vocab]` exponential noise that depends on these arguments alone, float32 on the CPU.

    Not on the device, the batch, the edit, or when other rows end: so before and after draw with the same luck.
    """
    label = repr((seed, prompt, sample, step)).encode()
    stream = numpy.random.PCG64(int.from_bytes(hashlib.blake2b(label, digest_size=16).digest(), "little"))
    noise = torch.from_numpy(numpy.random.Generator(stream).standard_exponential(vocab, dtype=numpy.float32))
    # A draw of exactly 0 would win against everything, or be 0 / 0 where the token's probability is 0.
    return noise.clamp_(min=torch.finfo(torch.float32).tiny)


def keep_nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """`[rows, vocab]` with 0 for all but the fewest tokens of each row that together have probability `top_p`.

    Tokens as probable as the last one kept are kept with it. The most probable token always stays.
    """
    vocab = probabilities.shape[-1]
    count = min(LIKELY, vocab)
    while True:
        likely = probabilities.topk(count).values
        covered = likely.cumsum(-1)
        if count == vocab or bool((covered[:, -1] >= top_p).all()):
            break
        count = min(8 * count, vocab)
    needed = covered - likely < top_p
    least = likely.masked_fill(~needed, torch.inf).amin(-1, keepdim=True)
    return probabilities.masked_fill(probabilities < least, 0)


def choose_tokens(logits: Tensor, plan: SamplingPlan, prompts: Sequence[str], samples: Sequence[int], step: int):
    """Next tokens `[rows]` for logits `[rows, vocab]`, and the model's own probability of each, float32 `[rows]`.

    Draws follow the Gumbel-max rule: argmax(log p + g) with g = −log E is argmax(p / E) for exponential noise E,
    added after temperature and top-p; E is the same for rows of the same prompt and sample. The probability is
    that of the raw logits, whatever the temperature and top-p.
    """
    logits = logits.float()
    own = logits.softmax(-1)
    if plan.greedy:
        tokens = logits.argmax(-1)
    else:
        filtered = own if plan.temperature == 1 else (logits / plan.temperature).softmax(-1)
        if plan.top_p < 1:
            filtered = keep_nucleus(filtered, plan.top_p)
        tokens = (filtered / _stack_luck(plan.seed, prompts, samples, step, logits)).argmax(-1)
    return tokens, own.gather(-1, tokens[:, None])[:, 0]


def read_choice(tokens: Tensor, probabilities: Tensor) -> tuple[list[int], list[float]]:
    """Chosen tokens `[rows]` and their probabilities, float32 `[rows]`, as numbers.

    They leave the device together: each copy waits until all that it was given to do is done.
    """
    together = torch.stack([tokens.int(), probabilities.view(torch.int32)]).cpu()
    return together[0].tolist(), together[1].view(torch.float32).tolist()


def _stack_luck(seed: int, prompts: Sequence[str], samples: Sequence[int], step: int, like: Tensor) -> Tensor:
    """`[rows, vocab]` luck on the device of `like`, drawn once for rows of the same prompt and sample."""
    drawn: dict[tuple[str, int], int] = {}
    index = torch.tensor([drawn.setdefault(key, len(drawn)) for key in zip(prompts, samples, strict=True)])
    luck = torch.stack([draw_luck(seed, prompt, sample, step, like.shape[-1]) for prompt, sample in drawn])
    if like.is_cuda:
        # From pinned memory a copy lines up behind the step that runs, and nobody waits for either.
        luck, index = (each.pin_memory().to(like.device, non_blocking=True) for each in (luck, index))
    return luck.to(like.device)[index.to(like.device)]
