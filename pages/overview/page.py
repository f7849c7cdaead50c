"""What is a toxic subspace, and what does removing it do? One picture of the whole, moved by one slider."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import streamlit as st

from detox_engine.plans.edit import EditPlan, describe_edit
from detox_engine.plans.option import sentence
from detox_engine.plans.sources import BUNDLED
from pages.overview import figures, parts, work
from pages.overview.measuring import FIRST_LOOK
from pages.overview.moves import Move, find_move
from pages.overview.opening import Asked, Opening, Places, Scene
from pages.overview.picks import OverviewPicks
from pages.overview.verdict import SCORES, judge_suggestion, list_checked
from pages.overview.work import FIRST_LOOKS, OPENING, READING, WRITING, Prompted, Reread
from ui.frame.page import Head, Help, StudyPage, show
from ui.session import state
from ui.show.chart import draw_chart
from ui.show.downloads import Table, blur_rude
from ui.show.notes import warn_of_no_edit
from ui.show.side_by_side import comparisons_html
from ui.words.rude_words import mask
from ui.words.text import hover_label, plain
from ui.words.verdicts import list_changes
from ui.work import fit
from ui.work.tasks import Task, draw_unfinished

if TYPE_CHECKING:
    from collections.abc import Sequence

    from detox_engine.estimates import Estimate
    from detox_engine.study.suggestion import Change

HEAD = Head("Overview", "What is a toxic subspace, and what does removing it do?", picks="overview")
HELP = Help(
    "Both continuations draw each token with the same random numbers, so they differ only where the edit made a "
    "difference; the first such place is marked. "
    "A text's place is the mean of the model's states over its tokens along the first toxic direction of a layer: of "
    "the later half of those that the study's own edit changes, where most of what it removes is gone, the one at "
    "which a linear probe tells the sides best. After the edit the edited model has read the text again. "
    "In the third picture random directions of the same rank, removed from the same layers, show what any such removal "
    "would do; intervals are bootstraps of 95 % over prompts or texts.",
    r"\text{out} \leftarrow \text{out} - \alpha\,(\text{out} - b)\,V^{\top} V, \qquad \alpha = \text{strength}",
)
SMALL_WORLD = "The demo model knows a small made-up world alone: begin as the starters do."
LINKS = (
    ("spectrum", "Where? Spectrum", "bar_chart"),
    ("directions", "What? Directions", "explore"),
    ("map", "Texts: Map", "scatter_plot"),
    ("compare", "Try: Compare", "compare_arrows"),
    ("decide", "Decide", "gavel"),
)


def draw(page: StudyPage[OverviewPicks]) -> None:
    asked = Asked(page.fitted, page.study.suggested_edit)
    opening = work.find_opening(asked, page.study)
    with st.container(key="overview", gap="xsmall"):
        st.html(parts.ideas_html())
        st.html(parts.verdict_html(judge_suggestion(page.study, opening.cost)))
        draw_strength(page)
        draw_pictures(page, asked, opening)
        if is_unfinished(OPENING, asked):
            stopped = "It was stopped; what was found stands above."
            draw_unfinished(OPENING, asked, "overview_again", "Go on", stopped)
        if opening.words is not None and opening.scene is not None:
            st.html(parts.words_html(opening.words, opening.scene.layer))
        draw_links()


def draw_strength(page: StudyPage[OverviewPicks]) -> None:
    """The strength of the one edit plan, which moves all pictures."""
    strength = page.edit.strength
    low, high = min(0.0, strength), max(2.0, strength)
    with st.container(key="overview_strength", horizontal=True, vertical_alignment="center", gap="medium"):
        label = "How much is removed"
        st.markdown(f"**{label}**", width="content", help=sentence(EditPlan, "strength"))
        st.slider(
            label,
            low,
            high,
            step=0.05,
            label_visibility="collapsed",
            **state.bind(f"overview_strength_{low:g}_{high:g}", "edit.strength"),
        )


def draw_pictures(page: StudyPage[OverviewPicks], asked: Asked, opening: Opening) -> None:
    """The text, the map and the numbers beside one another."""
    if warn_of_no_edit(page.edit):
        return
    move = None if page.edit == asked.edit else find_move(asked, page.study, page.edit)
    begin_moves(page, asked, opening, move)
    with st.container(key="overview_pictures"):
        with st.container(key="overview_text", gap="xsmall"):
            written = draw_text(page, asked, opening, move)
        with st.container(key="overview_map", gap="xsmall"):
            placed = draw_map(page, asked, opening, move)
        with st.container(key="overview_numbers", gap="xsmall"):
            draw_numbers(page, asked, opening, move, is_idle=written and placed)


def begin_moves(page: StudyPage[OverviewPicks], asked: Asked, opening: Opening, move: Move | None) -> None:
    """Begin reading the texts again while the continuation is written, so that one wait is enough for both."""
    looks = FIRST_LOOKS.job()
    if looks is not None and looks.key != Asked(page.fitted, page.edit):
        # Nobody waits for the numbers of a plan that was moved on from, and they hold up what is quick.
        looks.stop()
    reread = reread_of(page, asked, opening, move)
    if reread is not None:
        READING.ask(reread, patience=0)


def draw_text(page: StudyPage[OverviewPicks], asked: Asked, opening: Opening, move: Move | None) -> bool:
    """One prompt gone on with before and after; whether it is there in full."""
    st.html("<h3>① The same prompt, the same random draws</h3>")
    first = opening.written
    prompt = page.picks.prompt or (first.prompt if first else "")
    draw_prompt(page, prompt)
    if not prompt:
        st.caption(f"Of {work.STARTERS} starter prompts the one that changes most is being looked for.")
        return False
    known = {first.prompt: first} if first is not None and page.edit == asked.edit else {}
    if move is not None:
        known = {move.written.prompt: move.written}
    question = Prompted(page.fitted, page.edit, prompt)
    written = known[prompt] if prompt in known else WRITING.ask(question)
    shown, of = keep_shown("written", page, written)
    if shown is not None and shown.prompt == prompt:
        st.html(comparisons_html([shown], several=False, prompts=False))
    is_going = prompt not in known and is_unfinished(WRITING, question)
    if is_going:
        draw_unfinished(WRITING, question, "overview_write_again", "Write it again", "The writing was stopped.")
    told = plain(tell_stale(page, of)) if shown is not None and shown.prompt == prompt else ""
    if first is not None and prompt == first.prompt:
        told += f" Of {opening.starters} starter prompts the one that the suggested edit makes milder by most."
    if told:
        st.caption(told)
    return written is not None and not is_going


def draw_prompt(page: StudyPage[OverviewPicks], prompt: str) -> None:
    """A box for a person's own prompt, the button that writes it, and starters beside it."""
    model = page.fitted.study.model.name
    words, starters = "Your own prompt", work.list_starters(model)
    st.text_area(
        words,
        height=92,
        label_visibility="collapsed",
        placeholder=words,
        **state.bind("overview_own", "overview.prompt", show=lambda own: own or prompt, take=str.strip),
    )
    blur_rude(prompt, "overview_own")
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        # What was typed is taken as the field is left, so the button has nothing more to do than to be pressed.
        st.button("Write", key="overview_write", icon=":material/edit:")
        st.selectbox(
            "Starter prompts",
            ["", *starters],
            format_func=lambda one: mask(one, page.shows_words) or "Starter prompts…",
            label_visibility="collapsed",
            **state.bind(
                "overview_starter",
                "overview.prompt",
                ["", *starters],
                show=lambda own: (own or prompt) if (own or prompt) in starters else "",
                begins="index",
            ),
        )
    if model == BUNDLED:
        st.caption(SMALL_WORLD)


