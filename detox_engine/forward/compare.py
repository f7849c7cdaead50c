"""What the model writes before and after an edit: rows of one batch, on one copy of the weights, with shared luck."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from detox_engine.edit.change import Change
from detox_engine.edit.low_rank import LowRankEdit
from detox_engine.errors import InputError, Progress, ignore_progress
from detox_engine.forward.write import Prompt, Row, Scored, Written, encode_prompt, score_texts, write_rows
from detox_engine.model.load import OpenModel
from detox_engine.model.tokens import spell
from detox_engine.plans.sampling import SamplingPlan


@dataclass(frozen=True)
class Continuation:
    """What a model wrote after a prompt, up to but without the token that ends a text."""

    text: str
    """Exactly what follows the prompt, its spaces too."""
    tokens: tuple[str, ...]
    """The pieces of `text`, one a token; a character of several tokens belongs to the last of them."""
    ids: tuple[int, ...]
    probabilities: tuple[float, ...]
    """The model's own probability of each token, whatever the temperature and top-p, given all before it."""
    other_probabilities: tuple[float, ...] = ()
    """The same for the other side of a comparison; empty unless asked for."""


@dataclass(frozen=True)
class Comparison:
    """One sample for one prompt, before and after an edit."""

    prompt: str
    sample: int
    before: Continuation
    after: Continuation
    cut: int
    """Tokens cut from the left of the prompt to fit the model's context."""
    toxicity_before: float | None = None
    """None where it was not scored, NaN where the continuation is empty; likewise after."""
    toxicity_after: float | None = None

    @property
    def texts(self) -> tuple[str, str, str]:
        """All that a reader sees of it: the prompt, and what was written before and after."""
        return self.prompt, self.before.text, self.after.text

    @property
    def first_divergence(self) -> int | None:
        """Index of the first token that differs, or that one side has and the other has not; None if none does."""
        return find_divergence(self.before.ids, self.after.ids)


def find_divergence(before: Sequence[int], after: Sequence[int]) -> int | None:
    """Index of the first token that differs, or that only the longer one has; None for equal texts."""
    for index, (left, right) in enumerate(zip(before, after, strict=False)):
        if left != right:
            return index
    return None if len(before) == len(after) else min(len(before), len(after))


MOST_TOKENS = 200_000_000
"""Tokens that one call writes at most: days on a laptop, hours on a graphics card."""


def generate(
    model: OpenModel,
    prompts: Sequence[str],
    edits: Sequence[Change | None],
    plan: SamplingPlan,
    progress: Progress = ignore_progress,
) -> list[list[list[Continuation]]]:
    """Continuations of every prompt, sample and edit: `result[prompt][sample][edit]`.

    All edits draw with the same luck, which depends on the seed, the prompt and the sample alone. Rows that must
    come out equal are computed once: those of an edit of strength 0 and of None, and of a prompt given twice.

    Args:
        edits: None stands for the model as it is.
        progress: called at every step, counted in prompts; raising from it stops the work at once.

    Raises:
        InputError: a prompt is empty and the model has no token to start from, the context is too short for the
            asked length, one prompt alone does not fit into memory, or the model's scores are not numbers.
    """
    wanted = len(prompts) * plan.samples * plan.max_new_tokens * len(edits)
    if wanted > MOST_TOKENS:
        raise InputError(
            f"{len(prompts):,} prompts with {plan.samples:,} samples of {plan.max_new_tokens:,} tokens under "
            f"{len(edits):,} edits are {wanted:,} tokens to write, and {MOST_TOKENS:,} are the most: take fewer "
            "prompts, samples, tokens or controls."
        )
    encoded = [_encode(model, prompt, edits, plan) for prompt in prompts]
    written = _write(model, encoded, edits, plan, progress)

    def show(row: Row) -> Continuation:
        text, pieces = spell(model.tokenizer, row.prompt.ids, written[row].ids)
        return Continuation(text, pieces, *written[row])

    return [
        [[show(_make_row(prompt, sample, edit, plan)) for edit in edits] for sample in range(plan.samples)]
        for prompt in encoded
    ]


