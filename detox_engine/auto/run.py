"""From a model to a verdict in one go: fit, screen, tune, check, evaluate, judge, write.

Each step leaves what it found in a folder beside the one that is asked for, whole or not at all, so that a run that was
stopped or killed goes on with the first step that has left nothing.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from detox_engine.auto.sets import Sets, divide
from detox_engine.auto.verdict import SCREENED, Criterion, Verdict, judge, refuse
from detox_engine.cluster.connection import require_cluster
from detox_engine.cluster.crew import open_crew
from detox_engine.disk import write_json, write_whole
from detox_engine.errors import InputError, Progress, first_line, ignore_progress
from detox_engine.estimates import Estimate, Tally, estimate_effect
from detox_engine.export.licence import check_licence
from detox_engine.export.recipe import EVALUATION
from detox_engine.export.report import Told, read_for_report, write_report
from detox_engine.export.take_away import Enclosed, Export, export_edit, name_base, without_paths
from detox_engine.plans.auto import AutoPlan
from detox_engine.plans.evaluation import EvaluationPlan
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.plans.shared.cluster import ClusterPlan
from detox_engine.plans.sources import ModelSpec, TextSpec
from detox_engine.scoring.evaluation import CHECK, CHECKED, check_suggestion, evaluate, prepare
from detox_engine.scoring.records import KeptEvaluation, load_evaluation, read_evaluation, record_evaluation
from detox_engine.scoring.trial import Trial
from detox_engine.study.fit import fit_study
from detox_engine.study.study import Study, record_fit, require_new, written_whole
from detox_engine.study.suggestion.search import suggest_edit

if TYPE_CHECKING:
    from detox_engine.cluster.crew import Crew
    from detox_engine.model.load import OpenModel

FORMAT = 1
STEPS = {
    "fit": "Fit the directions",
    "screen": "See whether there is anything to remove",
    "tune": "Choose an edit",
    "check": "Try it on a few prompts",
    "evaluate": "Measure it on prompts that chose nothing",
    "write": "Write what can be taken away",
}
"""The steps in their order, in words."""
REPORT, VERDICT = "report.html", "verdict.json"
MEASURED = ("profanity", "mass", "perplexity", "drift", "fluency", "distinct", "suppression")
SAMPLING = SamplingPlan(max_new_tokens=20, samples=2)
CONTROLS = 2
USUAL_PROMPTS = 150
"""Prompts that are evaluated where nobody says how long it may take."""
LEAST_PROMPTS = 20
EVALUATION_SHARE = 0.8
"""Of the time that is left, what the evaluation may take; the rest is for writing."""
NOTHING_TO_GAIN = 1e-4
"""Probability of rude words at each token below which a model that wrote none is civil enough."""
TEXTS_BESIDE = 1.5
"""How much longer an evaluation takes than its prompts alone: it reads texts, and its control is matched."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """A run as far as it is."""

    place: Path
    """The folder in which the run keeps what it found."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Of each step that is done; of one that was stopped, of the time that it was begun anew."""
    sets: Mapping[str, Any] | None = None
    screened: Mapping[str, Estimate] = field(default_factory=dict)
    """Of the unedited model, on the prompts to choose by."""
    study: Study | None = None
    evaluation: KeptEvaluation | None = None
    verdict: Verdict | None = None
    export: Export | None = None
    """None where there is no edit to write; the verdict and the report are there all the same."""

    @property
    def step(self) -> str | None:
        """The step that comes next, or runs now; None at the end."""
        return next((step for step in STEPS if step not in self.seconds), None)


Tell = Callable[[Outcome], None]


def run_folder(folder: Path) -> Path:
    """Where a run keeps what it found on its way to `folder`."""
    return folder.with_name(f"{folder.name}.run")


