"""The journey as a strip: model → pairs → embeddings → subspace, each with its state and time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ui.words.text import escape
from ui.words.verdicts import tell_suggestion
from ui.work.jobs import Snapshot, Stage

if TYPE_CHECKING:
    from detox_engine.study.study import Study

STEPS = ("Model", "Pairs", "Embeddings", "Subspace")

_FIRST_STAGES = {"Reading pairs": 1, "Embedding texts": 2}
"""The stages with which a step begins; before them it is the model's turn, after the embeddings the subspaces'."""


@dataclass(frozen=True)
class Step:
    """One step of the journey, in words."""

    name: str
    what: str
    detail: str
    state: Literal["waiting", "running", "ready", "doubtful", "failed", "stopped"]
    status: str
    share: float | None = None
    """Share that is done while it runs; None where that is not known."""


def steps_of_study(study: Study, model: str, pairs: str, stages: Sequence[Stage]) -> tuple[Step, ...]:
    """The strip of a fitted study; `stages` are those of the fit in this session, if it was here.

    Pairs that do not isolate toxicity are doubtful, and the strip says why.
    """
    seconds = study.seconds
    reading = _seconds_of_steps(stages)[1]
    judged = ("doubtful", study.verdict) if study.verdict else ("ready", _took(reading))
    return (
        Step("Model", model, f"{study.layers} layers, {study.model.hidden} wide", "ready", _took(seconds["load"])),
        Step("Pairs", pairs, f"{study.pair_count:,} pairs", *judged),
        Step(
            "Embeddings",
            f"{2 * study.pair_count:,} texts read",
            f"{study.tokens:,} tokens, at every layer",
            "ready",
            _took(seconds["embed"]),
        ),
        Step("Subspace", describe_standing(study), tell_suggestion(study), "ready", _took(seconds["subspace"])),
    )


def describe_standing(study: Study) -> str:
    """How many directions stand out, over all layers, in a few words."""
    low, high = min(study.dominant_ranks), max(study.dominant_ranks)
    many = f"{low or 'None'}" if low == high else f"{low} to {high}"
    return f"{many} of {study.kept} directions {'stands' if high == 1 else 'stand'} out"


def steps_of_job(snapshot: Snapshot, model: str, pairs: str) -> tuple[Step, ...]:
    """The strip of a fit that runs, or of one that was stopped or failed on the way."""
    at = _find_steps(snapshot.stages)[-1] if snapshot.stages else 0
    what = (model, pairs, "Both sides of every pair", "Directions of every layer")
    return tuple(Step(name, what[index], *_progress_of_step(snapshot, index, at)) for index, name in enumerate(STEPS))


def _progress_of_step(snapshot: Snapshot, index: int, at: int) -> tuple:
    """Detail, state, status and share of step `index` of a job that is at step `at`."""
    if index < at:
        return "", "ready", _took(_seconds_of_steps(snapshot.stages)[index]), None
    if index > at:
        return "", "waiting", "Waiting", None
    if snapshot.state == "running":
        stage = snapshot.stage
        detail = "" if stage is None or stage.total < 2 else f"{stage.done:,} of {stage.total:,}"
        return detail, "running", "Working…", stage.share if stage and stage.total > 1 else None
    return "", *(("stopped", "Stopped") if snapshot.state == "stopped" else ("failed", "Failed")), None


def _find_steps(stages: Sequence[Stage]) -> list[int]:
    """For each stage the index of its step."""
    steps: list[int] = []
    for stage in stages:
        before = steps[-1] if steps else 0
        steps.append(_FIRST_STAGES.get(stage.name, 3 if before >= 2 else before))
    return steps


def _seconds_of_steps(stages: Sequence[Stage]) -> list[float]:
    seconds = [0.0] * len(STEPS)
    for stage, step in zip(stages, _find_steps(stages), strict=True):
        seconds[step] += stage.seconds or 0.0
    return seconds


def _took(seconds: float) -> str:
    if seconds < 0.05:
        return "Ready"
    return f"Ready in {seconds:.1f} s" if seconds < 100 else f"Ready in {seconds / 60:.0f} min"


def strip_html(steps: Sequence[Step]) -> str:
    """The strip as HTML; what is untrusted in it is escaped."""
    return f'<ol class="strip" aria-label="The journey from model to subspace">{"".join(map(_step_html, steps))}</ol>'


def _step_html(step: Step) -> str:
    bar = ""
    if step.state == "running" and step.share is not None:
        bar = f'<div class="bar"><span style="width: {step.share:.0%}"></span></div>'
    return (
        f'<li class="{step.state}"><div class="step">{step.name}</div><div class="what">{escape(step.what)}</div>'
        f'<div class="detail">{escape(step.detail)}</div><div class="state">{escape(step.status)}</div>{bar}</li>'
    )
