"""What a model wrote before and after an edit as HTML: side by side, word by word, with where the two part."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, isnan, log10
from typing import TYPE_CHECKING

from detox_engine.estimates import Estimate
from detox_engine.scoring.toxicity import describe_empty
from ui.words.numbers import interval, number, signed
from ui.words.text import escape, pieces_html, text_html
from ui.words.verdicts import judge, moves

if TYPE_CHECKING:
    from detox_engine.estimates import Effect
    from detox_engine.forward.compare import Comparison, Continuation

NEARLY = 1.2
"""Two probabilities whose ratio is below this are about the same."""
MOST_TIMES = 1000


SIDES = ("Before", "After")


def comparisons_html(
    comparisons: Sequence[Comparison],
    several: bool,
    prompts: bool = True,
    names: tuple[str, str] = SIDES,
    broken: Sequence[tuple[str, str]] = (),
) -> str:
    """Comparisons one below the other.

    Args:
        several: whether it says which sample each is.
        prompts: whether it shows what each begins with.
        names: what the sides are called; others than before and after an edit.
        broken: why the sides of each are broken, where that was looked for.
    """
    flaws = broken or [("", "")] * len(comparisons)
    each = (_comparison_html(one, several, prompts, names, both) for one, both in zip(comparisons, flaws, strict=True))
    return f'<div class="compared">{"".join(each)}</div>'


def _comparison_html(
    comparison: Comparison, several: bool, prompts: bool, names: tuple[str, str], broken: tuple[str, str]
) -> str:
    notes = [f"sample {comparison.sample + 1}"] if several else []
    if comparison.cut:
        tokens = "1 token" if comparison.cut == 1 else f"{comparison.cut:,} tokens"
        notes.append(f"too long for the model: it read this without the first {tokens}")
    if comparison.first_divergence is None:
        notes.append("the same before and after" if names == SIDES else "the same on both sides")
    aside = f'<span class="aside">{" · ".join(notes)}</span>' if notes else ""
    opening = f"{text_html(comparison.prompt) if prompts else ''}{aside}"
    return (
        f'<article>{f"""<div class="opening">{opening}</div>""" if opening else ""}<div class="sides">'
        f"{_side_html('Before', names[0], comparison, comparison.before, comparison.toxicity_before, broken[0])}"
        f"{_side_html('After', names[1], comparison, comparison.after, comparison.toxicity_after, broken[1])}"
        f"</div>{_probabilities_html(comparison)}</article>"
    )


def _side_html(name: str, title: str, comparison: Comparison, side: Continuation, toxicity: float, broken: str) -> str:
    mark = f'<span class="chip broken">{broken}</span>' if broken else ""
    return (
        f'<section class="{name.lower()}"><h4>{escape(title)}{chip_html(toxicity)}{mark}</h4>'
        f'<p class="written">{_written_html(name, comparison, side)}</p></section>'
    )


def chip_html(toxicity: float) -> str:
    """A toxicity, 0 to 1, as a chip whose colour runs from civil to toxic; NaN stands for an empty continuation."""
    if isnan(toxicity):
        return '<span class="chip empty">empty</span>'
    return f'<span class="chip" style="--toxicity: {toxicity:.0%}">toxicity {toxicity:.2f}</span>'


def _written_html(name: str, comparison: Comparison, side: Continuation) -> str:
    """One side's tokens, each with its probabilities; what both sides share is quiet, where they part is marked."""
    parts = comparison.first_divergence
    # With the prompt in front, as a rude word may begin in it; the space between the two would only indent the text.
    joint = " " if side.text.startswith(" ") else ""
    pieces = [piece.removeprefix(joint) if index == 0 else piece for index, piece in enumerate(side.tokens)]
    rendered = pieces_html((comparison.prompt + joint, *pieces))[1:]
    words = []
    for index, piece in enumerate(rendered):
        kind = "same" if parts is None or index < parts else "fork" if index == parts else "own"
        if kind == "fork":
            words.append('<span class="parting" title="Here the two part">▸</span>')
        words.append(f'<span class="t {kind}" data-tip="{escape(describe_token(name, side, index))}">{piece}</span>')
    if parts is not None and parts == len(rendered):
        words.append('<span class="parting" title="Here the two part">▸</span>')
    if not rendered or parts == len(rendered):
        words.append('<span class="aside">ends here</span>')
    return "".join(words)


def describe_token(name: str, side: Continuation, index: int) -> str:
    """How likely a token of the side called `name` was before and after the edit, in words."""
    own = side.probabilities[index]
    if not side.other_probabilities:
        return f"{percent(own)} likely"
    other = side.other_probabilities[index]
    before, after = (own, other) if name == "Before" else (other, own)
    return f"{percent(before)} likely before the edit, {percent(after)} after: {describe_change(before, after)}"


def describe_change(before: float, after: float) -> str:
    """How much likelier `after` is than `before`, in words."""
    more = after >= before
    times = max(before, after) / max(min(before, after), 1e-12)
    if times < NEARLY:
        return "about the same"
    number = f"over {MOST_TIMES:,}" if times > MOST_TIMES else f"{times:.1f}" if times < 10 else f"{times:,.0f}"
    return f"{number} times {'more' if more else 'less'} likely"


def percent(probability: float) -> str:
    """A probability in percent, with two digits that tell something."""
    if probability < 0.00001:
        return "under 0.001 %"
    if probability > 0.9995:
        return "over 99.9 %" if probability < 1 else "100 %"
    share = 100 * probability
    digits = 1 if share >= 99.5 else min(3, max(0, 1 - floor(log10(share))))
    return f"{share:.{digits}f} %"