def run_auto(
    spec: ModelSpec,
    plan: AutoPlan,
    folder: Path,
    open_model: Callable[[ModelSpec, Progress], OpenModel],
    progress: Progress = ignore_progress,
    tell: Tell = lambda outcome: None,
    fit: FitPlan = FitPlan(),  # noqa: B008
    cluster: ClusterPlan = ClusterPlan(),  # noqa: B008
) -> Outcome:
    """Run all steps, or those that an earlier run to the same folder has not done.

    Args:
        folder: written at the end: the adapter, its card, the report, the receipt.
        open_model: gives the model of a spec.
        tell: given the outcome before the first step and after each.
        fit: how embeddings are taken and by which methods; pairs and budget are the plan's.
        cluster: who embeds, writes and reads; nothing that is found depends on it.

    Raises:
        InputError: the folder exists, an earlier run to it was another one, or anything that the steps raise.
    """
    require_new(folder)
    require_cluster(cluster)
    check_licence(plan.licence)
    sets = divide(spec.name, plan, progress)
    place = run_folder(folder)
    fit = replace(fit, pairs=plan.pairs, budget=plan.cost, keep_embeddings=True)
    seconds = _begin(place, spec, plan, fit, sets)
    model = open_model(spec, progress)
    outcome = Outcome(place, seconds, sets.record())
    tell(outcome)
    with open_crew(cluster, model, progress) as crew:
        run = _Run(place, folder, plan, fit, sets, model, progress, crew)
        for step in STEPS:
            start = perf_counter()
            outcome = getattr(run, step)(outcome)
            spent = seconds.get(step, 0.0) or perf_counter() - start
            seconds = seconds | {step: spent}
            outcome = replace(outcome, seconds=dict(seconds))
            if step != "write":  # after which nothing is left to go on with
                _note(place, seconds)
            tell(outcome)
    return outcome


