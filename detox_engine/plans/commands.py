"""A plan as the words of a command line, and the commands that do what a page did."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from detox_engine.plans.auto import AutoPlan, NamedModel
from detox_engine.plans.choice import Choice
from detox_engine.plans.edit import EditBeside, EditPlan, ExportForm
from detox_engine.plans.evaluation import EvaluationPlan, SweepPlan
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.lab.experiments import BenchPlan, CurvePlan, LinkPlan
from detox_engine.plans.layers import EVERY_LAYER
from detox_engine.plans.option import Leaf, leaves
from detox_engine.plans.read import LensPlan, MapPlan, Measure, ReadPlan
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.plans.sources import ModelSpec, StudyModel

STUDY = "my-study"
"""The folder that the commands write the study to and read it from."""
PROMPTS = "my-prompts.txt"
"""The file that stands for prompts which are too many to be spelled out."""
EXPORTED = "my-edit"
"""The folder that an edit is taken away in."""
REPORT = "report.html"
MOST_SPELLED = 20
PERPLEXITY_LIMIT = 1.1
"""What a recommended setting multiplies perplexity by at most, unless a person says otherwise."""


class StudyKey(Protocol):
    """A model, and how a study of it is fitted."""

    @property
    def model(self) -> ModelSpec: ...

    @property
    def fit(self) -> FitPlan: ...


def spell(plan: Any, usual: Any) -> list[str]:
    """The words of a command line that turn `usual` into `plan`, the options of what it chooses behind the choice.

    An option for which something else than its default stands in where nothing is said is always said.
    """
    words: list[str] = []
    for leaf, other in zip(leaves(plan), leaves(usual), strict=True):
        words += _words(leaf) if _is_said(leaf, other.value) else ()
        for choice in leaf.value if isinstance(leaf.value, tuple) else (leaf.value,):
            if isinstance(choice, Choice) and choice.options is not None:
                words += spell(choice.options, type(choice.options)())
    return words


def as_text(command: Sequence[str]) -> str:
    """A command as it is typed into a shell, whatever its words hold."""
    return shlex.join(command)


def _is_said(leaf: Leaf, usual: Any) -> bool:
    always = leaf.option.usual is not None and leaf.value not in (None, ())
    return leaf.flag is not None and (always or leaf.value != usual)


def _words(leaf: Leaf) -> Iterator[str]:
    if leaf.kind is bool:
        yes, _, no = leaf.flag.partition("/")
        yield yes if leaf.value else no
    else:
        yield from (leaf.flag, leaf.write(leaf.value))


def fit_command(key: StudyKey) -> list[str]:
    """Fits the study of a view."""
    return ["detox", "fit", *spell(key.model, ModelSpec()), *spell(key.fit, FitPlan()), "--out", STUDY]


def directions_command(
    key: StudyKey,
    layers: Iterable[int],
    rank: int,
    measure: Measure = "causal",
    method: str | None = None,
    as_json: bool = False,
) -> list[str]:
    """Reads the first `rank` directions of `layers`; with `as_json` every number of theirs and nothing else."""
    plan = ReadPlan(tuple(layers), rank, measure=measure, method=method)
    return [*_begin("directions", key), *spell(plan, ReadPlan()), *["--json"] * as_json]


def compare_command(key: StudyKey, edit: EditPlan, prompts: Sequence[str], sampling: SamplingPlan) -> list[str]:
    """Writes before and after an edit.

    More than `MOST_SPELLED` prompts are read from the file `PROMPTS`, one a line.
    """
    if len(prompts) <= MOST_SPELLED:
        asked = [part for prompt in prompts for part in ("--prompt", prompt)]
    else:
        asked = ["--prompts", PROMPTS]
    return [*_begin("compare", key), *spell(edit, EditPlan()), *asked, *spell(sampling, SamplingPlan())]


def evaluate_command(key: StudyKey, edit: EditPlan, plan: EvaluationPlan) -> list[str]:
    """Evaluates an edit of the fitted study."""
    return [*_begin("evaluate", key), *spell(edit, EditPlan()), *spell(plan, EvaluationPlan())]


def sweep_command(key: StudyKey, plan: SweepPlan, limit: float) -> list[str]:
    """Runs a grid of the fitted study; `limit` is what perplexity may be multiplied by at most."""
    words = [] if limit == PERPLEXITY_LIMIT else ["--perplexity-limit", f"{limit:g}"]
    return [*_begin("sweep", key), *spell(plan, SweepPlan()), *words]


def map_command(key: StudyKey, layer: int, plan: MapPlan, edit: EditPlan) -> list[str]:
    """Lays out the texts of a layer."""
    told = plan if plan.method == "umap" else MapPlan(frame=plan.frame)
    return [*_begin("map", key), "--layer", str(layer), *spell(told, MapPlan()), *_spell_beside(edit)]


def lens_command(
    key: StudyKey,
    text: str,
    rank: int | None,
    direction: int | None,
    edit: EditPlan | None,
    method: str = EditPlan.method,
) -> list[str]:
    """Shows where `text` lights up in every layer: its length on `rank` directions, or along one `direction` from 0."""
    plan = LensPlan(EVERY_LAYER, rank, direction, method)
    beside = [] if edit is None else _spell_beside(edit)
    return [*_begin("lens", key), "--text", text, *spell(plan, LensPlan()), *beside]


def export_commands(key: StudyKey, edit: EditPlan, form: ExportForm) -> list[list[str]]:
    """Writes an edit of the fitted study as files that others load, and holds them against what they claim to be."""
    written = [*_begin("export", key), *spell(edit, EditPlan()), "--as", form, "--out", EXPORTED]
    return [written, ["detox", "verify", EXPORTED, "--base", key.model.name]]


def auto_command(model: ModelSpec, plan: AutoPlan) -> list[str]:
    """Goes from a model to a verdict."""
    where = NamedModel(**vars(model))
    return ["detox", "auto", model.name, *spell(where, NamedModel()), *spell(plan, AutoPlan()), "--out", EXPORTED]


def report_command(key: StudyKey, edit: EditPlan) -> list[str]:
    """Draws a study and its edit as one file."""
    return [*_begin("report", key), *spell(edit, EditPlan()), "--out", REPORT]


def lab_command(key: StudyKey, lab: str, plan: BenchPlan | CurvePlan | LinkPlan) -> list[str]:
    """Runs a lab on the fitted study."""
    detox, command, *study = _begin("bench" if lab == "bench" else "lab", key)
    named = [] if lab == "bench" else [lab]
    return [detox, command, *named, *study, *spell(plan, type(plan)())]


def _spell_beside(edit: EditPlan) -> list[str]:
    return spell(EditBeside(**vars(edit)), EditBeside())


def _begin(command: str, key: StudyKey) -> list[str]:
    model = StudyModel(device=key.model.device, dtype=key.model.dtype, device_map=key.model.device_map)
    return ["detox", command, STUDY, *spell(model, StudyModel())]