def keep_shown(what: str, page: StudyPage, found: Any) -> tuple[Any, EditPlan]:
    """What was found; or what stood there before, as a picture stays while a new one is worked out; and of which edit.

    Args:
        what: tells pictures apart.
    """
    shown = st.session_state.setdefault("overview_shown", {})
    if found is not None:
        shown[what] = page.fitted, page.edit, found
    fitted, edit, kept = shown.get(what, (None, page.edit, None))
    return (kept, edit) if fitted == page.fitted else (None, page.edit)


def tell_stale(page: StudyPage, edit: EditPlan) -> str:
    """That a picture is of another edit than the plan's; nothing where it is not."""
    return "" if edit == page.edit else f"Still as it was with {describe_edit(edit)}."


def is_unfinished(task: Task, question: object) -> bool:
    """Whether the answer is on its way, or did not come to an end."""
    job = task.job(question)
    return job is not None and job.key == question


def reread_of(page: StudyPage[OverviewPicks], asked: Asked, opening: Opening, move: Move | None) -> Reread | None:
    """What the edited model has to read again; None where it is there, or before the layer is known."""
    scene = opening.scene
    if scene is None or move is not None or (page.edit == asked.edit and opening.after is not None):
        return None
    return Reread(page.fitted, page.edit, asked.edit.method, scene.layer, scene.pairs)