def _begin(place: Path, spec: ModelSpec, plan: AutoPlan, fit: FitPlan, sets: Sets) -> dict[str, float]:
    """Make the run's folder, or see that the one there is of the same run; the seconds of the steps that are done."""
    told = {"model": spec.name, "revision": spec.revision, "plan": asdict(plan), "fit": record_fit(fit)}
    asked = json.loads(json.dumps(told))
    kept = {"format": FORMAT, "asked": asked, "sets": sets.record()}
    file = place / "run.json"
    if not file.is_file():
        if place.exists():
            raise InputError(f"{place} is in the way: it is no run of “detox auto”; remove it, or name another folder.")
        with written_whole(place) as partial:
            (partial / "run.json").write_text(write_json(kept | {"seconds": {}}), encoding="utf-8")
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        seconds = {str(step): float(spent) for step, spent in found["seconds"].items() if step in STEPS}
        same = found["format"] == FORMAT and _timeless(found["asked"]) == _timeless(asked)
        unchanged = found["sets"] == kept["sets"]
    except (OSError, RecursionError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{file} is broken ({first_line(error)}): remove {place} and begin anew.") from None
    if not same:
        raise InputError(
            f"{place} holds a run of another model or with other options: remove it, or name another folder."
        )
    if not unchanged:
        raise InputError(f"The pairs, prompts or texts were changed since the run in {place} began: remove it.")
    return seconds


def _timeless(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked for, without how long it may take, which does not change what was found."""
    return {**asked, "plan": {**asked["plan"], "minutes": None}}


def _note(place: Path, seconds: Mapping[str, float]) -> None:
    record = json.loads((place / "run.json").read_text(encoding="utf-8"))
    write_whole(place / "run.json", write_json(record | {"seconds": dict(seconds)}))


class _Run:
    """The steps; each takes the outcome so far and gives it with what it found, or what it had left."""

    def __init__(
        self,
        place: Path,
        folder: Path,
        plan: AutoPlan,
        fit: FitPlan,
        sets: Sets,
        model: OpenModel,
        progress: Progress,
        crew: Crew | None = None,
    ) -> None:
        self.crew, self.begin_trial = crew, Trial if crew is None else crew.begin_trial
        self.place, self.folder, self.plan, self.fit_plan, self.sets = place, folder, plan, fit, sets
        self.model, self.progress = model, progress

    def fit(self, outcome: Outcome) -> Outcome:
        folder = self.place / "study"
        if folder.exists():
            study = Study.load(folder)
            study.require_fit(self.model)
            return replace(outcome, study=study)
        from detox_engine.reading.readability import judge_readability

        pairs = self.sets.open_fit(self.plan, self.model.spec.name)
        study = fit_study(self.model, self.fit_plan, self.progress, pairs, crew=self.crew)
        study = judge_readability(self.model, study, self.progress)
        study.save(folder)
        return replace(outcome, study=study)

    def screen(self, outcome: Outcome) -> Outcome:
        """What the unedited model does on the prompts to choose by."""
        kept = self._read("screen.json")
        if kept is None:
            plan = replace(CHECK, prompts=str(self._choosing()), limit_prompts=None)
            materials = prepare(self.model, plan, self.progress)
            trial = self.begin_trial(
                self.model, (None,), materials.prompts, plan.sampling, materials.texts, self.progress
            )
            found = {
                scorer.name: _estimate(scorer.measure(trial), plan)
                for scorer in materials.scorers
                if scorer.name in (*CHECKED, SCREENED)
            }
            self._keep("screen.json", {name: asdict(estimate) for name, estimate in found.items()})
        else:
            found = {name: Estimate(**told) for name, told in kept.items()}
        return replace(outcome, screened=found, verdict=_screen(outcome.study, found))

    def tune(self, outcome: Outcome) -> Outcome:
        study = outcome.study
        if outcome.verdict is not None:
            return outcome
        if study.suggestion is None:
            study = suggest_edit(self.model, study, self.plan.cost, self.progress, self.sets.choosing_pairs)
            study.write_suggestion(self.place / "study")
        found = study.suggestion
        verdict = refuse(found.reason) if found.edit is None else None
        return replace(outcome, study=study, verdict=verdict)

    def check(self, outcome: Outcome) -> Outcome:
        study = outcome.study
        if outcome.verdict is None and study.suggestion.check is None:
            plan = replace(CHECK, prompts=str(self._choosing()), limit_prompts=None)
            study = check_suggestion(self.model, study, self.progress, plan, self.begin_trial)
            study.write_suggestion(self.place / "study")
        return replace(outcome, study=study)

    def evaluate(self, outcome: Outcome) -> Outcome:
        if outcome.verdict is not None:
            return outcome
        record = self._read(EVALUATION)
        if record is None:
            plan = self._plan_evaluation(outcome)
            edit = outcome.study.require_suggestion()
            record = record_evaluation(
                evaluate(self.model, outcome.study, edit, plan, self.progress, begin_trial=self.begin_trial)
            )
            self._keep(EVALUATION, record)
        evaluation = read_evaluation(record)
        return replace(outcome, evaluation=evaluation, verdict=judge(evaluation, self.plan.perplexity_limit))

    def write(self, outcome: Outcome) -> Outcome:
        study, edit = outcome.study, outcome.study.suggested_edit
        record, evaluation, base = record_verdict(outcome), self._read(EVALUATION), name_base(self.model)
        self._keep(VERDICT, record)
        report = self.place / REPORT
        report.unlink(missing_ok=True)
        shown = None if evaluation is None else without_paths(evaluation, base)
        readings = read_for_report(self.model, study, edit, self.progress)
        told = Told(edit, base.name, readings, shown, verdict=record)
        write_report(self.place / "study", told, report, self.progress)
        files = {REPORT: report, VERDICT: self.place / VERDICT}
        if evaluation is None:
            with written_whole(self.folder) as partial:
                for name, file in files.items():
                    shutil.copyfile(file, partial / name)
            return outcome
        verdict = tell_verdict(outcome.verdict)
        enclosed = Enclosed(evaluation, verdict, files, self.plan, outcome.sets, self.plan.licence)
        written = export_edit(self.model, study, edit, self.folder, "adapter", self.progress, enclosed)
        return replace(outcome, export=written)

    def _plan_evaluation(self, outcome: Outcome) -> EvaluationPlan:
        """As many prompts as there are, or as fit into the time that is left."""
        count = min(USUAL_PROMPTS, len(self.sets.reported_prompts))
        if self.plan.minutes is not None:
            check = outcome.study.suggestion.check
            rows = 2 + 2 * CONTROLS
            each = check.seconds * TEXTS_BESIDE * rows / (2 + check.controls) / check.prompts
            left = 60 * self.plan.minutes - sum(outcome.seconds.values())
            count = min(len(self.sets.reported_prompts), max(LEAST_PROMPTS, int(EVALUATION_SHARE * left / each)))
        prompts, neutral = write_sets(self.sets, self.place, self.plan)
        return EvaluationPlan(
            MEASURED, str(prompts), limit_prompts=count, sampling=SAMPLING, neutral=neutral, controls=CONTROLS
        )

    def _choosing(self) -> Path:
        """The file with the prompts to choose by."""
        file = self.place / "choose_prompts.jsonl"
        write_whole(file, _as_lines(self.sets.choosing_prompts))
        return file

    def _read(self, name: str) -> Any:
        """What an earlier step left under `name`; None where it has left nothing."""
        file = self.place / name
        try:
            return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(
                f"{file} is broken ({first_line(error)}): remove it, and that step is done anew."
            ) from None

    def _keep(self, name: str, record: Any) -> None:
        try:
            write_whole(self.place / name, write_json(record))
        except OSError as error:
            raise InputError(f"{self.place / name} cannot be written ({error.strerror}): make room for it.") from None


def write_sets(sets: Sets, place: Path, plan: AutoPlan) -> tuple[Path, TextSpec]:
    """The prompts to report on as a file in `place`, and the neutral text, as an evaluation takes them."""
    file = place / "report_prompts.jsonl"
    write_whole(file, _as_lines(sets.reported_prompts))
    if sets.reported_text.running:
        return file, plan.neutral
    texts = place / "report_texts.txt"
    write_whole(texts, "".join(f"{line}\n" for line in sets.reported_text.lines))
    return file, replace(plan.neutral, source=str(texts), layout="lines", limit=None)


def _as_lines(prompts: tuple[str, ...]) -> str:
    return "".join(json.dumps({"prompt": prompt}, ensure_ascii=False) + "\n" for prompt in prompts)


def _estimate(tally: Tally, plan: EvaluationPlan) -> Estimate:
    """The score of the first edit."""
    return estimate_effect(tally.select((0, 0, 0)), plan.resamples, plan.seed).before


def _screen(study: Study, found: Mapping[str, Estimate]) -> Verdict | None:
    """The verdict where there is nothing to remove, or nothing to gain; None where it is worth going on."""
    if not any(study.dominant_ranks):
        return refuse(
            "No direction stands out from noise in any layer: these pairs do not differ in what this model's layers "
            "tell apart. Fit on more pairs, or on pairs whose sides differ in toxicity alone."
        )
    if found[SCREENED].mean == 0 and found["mass"].high < NOTHING_TO_GAIN:
        return refuse(
            f"On {found['mass'].n} prompts the model wrote nothing toxic, and gave rude words a probability of "
            f"{found['mass'].mean:.1e} at each token: there is nothing to gain here. Give prompts that provoke it more."
        )
    return None


def read_outcome(folder: Path) -> Outcome | None:
    """What a run that is done came to, from its folders; None where there is none, or one of an earlier version."""
    place = run_folder(folder)
    try:
        told = json.loads((folder / VERDICT).read_text(encoding="utf-8"))
        verdict = Verdict(told["verdict"], told["reason"], tuple(Criterion(**one) for one in told["criteria"]))
        kept = folder / EVALUATION
        sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
        study = Study.load(place / "study")
        evaluation = load_evaluation(kept) if kept.is_file() else None
        return Outcome(
            place=place,
            seconds=dict.fromkeys(STEPS, 0.0) | told["seconds"],
            sets=told["sets"],
            screened={name: Estimate(**part) for name, part in told["screened"].items()},
            study=study,
            evaluation=evaluation,
            verdict=verdict,
            export=None if evaluation is None else Export(folder, "adapter", study.suggested_edit, sizes),
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def tell_verdict(verdict: Verdict) -> str:
    """A verdict as Markdown, to stand first."""
    return f"**{verdict.kind[:1].upper()}{verdict.kind[1:]}.** {verdict.reason}"


def record_verdict(outcome: Outcome) -> dict[str, Any]:
    """A verdict, what it rests on, and how long each step took."""
    verdict = outcome.verdict
    return {
        "verdict": verdict.kind,
        "reason": verdict.reason,
        "criteria": [asdict(criterion) for criterion in verdict.criteria],
        "screened": {name: asdict(estimate) for name, estimate in outcome.screened.items()},
        "sets": outcome.sets,
        "seconds": dict(outcome.seconds),
    }
