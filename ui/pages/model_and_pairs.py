"""What are we looking at? The model, the pairs, and the fit that joins them."""

import streamlit as st

from detox_engine.errors import InputError
from ui import controls, frame, jobs, state
from ui.cache import StudyKey
from ui.frame import name_model, name_pairs
from ui.strip import steps_of_job, steps_of_study, strip_html
from ui.text import mask, plain

SHOWN_PAIRS = 500


def draw_strip() -> None:
    """The main picture: a fit that runs, or what the last one came to, or the study that is there."""
    job, study = jobs.find_job("fit"), state.current_study()
    if job is not None:
        names = (name_model(job.key.model).removeprefix("the "), name_pairs(job.key.fit.pairs).removeprefix("the "))
        if job.running:
            jobs.watch_job(job, lambda snapshot: st.html(strip_html(steps_of_job(snapshot, *names))), "Stop the fit")
            return
        st.html(strip_html(steps_of_job(job.snapshot, *names)))
        if job.snapshot.state == "failed":
            frame.draw_error(job.snapshot.error)
        elif study is not None:
            st.info("The fit was stopped. The study from before is still in use.", icon=":material/info:")
        else:
            st.info("The fit was stopped. Start it again below.", icon=":material/info:")
    elif study is not None:
        view = state.view()
        names = (name_model(view.model).removeprefix("the "), name_pairs(view.fit.pairs).removeprefix("the "))
        st.html(strip_html(steps_of_study(study, *names, st.session_state.get("fit_stages", ()))))
    else:
        view = state.view()
        st.info(
            plain(
                f"Nothing is fitted yet for {name_model(view.model)} on {name_pairs(view.fit.pairs)}. "
                "Choose below and press Fit."
            ),
            icon=":material/info:",
        )


def draw_choice() -> None:
    """Pick a model, pairs and options, and fit."""
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Model", anchor=False)
        model = controls.pick_model()
    with right:
        st.subheader("Pairs", anchor=False)
        pairs = controls.pick_pairs()
    try:
        with st.expander("Options of the fit", icon=":material/tune:"):
            plan = controls.pick_fit_plan(pairs) if pairs else None
            if plan is None:
                st.caption("They appear once the pairs are chosen.")
    except InputError as error:
        frame.draw_error(str(error))
        plan = None
    ready = model is not None and plan is not None
    key = StudyKey(model, plan) if ready else None
    job = jobs.find_job("fit")
    fitted = state.current_study() is not None and key == state.view().study_key
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Fit again" if fitted else "Fit",
            key="fit",
            type="secondary" if fitted else "primary",
            icon=":material/play_arrow:",
            disabled=not ready or (job is not None and job.running),
            on_click=state.begin_fit,
            args=(key,),
            kwargs={"afresh": True},
        )
        if not ready:
            st.caption("Name a model and pairs first.")
        elif fitted:
            st.caption("This is the study in use on every page.")


def draw_pairs() -> None:
    """The study's pairs, what was noticed about them, and a filter."""
    from detox_engine.pairs import UNEVEN, find_flaws

    study = state.current_study()
    if study is None:
        return
    st.subheader("The pairs in use", anchor=False)
    shown = state.shows_words()
    for warning in study.warnings:
        st.warning(plain(mask(warning, shown)), icon=":material/warning:")
    flaws = find_flaws(study.pairs)
    cut = set(study.embeddings.cut) if study.embeddings else set()
    labels = [sorted(found | ({"cut off"} if index in cut else set())) for index, found in enumerate(flaws)]
    words = st.text_input(
        "Filter", key="pairs_filter", placeholder="Words in any of the texts", persist_state="session"
    )
    wanted = words.casefold().split()
    only_flawed = any(labels) and st.toggle(
        "Only pairs with something odd", key="pairs_flawed", persist_state="session"
    )
    chosen = [
        (pair, found)
        for pair, found in zip(study.pairs, labels, strict=True)
        if (found or not only_flawed)
        and all(word in f"{pair.prompt} {pair.toxic} {pair.civil}".casefold() for word in wanted)
    ]
    rows = [
        {
            "Prompt": mask(pair.prompt, shown),
            "Toxic": mask(pair.toxic, shown),
            "Civil": mask(pair.civil, shown),
            "Noticed": ", ".join(found).replace(UNEVEN, "uneven lengths"),
        }
        for pair, found in chosen[:SHOWN_PAIRS]
    ]
    if not rows:
        st.caption("No pair holds all of these words.")
        return
    columns = [name for name in ("Prompt", "Toxic", "Civil", "Noticed") if any(row[name] for row in rows)]
    widths = {name: st.column_config.TextColumn(width="large") for name in ("Prompt", "Toxic", "Civil")}
    st.dataframe(
        rows,
        hide_index=True,
        height=420,
        row_height=64,
        column_order=columns,
        column_config=widths,
        alt="Pairs of toxic and civil texts",
    )
    first = f", of which the first {SHOWN_PAIRS:,} are shown" if len(chosen) > SHOWN_PAIRS else ""
    st.caption(f"{len(chosen):,} of {len(study.pairs):,} pairs{first}.")


frame.open_page("Model & pairs", "What are we looking at?")
draw_strip()
frame.explain(
    "Every pair is a toxic text and its civil twin, and the model reads both. "
    "The mean of the model's states over a text's tokens stands for the text at each layer, so every pair gives one "
    "difference vector at each layer. "
    "What these differences share, once the direction of everyday words is taken out, is the toxic subspace.",
    r"T = E^{+} - E^{-}, \qquad T \leftarrow T - (T\mu)\,\mu^{\top}, \qquad T = U S V",
)
draw_choice()
draw_pairs()
