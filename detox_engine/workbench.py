"""The whole journey: from pairs to a study that is judged and suggests an edit, and on one open model on from there."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from detox_engine.cluster.connection import require_cluster
from detox_engine.cluster.crew import open_crew
from detox_engine.data.bundled import bundled_pairs
from detox_engine.data.stream import PairStream, open_pairs
from detox_engine.edit.low_rank import LowRankEdit, make_edit
from detox_engine.errors import Progress, ignore_progress
from detox_engine.export.take_away import NOTHING, Claim, Enclosed, Export, export_edit, verify_export
from detox_engine.forward.compare import Comparison, compare_prompts
from detox_engine.model.load import OpenModel, load_model
from detox_engine.plans.edit import EditPlan, ExportForm
from detox_engine.plans.fit import PAPER, FitPlan
from detox_engine.plans.read import Measure
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.plans.shared.cluster import ClusterPlan
from detox_engine.plans.sources import ModelSpec, PairSpec
from detox_engine.reading.directions import DirectionReading, read_directions
from detox_engine.reading.readability import judge_readability
from detox_engine.scoring.evaluation import check_suggestion
from detox_engine.scoring.scorers.profanity import ProfanityScorer
from detox_engine.scoring.trial import TextScorer, score_comparisons
from detox_engine.study.fit import SAMPLE, Crew, extend_study, fit_study
from detox_engine.study.methods import need_covariance
from detox_engine.study.study import Study, require_new
from detox_engine.study.suggestion.search import suggest_edit


class Workbench:
    """An open model, shared by everyone who explores it, and never left edited.

    Every method may be called from any thread: forward passes take turns, batch by batch, and edits live only in
    the pass that carries them.
    """

    def __init__(self, model: OpenModel) -> None:
        self.model = model

    @classmethod
    def load(cls, spec: ModelSpec = ModelSpec(), progress: Progress = ignore_progress) -> "Workbench":  # noqa: B008
        return cls(load_model(spec, progress))

    def fit(
        self,
        plan: FitPlan = FitPlan(),  # noqa: B008
        progress: Progress = ignore_progress,
        keep_moments: bool = True,
    ) -> Study:
        """From pairs to the toxic subspace of every layer; see `fit_study`."""
        return fit_study(self.model, plan, progress, keep_moments=keep_moments)

    def fit_and_suggest(
        self,
        plan: FitPlan = FitPlan(),  # noqa: B008
        progress: Progress = ignore_progress,
        keep_moments: bool = True,
    ) -> Study:
        """As `fit`, and the study suggests an edit; see `fit_and_suggest`."""
        return fit_and_suggest(self.model, plan, progress, keep_moments=keep_moments)

    def extend(self, study: Study, more: PairSpec, progress: Progress = ignore_progress) -> Study:
        """The study of its pairs and `more` of them; see `extend_study`."""
        return extend_study(self.model, study, more, progress)

    def read(
        self,
        study: Study,
        layers: Sequence[int],
        rank: int,
        top: int = 10,
        measure: Measure = "lens",
        method: str = PAPER,
        progress: Progress = ignore_progress,
    ) -> tuple[DirectionReading, ...]:
        """The first `rank` directions of each of `layers` in tokens; see `read_directions`."""
        return read_directions(self.model, study, layers, rank, top, measure, method, progress)

    def edit(self, study: Study, plan: EditPlan) -> LowRankEdit:
        """The edit that `plan` asks for, checked against the study and this model."""
        study.require_fit(self.model)
        return make_edit(study.of(plan.method), plan)

    def check(self, study: Study, progress: Progress = ignore_progress) -> Study:
        """The study with its suggestion confirmed or refuted; see `check_suggestion`."""
        return check_suggestion(self.model, study, progress)

    def export(
        self,
        study: Study,
        plan: EditPlan,
        folder: Path,
        form: ExportForm = "adapter",
        progress: Progress = ignore_progress,
        enclosed: Enclosed = NOTHING,
    ) -> Export:
        """Write an edit as a folder that others can load; see `export_edit`."""
        return export_edit(self.model, study, plan, folder, form, progress, enclosed)

    def verify(self, folder: Path, progress: Progress = ignore_progress) -> tuple[Claim, ...]:
        """Hold an exported folder against what it claims to be; see `verify_export`."""
        return verify_export(folder, self.model, progress)

    def compare(
        self,
        study: Study,
        plan: EditPlan,
        prompts: Sequence[str],
        sampling: SamplingPlan = SamplingPlan(),  # noqa: B008
        progress: Progress = ignore_progress,
        probabilities: bool = True,
        scorer: TextScorer = ProfanityScorer(),  # noqa: B008
    ) -> tuple[Comparison, ...]:
        """What the model writes after each prompt before and after the edit, and how toxic `scorer` finds it."""
        edit = self.edit(study, plan)
        comparisons = compare_prompts(self.model, prompts, edit, sampling, progress, probabilities)
        return score_comparisons(comparisons, scorer)


def fit_and_suggest(
    model: OpenModel,
    plan: FitPlan = FitPlan(),  # noqa: B008
    progress: Progress = ignore_progress,
    pairs: PairStream | None = None,
    keep_moments: bool = True,
    crew: Crew | None = None,
) -> Study:
    """As `fit_study`; and where the plan asks for a suggestion, whether the directions read as words, and an edit."""
    if not plan.suggest:
        return fit_study(model, plan, progress, pairs, keep_moments, crew)
    # The suggestion rests on embeddings and on token moments, whether or not they stay.
    study = fit_study(model, replace(plan, keep_embeddings=True), progress, pairs, crew=crew)
    study = suggest_edit(model, judge_readability(model, study, progress), plan.budget, progress)
    study = study if keep_moments else replace(study, moments=None, token_moments=None)
    return replace(study, plan=plan, embeddings=study.embeddings if plan.keep_embeddings else None)


def fit_to_folder(
    spec: ModelSpec,
    plan: FitPlan,
    folder: Path,
    progress: Progress = ignore_progress,
    cluster: ClusterPlan = ClusterPlan(),  # noqa: B008
) -> Study:
    """Fit a study and write it to a new folder; the folder and the pairs are checked before the model is loaded.

    Of more pairs than are held in memory the first are.
    """
    require_new(folder)
    require_cluster(cluster)
    need_covariance(plan.methods)
    pairs = open_pairs(plan.pairs, bundled_pairs(spec.name))
    pairs.ahead(SAMPLE, progress)
    model = load_model(spec, progress)
    with open_crew(cluster, model, progress) as crew:
        study = fit_and_suggest(model, plan, progress, pairs, crew=crew)
    study.save(folder)
    return study


def extend_to_folder(
    study: Study, spec: ModelSpec, more: PairSpec, folder: Path, progress: Progress = ignore_progress
) -> Study:
    """Add pairs to a study and write the whole to a new folder; checked as `fit_to_folder` does."""
    require_new(folder)
    study.require_extensible()
    pairs = open_pairs(more, bundled_pairs(spec.name))
    pairs.ahead(SAMPLE, progress)
    model = load_model(spec, progress)
    extended = extend_study(model, study, more, progress, pairs)
    if study.plan.suggest:
        extended = suggest_edit(model, judge_readability(model, extended, progress), study.plan.budget, progress)
    extended.save(folder)
    return extended