def draw_map(page: StudyPage[OverviewPicks], asked: Asked, opening: Opening, move: Move | None) -> bool:
    """Texts of the later edited layer that parts the sides best, before and after; whether both are there."""
    scene = opening.scene
    if scene is None:
        st.html("<h3>② Where rude and civil texts lie</h3>")
        st.caption("The edited layer that parts them best is being looked for.")
        return False
    st.html(f"<h3>② Where texts lie at layer {scene.layer}</h3>")
    question = reread_of(page, asked, opening, move)
    known = opening.after if move is None else move.after
    found = known if question is None else READING.ask(question)
    after, of = keep_shown("after", page, found)
    sides = [(each.toxic, each.civil) for each in (scene.before, after) if each is not None]
    rows = figures.scale_rows(sides[0], sides[1] if after else None)
    pairs = [page.study.pairs[index] for index in scene.pairs]
    labels = tuple(
        [hover_label(getattr(pair, side), page.shows_words) for pair in pairs] for side in ("toxic_text", "civil_text")
    )
    told = "; ".join(f"{row.title.lower()} {row.right} of {2 * len(pairs)}" for row in rows)
    draw_chart(
        figures.ridge_figure(rows, labels, scene.layer, page.colours),
        "overview_ridges",
        f"Texts along direction 1 of layer {scene.layer}, before and after: {describe_edit(of)}",
        f"Toxic and civil texts along direction 1 of layer {scene.layer}; on their own side of the middle are {told}",
        partial(list_places, rows, scene.pairs),
        f"overview_layer_{scene.layer}",
    )
    st.caption(f"{tell_parting(rows, scene, after)} {plain(tell_stale(page, of))}")
    if question is not None and is_unfinished(READING, question):
        draw_unfinished(READING, question, "overview_read_again", "Read again", "The reading was stopped.")
    return found is not None


def tell_parting(rows: Sequence[figures.Row], scene: Scene, after: Places | None) -> str:
    """How well the sides part at the layer, and along the direction, before and after."""
    count = len(rows[0].toxic) + len(rows[0].civil)
    words = f"Tall marks are means. {rows[0].right} of {count} texts lie on their own side of the dotted line before"
    words += "." if after is None else f", {rows[1].right} after; guessing gets {count // 2}."
    if after is not None and after.probe is not None and scene.before.probe is not None:
        words += (
            f" A probe with all dimensions of the layer tells {tell_share(scene.before.probe)} of them before, "
            f"{tell_share(after.probe)} after."
        )
    if scene.probe is not None:
        words += (
            f" Of the edit's later layers, {scene.layer} tells unseen texts best: "
            f"{tell_share(scene.probe)}, n = {scene.probe.n:,} pairs; intervals are of 95 %."
        )
    return words


def tell_share(share: Estimate) -> str:
    """`83% (71% to 93%)`; what interval it is need be said once in a sentence."""
    return f"{share.mean:.0%} ({share.low:.0%} to {share.high:.0%})"