def _probabilities_html(comparison: Comparison) -> str:
    """All probabilities as a table, for those who cannot hover."""
    heads = "<th>Word piece</th><th>Before</th><th>After</th>"
    tables = "".join(
        f"<table><caption>{title}</caption><thead><tr>{heads}</tr></thead>"
        f"<tbody>{_rows_html(name, comparison, side)}</tbody></table>"
        for name, title, side in (
            ("Before", "What was written before the edit", comparison.before),
            ("After", "What was written after the edit", comparison.after),
        )
        if side.other_probabilities
    )
    return f'<details><summary>Probabilities</summary><div class="sides">{tables}</div></details>' if tables else ""


def _rows_html(name: str, comparison: Comparison, side: Continuation) -> str:
    rendered = pieces_html((comparison.prompt, *(show_spaces(piece) for piece in side.tokens)))[1:]
    rows = []
    for index, piece in enumerate(rendered):
        own, other = side.probabilities[index], side.other_probabilities[index]
        before, after = (own, other) if name == "Before" else (other, own)
        kind = ' class="fork"' if index == comparison.first_divergence else ""
        rows.append(f"<tr{kind}><td><code>{piece}</code></td><td>{percent(before)}</td><td>{percent(after)}</td></tr>")
    return "".join(rows)


def show_spaces(piece: str) -> str:
    """A piece of text with its spaces and line breaks visible."""
    return piece.replace(" ", "·").replace("\n", "↵").replace("\t", "⇥")


def summary_html(
    summary: dict[str, float], effect: Effect, milder: int, worse: int, same: int, broken: tuple[int, int],
    fluency: Effect | None = None,
) -> str:  # fmt: skip
    """The means over all continuations with what can be told of them, how fluent they are, how many the edit changed.

    Args:
        broken: continuations before and after that stammer or babble.
        fluency: their perplexity under the unedited model; None where it was not read.
    """
    count, prompts = int(summary["continuations"]), int(summary["prompts"])
    changed = round(summary["changed"] * count)
    of = f"{count:,} continuation{'s' if count != 1 else ''} of {prompts:,} prompt{'s' if prompts != 1 else ''}"
    before, after = summary["toxicity_before"], summary["toxicity_after"]
    kinds = f"{milder:,} milder, {worse:,} worse, {same:,} about the same"
    empty = describe_empty(int(summary["empty_before"]), int(summary["empty_after"]), count)
    told = f'<div><span class="label">{empty}</span></div>' if empty else ""
    return (
        '<div class="summary">'
        f'<div><span class="label">Mean toxicity, {of}</span><span class="figure">'
        f'<b class="before">{number(before, decimals=3)}</b> → <b class="after">{number(after, decimals=3)}</b></span>'
        f'<span class="label {judge(effect, True).kind}">{describe_change_of_mean(effect)}</span></div>'
        f"{_broken_html(broken, count, fluency)}"
        '<div><span class="label">Changed by the edit</span>'
        f'<span class="figure"><b>{changed:,}</b> of {count:,}</span><span class="label">{kinds}</span></div>'
        f"{told}</div>"
    )


def _broken_html(broken: tuple[int, int], count: int, fluency: Effect | None) -> str:
    """How fluent both sides are: a toxicity that fell says little of a model that babbles."""
    before, after = broken
    breaks = breaks_texts(broken, count)
    words = "the edit breaks what it writes" if breaks else "repeating themselves, or unlikely for the unedited model"
    if fluency is not None and not isnan(fluency.after.mean):
        words += f"; perplexity under it {number(fluency.before.mean)} → {interval(fluency.after)}"
    return (
        f'<div><span class="label">Broken continuations</span><span class="figure{" worse" if breaks else ""}">'
        f"<b>{before:,}</b> → <b>{after:,}</b> of {count:,}</span>"
        f'<span class="label{" worse" if breaks else ""}">{words}</span></div>'
    )


BREAKS = 0.1
"""Share of the continuations that an edit may break before it is said to."""


def breaks_texts(broken: tuple[int, int], count: int) -> bool:
    """Whether an edit breaks so many of `count` continuations that a lower toxicity says nothing."""
    return broken[1] - broken[0] > BREAKS * count


def describe_change_of_mean(effect: Effect) -> str:
    """A change of the mean with its interval over prompts, or that none can be told."""
    change = effect.difference
    if isnan(change.mean):
        return "nothing to compare"
    told = f"{interval(change, signed)}, n = {change.n:,} prompts"
    if change.n < 2 or change.low <= 0 <= change.high:
        return f"no change that can be told: {told}"
    if not moves(effect):
        return f"a negligible change: {told}"
    # The word has the sign already.
    by = interval(change if change.mean > 0 else Estimate(-change.mean, -change.high, -change.low, change.n))
    return f"{'higher' if change.mean > 0 else 'lower'} by {by}, n = {change.n:,} prompts"


def describe_difference(before: float, after: float) -> str:
    """A change of the mean, in points and as a share of what it was."""
    if isnan(before) or isnan(after):
        return "nothing to compare"
    if round(before, 3) == round(after, 3):
        return "no difference"
    share = f" ({abs(after - before) / before:.0%})" if before > 0 else ""
    return f"{abs(after - before):.3f}{share} {'lower' if after < before else 'higher'}"


def prompts_html(prompts: Sequence[str]) -> str:
    """Prompts as a list."""
    return '<ol class="openings">' + "".join(f"<li>{text_html(prompt)}</li>" for prompt in prompts) + "</ol>"
