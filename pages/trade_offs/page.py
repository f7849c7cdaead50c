"""Which rank and layers are worth it? Two scores for every setting of a grid, the frontier, and the random control."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from detox_engine.disk import write_json
from detox_engine.plans import commands
from detox_engine.plans.edit import EditPlan, describe_edit, effective
from detox_engine.plans.evaluation import RANDOM
from detox_engine.plans.fit import PAPER
from detox_engine.scoring.recommend import find_role
from pages.trade_offs.figures import grid_figure
from pages.trade_offs.grid import pick_sweep_plan
from pages.trade_offs.picks import TradeOffsPicks
from ui.frame.command import draw_commands
from ui.frame.page import Head, Help, StudyPage, show
from ui.session import state
from ui.show.chart import clicked, draw_chart
from ui.show.downloads import Table, draw_download
from ui.show.frontier import Axis, Shade, count_beyond, describe_scores, shade_of, trade_off_figure
from ui.widgets.fold import draw_folded
from ui.widgets.option import ask
from ui.widgets.settings import fold_settings, pick_folded
from ui.words.numbers import interval, number
from ui.words.text import plain
from ui.words.verdicts import CONTROLS, finding_html
from ui.work.kept_runs import pick_runs, tell_result
from ui.work.known import draw_known
from ui.work.sweep import SWEEP, Asked, draw_sweep

if TYPE_CHECKING:
    from detox_engine.scoring.results import SweepPoint
    from detox_engine.scoring.scorer import Described
    from detox_engine.scoring.sweep import Sweep
    from ui.session.kept_results import KeptResult

HEAD = Head("Trade-offs", "Which rank and layers are worth it?", picks="trade_offs")
HELP = Help(
    "Each dot is an edit of one rank, layers and strength: how toxic what the model then writes is, against how well "
    "it still predicts neutral text. "
    "The frontier joins the settings that no other beats in both; where it bends, more cost buys little more. "
    "Squares are random subspaces of the same sizes: what an edit does no better than they do is not the work of "
    "its directions. Triangles, where they are asked for, are random subspaces matched in KL: off the model's massive "
    "dimensions, and as strong as it takes to move neutral text as far as the edit does.",
    r"W_\ell \leftarrow W_\ell - \alpha\, W_\ell V_\ell^{\top} V_\ell \quad "
    r"\text{for } \ell \text{ from the first layer to the last, } V_\ell \in \mathbb{R}^{\text{rank} \times "
    r"\text{hidden}}",
)
SHADES = ("rank", "first layer", "last layer", "strength")
_KEPT = {"persist_state": "session"}


def draw(page: StudyPage[TradeOffsPicks]) -> None:
    results = SWEEP.results(page.study, page.fitted)
    # In the order in which they stand, whatever each comes to hold, so that nothing moves while it is measured.
    finding, bar, picture, details = (st.container() for _ in range(4))
    with bar:
        fold = fold_settings(tell_settings(page), "trade_offs_settings")
        plan = pick_folded(fold, partial(pick_sweep_plan, page.study, page.edit))
        asked = Asked(page.fitted, plan) if plan is not None else None
        draw_sweep(page.study, asked, results, "sweep", "Try {}")
    latest = results[-1].asked if results else None
    usual = asked if asked in [each.asked for each in results] else latest
    with fold:
        limit = ask("trade_offs.most_cost", "Perplexity may rise by at most, in %", "sweep_most_cost", width=280)
        shown = pick_runs(SWEEP, results, usual, "sweep", describe_asked)
    answered = None if shown is None else shown.result.asked
    if shown is not None:
        sweep = shown.result.found
        with fold:
            axes = pick_axes(sweep.scorers)
            shade = pick_shade(sweep.points)
        with finding:
            current = find_current(sweep.points, page.edit)
            recommended = draw_recommendation(sweep, current, limit)
            same = asked is None or is_same_grid(asked, answered)
            if not same or current is None:
                what = "The edit plan has" if same else "What is chosen in the settings has"
                st.caption(f"{what} changed since; the picture is of what was measured last.")
        with picture:
            draw_trade_off(page, sweep, axes, shade, recommended, limit, shown.beside)
            draw_taken(page.edit)
        with details:
            draw_grid(page, sweep, axes)
            all_of_it = f"All {len(sweep.points):,} settings as a table"
            draw_folded(all_of_it, "sweep_table", ":material/table:", partial(draw_table, sweep))
            draw_download_of_all(sweep)
    elif SWEEP.job() is None or not SWEEP.job().running:
        with finding:
            more = "Press the button, and edits of many sizes stand here, each beside random subspaces of its size."
            draw_known(page.study, page.fitted.study, page.colours, more)
    if answered is not None or asked is not None:
        draw_command(answered or asked, limit)


def tell_settings(page: StudyPage[TradeOffsPicks]) -> str:
    """What is set, in a few words."""
    ranks = ", ".join(map(str, page.picks.ranks_of(page.study, page.edit.method)))
    first, last, step = page.picks.starts_of(page.study)
    starts = len(range(first, last + 1, step))
    strengths = ", ".join(page.picks.strengths)
    return (
        f"rank{'s' if ',' in ranks else ''} {ranks or 'none'}, {starts:,} first layer{'s' if starts != 1 else ''}, "
        f"strength{'s' if len(page.picks.strengths) != 1 else ''} {strengths or 'none'}, and the edit plan; perplexity "
        f"may rise by {page.picks.most_cost:g} %"
    )


def is_same_grid(asked: Asked, answered: Asked) -> bool:
    """Whether two grids differ in the edit plan alone that is among them."""
    return replace(asked.plan, also="") == replace(answered.plan, also="")


def describe_asked(asked: Asked) -> str:
    plan = asked.plan
    ranks = ", ".join(map(str, plan.ranks))
    method = "" if plan.method == PAPER else f"{plan.method}, "
    return f"{method}rank{'s' if len(plan.ranks) > 1 else ''} {ranks}"


def pick_axes(scorers: Sequence[Described]) -> tuple[Axis, Axis]:
    """Which two scores to hold against each other."""
    axes = {scorer.name: Axis(scorer.name, scorer.title, scorer.unit, scorer.lower_is_better) for scorer in scorers}
    names = list(axes)
    cost, harm = (find_role(scorers, role) for role in ("cost", "harm"))
    first, second = cost.name if cost else names[-1], harm.name if harm else names[0]
    chosen = []
    for column, (label, key, start) in zip(
        st.columns(2), (("Across", "sweep_x", first), ("Up", "sweep_y", second)), strict=True
    ):
        key = f"{key}_{'_'.join(names)}"
        st.session_state.setdefault(key, start)
        chosen.append(axes[column.selectbox(label, names, format_func=lambda name: axes[name].title, key=key, **_KEPT)])
    return chosen[0], chosen[1]


def pick_shade(points: Sequence[SweepPoint]) -> Shade:
    """What the dots are shaded by, of what they differ in."""
    varied = [shade for shade in SHADES if len({shade_of(point, shade) for point in points}) > 1] or ["rank"]
    if len(varied) == 1:
        return varied[0]
    return st.segmented_control(
        "Shade dots by",
        varied,
        format_func=str.capitalize,
        default=varied[0],
        key=f"sweep_shade_{'_'.join(varied)}",
        required=True,
        wrap=True,
        **_KEPT,
    )


def take_point(points: Sequence[SweepPoint], chart: str) -> None:
    """A click on a setting makes it the edit plan; the selection itself is lost with the next figure."""
    for index, *_ in clicked(chart, "customdata")[:1]:
        take_setting(points[int(index)].edit)


def take_setting(edit: EditPlan) -> None:
    """Make a setting the edit plan, and remember what changed."""
    before = state.view().edit
    state.change_edit(
        layers=edit.layers,
        rank=edit.rank,
        strength=edit.strength,
        switched_off=frozenset(),
        edit_bias=False,
        sites=edit.sites,
        method=edit.method,
    )
    st.session_state.sweep_taken = (edit, describe_change(before, edit))


def describe_change(before: EditPlan, after: EditPlan) -> str:
    """What becomes of the edit plan, in one sentence."""
    if effective(before) == after:
        return f"This is the edit plan already: {describe_edit(after)}."
    again = effective(before).switched_off
    switched = " Directions that you had switched off are removed again." if again else ""
    return f"The edit plan is now {describe_edit(after)}; it was {describe_edit(effective(before))}.{switched}"


def draw_taken(now: EditPlan) -> None:
    """What the latest click changed; the same room before it, so that the charts stay where they are."""
    edit, sentence = st.session_state.get("sweep_taken", (None, ""))
    if edit == now:
        st.success(plain(sentence), icon=":material/check:")
    else:
        st.info(plain(f"The edit plan: {describe_edit(now)}."), icon=":material/tune:")


def draw_recommendation(sweep: Sweep, current: int | None, limit: float) -> int | None:
    """The knee under the limit with its reason; its index among the points, None where there is none."""
    from detox_engine.scoring.recommend import recommend

    harm, cost = find_role(sweep.scorers, "harm"), find_role(sweep.scorers, "cost")
    if harm is None or cost is None:
        st.html(finding_html("unclear", "No recommendation", "without both toxicity and perplexity measured."))
        return None
    choice = recommend(sweep.points, harm, cost, 1 + limit / 100)
    there = choice.index is not None
    so_far = "" if sweep.whole else f"Of {len(sweep.points):,} settings so far: "
    with st.container(horizontal=True, vertical_alignment="center", key="recommendation"):
        head = f"{so_far}{'Recommended.' if there else 'None is recommended.'}"
        st.html(finding_html("better" if there else "unclear", head, choice.reason), width="stretch")
        if there:
            st.button(
                "Make it the edit plan",
                key="take_recommended",
                disabled=current == choice.index,
                on_click=take_setting,
                args=(sweep.points[choice.index].edit,),
            )
    return choice.index


def find_current(points: Sequence[SweepPoint], edit: EditPlan) -> int | None:
    """The point that is the edit plan now."""
    return next((index for index, point in enumerate(points) if point.edit == edit), None)


def draw_trade_off(
    page: StudyPage[TradeOffsPicks], sweep: Sweep, axes: tuple[Axis, Axis], shade: Shade, recommended: int | None,
    limit: float, beside: KeptResult[Asked, Sweep] | None,
) -> None:  # fmt: skip
    """The main picture: a dot for each setting; a click makes one the edit plan."""
    (x, y), points = axes, sweep.points
    current = find_current(points, page.edit)
    cost = find_role(sweep.scorers, "cost")
    bound = points[0].effects[x.name].before.mean * (1 + limit / 100) if cost and x.name == cost.name else None
    others = () if beside is None else beside.found.points
    others = [point for point in others if {x.name, y.name} <= point.effects.keys()]
    draw_chart(
        trade_off_figure(points, x, y, shade, page.colours, bound, recommended, current, others),
        "trade_off",
        f"{y.title} against {x.title.lower()} for {len(points):,} edits",
        describe_trade_off(points, x, y, {"recommended": recommended, "the edit plan now": current}),
        partial(tabulate, sweep, points),
        "trade_offs",
        on_select=partial(take_point, points, "trade_off"),
    )
    if beside is not None:
        told = f"{tell_result(beside, describe_asked)}, its {len(others):,} settings" if others else "no such scores"
        st.caption(plain(f"Held beside it, as blue squares: {told}."))
    unmatched = sum(point.unmatched > 0 for point in points)
    short = f" {unmatched:,} settings move neutral text further than their matched control can." if unmatched else ""
    beyond = "".join(
        f" Arrows: {count:,} settings lie beyond the axis, up to {axis.title.lower()} {number(farthest)}."
        for axis, end in zip(axes, (bound, None), strict=True)
        for count, farthest in [count_beyond(points, axis, end)]
        if count
    )
    absent = "" if current is not None else " The edit plan is not among these settings."
    st.caption(
        "A click on a dot makes it the edit plan. Bars are 95 % intervals of the change from the unedited model, for "
        f"the settings on the frontier.{absent}{beyond}{short}"
    )


def describe_trade_off(points: Sequence[SweepPoint], x: Axis, y: Axis, named: Mapping[str, int | None]) -> str:
    """The picture in words: the unedited model, and the settings that have a name, by their index."""
    unedited = ", ".join(f"{axis.title.lower()} {number(points[0].effects[axis.name].before.mean)}" for axis in (x, y))
    words = [f"{y.title} against {x.title.lower()} for {len(points):,} settings", f"unedited: {unedited}"]
    words += [
        f"{name}: {', '.join(describe_scores(points[index], x, y))}"
        for name, index in named.items()
        if index is not None
    ]
    return "; ".join(words)


def tabulate(sweep: Sweep, chosen: Sequence[SweepPoint]) -> Table:
    """Every score of these settings, with its interval and its control."""
    from detox_engine.scoring.records import tabulate_sweep

    return tabulate_sweep(replace(sweep, points=tuple(chosen)))


def draw_grid(page: StudyPage[TradeOffsPicks], sweep: Sweep, axes: tuple[Axis, Axis]) -> None:
    """Rank × first layer for one score, of one last layer and strength."""
    st.subheader("Rank by first layer", anchor=False)
    points = sweep.points
    # The edit plan's own setting can lie outside the grid.
    points_of = Counter((point.layers[-1], point.strength) for point in points if is_run(point.layers))
    slices = sorted(points_of, key=lambda pair: (points_of[pair], pair))
    controls = st.container(horizontal=True, vertical_alignment="bottom", gap="large")
    by_title = {axis.title: axis for axis in axes[::-1]}
    picked = controls.segmented_control(
        "Colour",
        list(by_title),
        default=axes[1].title,
        key=f"sweep_grid_{axes[0].name}_{axes[1].name}",
        required=True,
        wrap=True,
        **_KEPT,
    )
    axis, chosen = by_title[picked], slices[-1]
    if len(slices) > 1:
        chosen = controls.selectbox(
            "Of",
            slices,
            index=len(slices) - 1,
            format_func=lambda pair: f"last layer {pair[0]}, strength {pair[1]:g}",
            key=f"sweep_slice_{len(slices)}",
            width=280,
        )
    inside = [
        index
        for index, point in enumerate(points)
        if (point.layers[-1], point.strength) == chosen and is_run(point.layers)
    ]
    draw_chart(
        grid_figure(points, inside, axis, page.colours, find_current(points, page.edit)),
        "sweep_grid",
        f"{axis.title} by rank and first layer, to layer {chosen[0]} with strength {chosen[1]:g}",
        f"{axis.title} by rank and first layer, under the edit and under "
        f"{RANDOM[points[inside[0]].effects[axis.name].control.kind]}",
        partial(tabulate, sweep, [points[index] for index in inside]),
        "rank_by_first_layer",
        on_select=partial(take_point, points, "sweep_grid"),
    )
    st.caption(
        f"Layers run from the first layer to layer {chosen[0]}. Warmer is worse; both halves share one "
        "scale. A click on a cell of the edit makes it the edit plan."
    )


def is_run(layers: Sequence[int]) -> bool:
    """Whether layers follow one another."""
    return layers[-1] - layers[0] + 1 == len(layers)


def draw_table(sweep: Sweep) -> None:
    points, rows = sweep.points, []
    for point in points:
        row = {"Setting": describe_edit(point.edit)}
        for scorer in sweep.scorers:
            effect = point.effects[scorer.name]
            row[scorer.title] = interval(effect.after)
            for each in effect.controls:
                row[f"{scorer.title}, {CONTROLS[each.kind].lower()}"] = number(each.level.mean)
        rows.append(row)
    st.dataframe(rows, hide_index=True, alt="All settings with their scores and their random control")
    before = points[0].effects
    unedited = "; ".join(f"{scorer.title} {interval(before[scorer.name].before)}" for scorer in sweep.scorers)
    st.caption(plain(f"Unedited: {unedited}. 95 % intervals in brackets."))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        index = st.selectbox(
            "A setting",
            range(len(points)),
            format_func=lambda index: describe_edit(points[index].edit).capitalize(),
            key=f"sweep_setting_{len(points)}",
        )
        st.button("Make it the edit plan", key="take_setting", on_click=take_setting, args=(points[index].edit,))


def draw_download_of_all(sweep: Sweep) -> None:
    from detox_engine.scoring.records import record_sweep

    draw_download(
        "Everything as JSON",
        lambda: write_json(record_sweep(sweep)),
        "trade_offs.json",
        "download_sweep",
        "Every setting with all scores, intervals and controls.",
    )


def draw_command(asked: Asked, limit: float) -> None:
    draw_commands(
        [
            commands.fit_command(asked.fitted.study),
            commands.sweep_command(asked.fitted.study, asked.plan, 1 + limit / 100),
        ]
    )


show(draw, HEAD, HELP)