def compare_prompts(
    model: OpenModel,
    prompts: Sequence[str],
    edit: LowRankEdit,
    plan: SamplingPlan,
    progress: Progress = ignore_progress,
    probabilities: bool = True,
) -> tuple[Comparison, ...]:
    """Every prompt and sample before and after `edit`, sample by sample within a prompt; raises like `generate`.

    Args:
        probabilities: also read each token's probability under the other side, which costs one more pass over
            the texts that differ.
    """
    encoded = [_encode(model, prompt, (None, edit), plan) for prompt in prompts]
    written = _write(model, encoded, (None, edit), plan, progress)
    pairs = [
        (_make_row(prompt, sample, None, plan), _make_row(prompt, sample, edit, plan))
        for prompt in encoded
        for sample in range(plan.samples)
    ]
    other = _read_other_side(model, pairs, written, progress) if probabilities else {}

    def show(row: Row, twin: Row) -> Continuation:
        text, pieces = spell(model.tokenizer, row.prompt.ids, written[row].ids)
        return Continuation(text, pieces, *written[row], other.get((row, twin), ()))

    samples = [sample for _ in encoded for sample in range(plan.samples)]
    return tuple(
        Comparison(before.prompt.text, sample, show(before, after), show(after, before), before.prompt.cut)
        for (before, after), sample in zip(pairs, samples, strict=True)
    )


Encoded = Mapping[tuple[int, ...], Prompt]
"""A prompt by what stands in front of it."""


def _encode(model: OpenModel, text: str, edits: Sequence[Change | None], plan: SamplingPlan) -> Encoded:
    prefixes = {() if edit is None else edit.prefix for edit in edits}
    return {prefix: encode_prompt(model, text, plan, prefix) for prefix in prefixes}


def _make_row(prompt: Encoded, sample: int, edit: Change | None, plan: SamplingPlan) -> Row:
    """The row that stands for these; one that must come out like another is the same row."""
    carried = edit if edit is not None and edit.strength != 0 else None
    return Row(prompt[() if edit is None else edit.prefix], 0 if plan.greedy else sample, carried)


def _write(
    model: OpenModel,
    prompts: Sequence[Encoded],
    edits: Sequence[Change | None],
    plan: SamplingPlan,
    progress: Progress,
) -> dict[Row, Written]:
    """Every row that these prompts, samples and edits need, each written once."""
    rows = dict.fromkeys(
        _make_row(prompt, sample, edit, plan) for prompt in prompts for sample in range(plan.samples) for edit in edits
    )
    total = len(prompts)
    return write_rows(model, list(rows), plan, lambda share: progress("continuations", int(share * total), total))


def _read_other_side(
    model: OpenModel,
    pairs: Sequence[tuple[Row, Row]],
    written: Mapping[Row, Written],
    progress: Progress,
) -> dict[tuple[Row, Row], tuple[float, ...]]:
    """For each (row, twin) and (twin, row): the probabilities of the row's tokens under the twin's edit.

    While the two agree they are the twin's own; from the divergence on one more pass reads them.
    """
    known: dict[tuple[Row, Row], tuple[float, ...]] = {}
    missing: dict[tuple[Row, Row], Scored] = {}
    for before, after in pairs:
        agreed = find_divergence(written[before].ids, written[after].ids)
        for row, twin in ((before, after), (after, before)):
            known[row, twin] = written[twin].probabilities[:agreed]
            if agreed is not None and agreed < len(written[row].ids):
                missing[row, twin] = Scored(row.prompt, written[row].ids, agreed, twin.edit)
    total = len({row.prompt for row, _ in missing})
    scored = score_texts(
        model,
        list(dict.fromkeys(missing.values())),
        lambda share: progress("probabilities", int(share * total), total),
    )
    return known | {key: known[key] + scored[text] for key, text in missing.items()}
