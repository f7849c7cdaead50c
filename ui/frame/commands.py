"""The same from the command line: the exact commands that do what a page did."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import streamlit as st

from detox_engine.plans.edit import EditPlan
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.layers import format_directions, format_layers
from detox_engine.plans.map import MapPlan
from detox_engine.plans.measure import EvaluationPlan, SamplingPlan, SweepPlan
from detox_engine.plans.sources import ModelSpec, PairSpec, TextSpec
from ui.show.downloads import blur_rude

if TYPE_CHECKING:
    from ui.session.view import StudyKey

STUDY = "my-study"
"""The folder that the commands write the study to and read it from."""
EVERY = 1_000_000
PROMPTS = "my-prompts.txt"
"""The file that stands for prompts which are too many to be spelled out."""
MOST_SPELLED = 20


def draw_commands(commands: Sequence[Sequence[str]], note: str = "") -> None:
    """The expander with commands to copy."""
    words = "\n".join(write_command(command) for command in commands)
    with st.expander("The same from the command line", icon=":material/terminal:"), st.container(key="commands"):
        # Blurred or not, the button in its corner copies it in full. Only what people wrote can be rude: to ask for
        # the other words would hold up a first page until the scorer is loaded.
        texts = [
            after for command in commands for option, after in pairwise(command) if option in ("--prompt", "--text")
        ]
        blur_rude("\n".join(texts), "commands", "pre")
        st.code(words, language="bash", wrap_lines=True)
        if note:
            st.caption(note)


def write_command(command: Sequence[str]) -> str:
    """A command as a person types it."""
    return shlex.join(command)


def fit_command(key: StudyKey) -> list[str]:
    """Fits the study of a view."""
    model, pairs, plan = key.model, key.fit.pairs, key.fit
    options = {
        "--model": _unless(model.name, ModelSpec.name),
        "--revision": model.revision,
        "--device": _unless(model.device, ModelSpec.device),
        "--dtype": _unless(model.dtype, ModelSpec.dtype),
        "--pairs": _unless(pairs.source, PairSpec.source),
        "--toxic-column": pairs.toxic,
        "--civil-column": pairs.civil,
        "--prompt-column": pairs.prompt,
        "--subset": pairs.subset,
        "--split": _unless(pairs.split, PairSpec.split),
        "--pairs-revision": pairs.revision,
        "--limit": pairs.limit,
        "--seed": _unless(pairs.seed, PairSpec.seed),
        "--max-length": _unless(plan.max_length, FitPlan.max_length),
        "--pooling": _unless(plan.pooling, FitPlan.pooling),
        "--keep": _unless(plan.keep, FitPlan.keep),
        "--out": STUDY,
    }
    return ["detox", "fit", *_spell(options), *([] if plan.keep_embeddings else ["--no-embeddings"])]


def directions_command(
    key: StudyKey,
    layers: Sequence[int],
    rank: int,
    measure: str = "product",
    through_norm: bool = False,
    as_json: bool = False,
) -> list[str]:
    """Reads the first `rank` directions of `layers`; with `as_json` every number of theirs and nothing else."""
    options = {"--layers": format_layers(layers), "--rank": rank, "--measure": _unless(measure, "product")}
    flags = ["--through-norm"] * through_norm + ["--json"] * as_json
    return [*_begin("directions", key), *_spell(options), *flags]


def compare_command(key: StudyKey, edit: EditPlan, prompts: Sequence[str], sampling: SamplingPlan) -> list[str]:
    """Writes before and after an edit.

    More than `MOST_SPELLED` prompts are read from the file `PROMPTS`, one a line.
    """
    if len(prompts) <= MOST_SPELLED:
        asked = [part for prompt in prompts for part in ("--prompt", prompt)]
    else:
        asked = ["--prompts", PROMPTS]
    return [*_begin("compare", key), *_spell(_edit_options(edit)), *asked, *_sampling_options(sampling, SamplingPlan())]


def evaluate_command(key: StudyKey, edit: EditPlan, plan: EvaluationPlan) -> list[str]:
    """Evaluates an edit of the fitted study."""
    return [*_begin("evaluate", key), *_spell(_edit_options(edit)), *measure_options(plan, EvaluationPlan())]


def sweep_command(key: StudyKey, plan: SweepPlan, limit: float) -> list[str]:
    """Runs a grid of the fitted study; `limit` is what perplexity may be multiplied by at most."""
    options = {
        "--ranks": ",".join(map(str, plan.ranks)),
        "--starts": None if plan.starts is None else format_layers(plan.starts),
        "--ends": None if plan.ends is None else format_layers(plan.ends),
        "--strengths": _unless(",".join(f"{strength:g}" for strength in plan.strengths), "1"),
        "--perplexity-limit": _unless(f"{limit:g}", "1.1"),
    }
    return [*_begin("sweep", key), *_spell(options), *measure_options(plan.evaluation, SweepPlan().evaluation)]


def map_command(key: StudyKey, layer: int, plan: MapPlan, edit: EditPlan) -> list[str]:
    """Lays out the texts of a layer."""
    umap = plan.method == "umap"
    options = {
        "--layer": layer,
        "--method": _unless(plan.method, MapPlan.method),
        "--frame": _unless(plan.frame, MapPlan.frame),
        "--neighbours": _unless(plan.neighbours, MapPlan.neighbours) if umap else None,
        "--spread": _unless(plan.spread, MapPlan.spread) if umap else None,
        "--seed": _unless(plan.seed, MapPlan.seed) if umap else None,
    }
    return [*_begin("map", key), *_spell(options | _edit_options(edit, "edit-"))]


def lens_command(key: StudyKey, text: str, rank: int | None, direction: int | None, edit: EditPlan | None) -> list[str]:
    """Shows where `text` lights up in every layer: its length on `rank` directions, or along one `direction` from 0."""
    options = {"--text": text, "--layers": "all", "--rank": rank, "--direction": direction}
    return [*_begin("lens", key), *_spell(options | ({} if edit is None else _edit_options(edit, "edit-")))]


def _edit_options(edit: EditPlan, prefix: str = "") -> dict[str, object | None]:
    """An edit whose switches are within it; a command that asks for other layers or ranks too has a prefix."""
    return {
        f"--{prefix}layers": format_layers(edit.layers),
        f"--{prefix}rank": edit.rank,
        "--strength": _unless(f"{edit.strength:g}", "1"),
        "--switch-off": format_directions(sorted(edit.switched_off)) or None,
    }


def _begin(command: str, key: StudyKey) -> list[str]:
    options = {
        "--device": _unless(key.model.device, ModelSpec.device),
        "--dtype": _unless(key.model.dtype, ModelSpec.dtype),
    }
    return ["detox", command, STUDY, *_spell(options)]


def measure_options(plan: EvaluationPlan, base: EvaluationPlan) -> list[str]:
    """What an evaluation is measured with, where it differs from `base`."""
    neutral = plan.neutral
    options = {
        "--scorers": _unless(",".join(plan.scorers), ",".join(base.scorers)),
        "--prompts": _unless(plan.prompts, base.prompts),
        "--limit-prompts": _limit(plan.limit_prompts, base.limit_prompts),
        "--neutral": _unless(neutral.source, base.neutral.source),
        "--neutral-subset": neutral.subset,
        "--neutral-split": _unless(neutral.split, TextSpec.split),
        "--neutral-column": _unless(neutral.column, TextSpec.column),
        "--neutral-layout": _unless(neutral.layout, TextSpec.layout),
        "--window": _unless(neutral.window, TextSpec.window),
        "--stride": _unless(neutral.stride, TextSpec.stride),
        "--limit-neutral": _limit(neutral.limit, base.neutral.limit),
        "--classifier": _unless(plan.classifier, base.classifier),
        "--classifier-label": plan.classifier_label,
        "--tasks": _unless(",".join(plan.tasks), ",".join(base.tasks)),
        "--limit-tasks": plan.limit_tasks,
        "--controls": _unless(plan.controls, base.controls),
        "--control-seed": _unless(plan.seed, base.seed),
        "--resamples": _unless(plan.resamples, base.resamples),
    }
    return [*_spell(options), *_sampling_options(plan.sampling, base.sampling)]


def _sampling_options(sampling: SamplingPlan, base: SamplingPlan) -> list[str]:
    """How continuations are written, where it differs from `base`."""
    options = {
        "--max-new-tokens": _unless(sampling.max_new_tokens, base.max_new_tokens),
        "--samples": _unless(sampling.samples, base.samples),
        "--temperature": _unless(sampling.temperature, base.temperature),
        "--top-p": _unless(sampling.top_p, base.top_p),
        "--seed": _unless(sampling.seed, base.seed),
    }
    greedy: dict[bool, list[str]] = {True: ["--greedy"], False: ["--no-greedy"]}
    return [*_spell(options), *([] if sampling.greedy == base.greedy else greedy[sampling.greedy])]


def _unless(value: object, usual: object) -> object | None:
    """`value`, or None where it need not be said."""
    return None if value == usual else value


def _limit(value: int | None, usual: int | None) -> int | None:
    """A limit; where the usual one is to be lifted, a number beyond any file, since the command line has no “all”."""
    return EVERY if value is None and usual is not None else _unless(value, usual)


def _spell(options: dict[str, object | None]) -> list[str]:
    return [part for name, value in options.items() if value is not None for part in (name, str(value))]
