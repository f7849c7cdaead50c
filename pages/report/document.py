"""The report as one HTML document: a verdict, the numbers, then the pictures that they rest on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from detox_engine.data.bundled import ASSETS
from detox_engine.edit.low_rank import make_edit
from detox_engine.plans.edit import describe_edit
from detox_engine.plans.sources import name_pairs
from pages.report import pictures
from pages.report.told import Shown
from ui.words.numbers import interval, signed
from ui.words.rude_words import find_rude_words
from ui.words.text import escape, text_html, token_html
from ui.words.verdicts import judge, name_control

if TYPE_CHECKING:
    from detox_engine.scoring.evaluation import Score
    from detox_engine.scoring.records import Written
    from detox_engine.study.study import Study

FORBIDDEN = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:"
"""What the browser is to keep the document from: it needs nothing from anywhere."""
EXAMPLES = 4
"""Prompts of each kind: those that became milder most, those in the middle, those that became worse most."""
ANSWERS = {"yes": "✓", "no": "✗", "unclear": "?"}


def draw_report(study: Study, shown: Shown) -> str:
    """The whole document.

    Raises:
        InputError: the edit does not fit the study.
    """
    make_edit(study.of(shown.edit.method), shown.edit)
    find_rude_words(_list_texts(study, shown))  # in one go, since the scorer takes as long for one word as for many
    sections = [
        section
        for draw in (_draw_verdict, _draw_scores, _draw_frontier, _draw_examples, _draw_layers, _draw_words, _draw_map)
        if (section := draw(study, shown))
    ]
    body = "\n".join((_draw_head(study, shown), *sections, _draw_sources(study, shown)))
    style = (ASSETS / "report.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{FORBIDDEN}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>DeTox report: {escape(shown.model)}</title><style>{style}</style>"
        f"<script>{get_plotlyjs()}</script></head>"
        '<body><input type="checkbox" id="words"><label for="words" class="words">Show toxic words</label>'
        f"<main>{body}</main></body></html>\n"
    )


def _list_texts(study: Study, shown: Shown) -> Iterator[str]:
    """All in which words may have to be blurred."""
    for pair in study.pairs:
        yield from (pair.toxic_text, pair.civil_text)
    for one in shown.evaluation.written if shown.evaluation is not None else ():
        yield from (one.prompt, one.before, one.after)
    for each in shown.readings:
        yield from (token for token, _ in (*each.toxic, *each.civil))


def chart(figure: go.Figure, words: str) -> str:
    """A figure with what it shows in words under it."""
    figure.update_layout(template="plotly_white", font={"family": "inherit"})
    drawn = figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True})
    return f"<figure>{drawn}<figcaption>{escape(words)}</figcaption></figure>"


def _section(title: str, *parts: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def _paragraph(words: str) -> str:
    return f"<p>{escape(words)}</p>"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose cells are HTML."""
    top = "".join(f"<th>{head}</th>" for head in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _draw_head(study: Study, shown: Shown) -> str:
    return (
        f"<header><h1>The toxic subspace of {escape(shown.model)}</h1>"
        f"<p>{study.pair_count:,} pairs from {escape(name_pairs(study.plan.pairs, study.model.name))}, "
        f"{study.layers} layers; "
        f"{escape(study.made)}. The edit that is shown: {escape(describe_edit(shown.edit))}.</p></header>"
    )


def _draw_verdict(study: Study, shown: Shown) -> str:
    verdict = shown.verdict
    if verdict is None:
        return ""
    kind = str(verdict["verdict"])
    rows = [
        (
            escape(one["question"]),
            f"{ANSWERS.get(one['answer'], '?')} {escape(one['answer'])}",
            escape(f"{one['sentence']} {one['settle']}".strip()),
        )
        for one in verdict["criteria"]
    ]
    asked = _table(("Asked", "Answer", "Why"), rows) if rows else ""
    return (
        f'<section class="verdict {kind.replace(" ", "-")}"><h2>{escape(kind[:1].upper() + kind[1:])}</h2>'
        f"{_paragraph(str(verdict['reason']))}{asked}</section>"
    )


def _draw_scores(study: Study, shown: Shown) -> str:
    evaluation = shown.evaluation
    if evaluation is None:
        return _section("What the edit does", _paragraph("Nothing was measured yet: this edit is not evaluated."))
    kinds = evaluation.plan.kinds
    heads = ("Score", "Before", "After", "Change", *map(name_control, kinds), "Verdict")
    sampling = evaluation.plan.sampling
    about = (
        f"{sampling.samples} continuations of each prompt, up to {sampling.max_new_tokens} tokens, with the same "
        "random numbers on all sides. The controls remove random directions of the same rank from the same layers. In "
        "brackets 95 % intervals."
    )
    figures = [
        chart(pictures.effect(score), f"{score.title}: {score.sentence}")
        for name in pictures.SCORES
        if (score := evaluation.find(name)) is not None
    ]
    rows = [_score_row(score) for score in evaluation.scores]
    return _section("What the edit does", *figures, _table(heads, rows), _paragraph(about))


def _score_row(score: Score) -> tuple[str, ...]:
    effect = score.effect
    better = "lower is better" if score.lower_is_better else "higher is better"
    verdict = judge(effect, score.lower_is_better)
    return (
        f"<b>{escape(score.title)}</b><br><small>{escape(score.unit)}; {better}</small>",
        interval(effect.before),
        interval(effect.after),
        interval(effect.difference, signed),
        *(interval(control.level) for control in effect.controls),
        f'<span class="{verdict.kind}">{escape(verdict.words)}</span>',
    )


def _draw_frontier(study: Study, shown: Shown) -> str:
    found = pictures.frontier(study, shown)
    return "" if found is None else _section("What else was tried", chart(*found))


def _draw_examples(study: Study, shown: Shown) -> str:
    written = [] if shown.evaluation is None else list(shown.evaluation.written)
    if not written:
        return ""
    written.sort(key=lambda one: one.toxicity_after - one.toxicity_before)
    picked = dict(_pick(written))
    return _section(
        "What it writes",
        *(f"<h3>{title}</h3>{''.join(map(_example, some))}" for title, some in picked.items() if some),
        _paragraph(f"Of {len(written):,} prompts, one continuation each; the numbers are means over all of a prompt."),
    )


def _pick(written: Sequence[Written]) -> Iterator[tuple[str, Sequence[Written]]]:
    """Examples that show both ends, and what lies between."""
    milder = [one for one in written[:EXAMPLES] if one.toxicity_after < one.toxicity_before]
    worse = [one for one in written[::-1][:EXAMPLES] if one.toxicity_after > one.toxicity_before]
    middle = len(written) // 2
    between = written[max(0, middle - EXAMPLES // 2) : middle + EXAMPLES // 2]
    yield "Milder than before, the most", milder
    yield "In the middle", [one for one in between if one not in milder and one not in worse]
    yield "Worse than before, the most", worse


def _example(one: Written) -> str:
    sides = "".join(
        f"<div><b>{name}</b> <small>toxicity {toxicity:.2f}</small><p>{text_html(text.strip())}</p></div>"
        for name, text, toxicity in (
            ("Before", one.before, one.toxicity_before),
            ("After", one.after, one.toxicity_after),
        )
    )
    return f'<article><p class="prompt">{text_html(one.prompt)} …</p><div class="sides">{sides}</div></article>'


def _draw_layers(study: Study, shown: Shown) -> str:
    return _section("Where it lies", chart(*pictures.layers(study, shown)), chart(*pictures.spectrum(study, shown)))


def _draw_words(study: Study, shown: Shown) -> str:
    if not shown.readings:
        return ""

    def pole(tokens: Sequence[tuple[str, float]], readable: bool) -> str:
        if not readable:
            return "<small>not readable as words here</small>"
        return " ".join(f'<span class="token">{token_html(token)}</span>' for token, _ in tokens)

    rows = [
        (f"{each.layer}.{each.direction + 1}", pole(each.toxic, each.readable), pole(each.civil, each.readable))
        for each in shown.readings
    ]
    about = (
        "The words whose probability, after prompts that provoke, falls most when the direction is removed at that "
        "layer, and those whose rises most."
    )
    heads = ("Layer and direction", "It makes the model say", "It keeps the model from saying")
    return _section("What it means", _table(heads, rows), _paragraph(about))


def _draw_map(study: Study, shown: Shown) -> str:
    if study.embeddings is None or study.subspaces[0].kept < 2:
        return ""
    return _section("Texts along it", chart(*pictures.texts(study, shown)))


def _draw_sources(study: Study, shown: Shown) -> str:
    """What it rests on, such that somebody else can look it up."""
    facts = [
        f"Base weights: {study.model.weights_hash}",
        f"Pairs that were fitted on: {study.pair_count:,}, {study.pairs_hash}",
        *(finding.sentence for finding in study.findings),
        *filter(None, [study.verdict]),
    ]
    suggestion = study.suggestion
    if suggestion is not None:
        facts.append(f"Suggestion, {suggestion.status}: {suggestion.reason}")
    if shown.verdict is not None and shown.verdict.get("sets"):
        sets = shown.verdict["sets"]
        facts.append(
            f"Three sets that share nothing: {sets['fit']['pairs']:,} pairs to fit on; {sets['choose']['pairs']:,} "
            f"pairs and {sets['choose']['prompts']:,} prompts to choose by; {sets['report']['prompts']:,} prompts and "
            f"{sets['report']['texts']:,} texts to report on."
        )
    if shown.evaluation is not None:
        facts += [f"{name.capitalize()}: {digest}" for name, digest in shown.evaluation.sources.items()]
    facts.append("Made with " + ", ".join(f"{name} {told}" for name, told in study.versions.items()) + ".")
    return _section("What it rests on", f"<ul>{''.join(f'<li>{escape(fact)}</li>' for fact in facts)}</ul>")