def list_places(rows: Sequence[figures.Row], pairs: Sequence[int]) -> Table:
    """A row for each text and state."""
    return ("pair", "side", "state", "along"), [
        (pair + 1, name.lower(), row.title.lower(), float(place))
        for row in rows
        for name, side in zip(figures.SIDES, row.sides, strict=True)
        for pair, place in zip(pairs, side, strict=True)
    ]


def draw_numbers(
    page: StudyPage[OverviewPicks], asked: Asked, opening: Opening, move: Move | None, is_idle: bool
) -> None:
    """What the edit gains and costs beside random directions: of the check, or a first look at what was not checked.

    Args:
        is_idle: whether nothing quicker is to be waited for.
    """
    st.html("<h3>③ What it gains, what it costs</h3>")
    suggestion = page.study.suggestion
    check = suggestion and suggestion.check
    checked = list_checked(check) if check else ()
    known = checked + ((opening.cost,) if checked and opening.cost else ())
    if checked and page.edit == asked.edit:
        of = f"The study’s check, {check.samples} continuations of each of {check.prompts} prompts"
        draw_dumbbells(page, known, page.edit, f"{of}; random directions: {check.controls} draws.")
        return
    is_checking = fit.draw_check(
        page.study,
        page.fitted.study,
        "Check the suggestion",
        "overview_check",
        help="A short generation beside random directions confirms it or refutes it; the answer is kept.",
    )
    question = Asked(page.fitted, page.edit)
    # Both would wait for one model; and the opening, while it lasts, comes first.
    opens = OPENING.job(asked)
    may_begin = move is None and is_idle and not is_checking and not (opens is not None and opens.running)
    if move is not None:
        found = move.changes
    else:
        found = FIRST_LOOKS.ask(question, patience=0) if may_begin else FIRST_LOOKS.find(question)
    if found is not None:
        of = f"A first look at this plan: {FIRST_LOOK.limit_prompts} prompts, {FIRST_LOOK.neutral.limit} texts"
        more = f"random directions: {FIRST_LOOK.controls} draws. Decide measures it in full."
        draw_dumbbells(page, found, page.edit, f"{of}; {more}")
    elif known:
        words = f"Measured at strength {asked.edit.strength:g}; a first look at this one is on its way."
        if replace(page.edit, strength=asked.edit.strength) != asked.edit:
            words = "Measured of the suggested edit, not of this plan; a first look at this one is on its way."
        draw_dumbbells(page, known, asked.edit, words)
    else:
        follows = "The numbers of the check" if is_checking else "A first look at a few prompts"
        st.caption(f"{follows} will stand here.")
    if may_begin and found is None and is_unfinished(FIRST_LOOKS, question):
        draw_unfinished(FIRST_LOOKS, question, "overview_look_again", "Look again", "The first look was stopped.")


def draw_dumbbells(page: StudyPage[OverviewPicks], changes: Sequence[Change], edit: EditPlan, words: str) -> None:
    """The scores of an edit; they are faded where it is another one than the plan's."""
    scores = [SCORES[change.name] for change in changes]
    told = "; ".join(
        f"{score.called} {score.write(change.before.mean)} before, {score.write(change.after.mean)} after, "
        f"{score.write(change.control.mean)} with random directions"
        for score, change in zip(scores, changes, strict=True)
    )
    draw_chart(
        figures.dumbbell_figure(changes, page.colours, faded=edit != page.edit),
        "overview_dumbbells",
        f"What an edit gains and costs: {describe_edit(edit)}",
        f"Scores before and after, beside random directions, with 95 % intervals: {told}",
        partial(list_changes, changes),
        "overview_scores",
    )
    st.caption(f"95 % intervals. {words}")


def draw_links() -> None:
    """Where to go on."""
    with st.container(horizontal=True, gap="medium", key="overview_links"):
        for folder, label, icon in LINKS:
            st.page_link(f"{folder}/page.py", label=label, icon=f":material/{icon}:", width="content")


show(draw, HEAD, HELP)
