"""One open model and the whole journey on it: fit, read, edit, compare."""

from collections.abc import Sequence

from detox_engine.edit.low_rank import LowRankEdit, make_edit
from detox_engine.errors import Progress, ignore_progress
from detox_engine.forward.compare import Comparison, compare_prompts
from detox_engine.model.load import OpenModel, load_model
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.fit import PAPER, FitPlan
from detox_engine.plans.read import Measure
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.plans.sources import ModelSpec, PairSpec
from detox_engine.reading.directions import DirectionReading, read_directions
from detox_engine.scoring.evaluation import check_suggestion
from detox_engine.scoring.scorers.profanity import ProfanityScorer
from detox_engine.scoring.toxicity import score_comparisons
from detox_engine.scoring.trial import TextScorer
from detox_engine.study.fit import extend_study, fit_and_suggest, fit_study
from detox_engine.study.study import Study


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
