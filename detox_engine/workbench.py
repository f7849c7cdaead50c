"""One open model and the whole journey on it: fit, read, edit, compare."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter

from detox_engine.data.bundled import bundled_pairs
from detox_engine.data.stream import PairStream, open_pairs
from detox_engine.edit.low_rank import LowRankEdit, make_edit
from detox_engine.errors import Progress, ignore_progress
from detox_engine.forward.compare import Comparison, compare_prompts
from detox_engine.forward.embed import embed_pairs
from detox_engine.model.load import OpenModel, load_model
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.measure import SamplingPlan
from detox_engine.plans.sources import BUNDLED, ModelSpec, PairSpec
from detox_engine.reading.directions import DirectionReading
from detox_engine.reading.lens import Measure, read_tokens
from detox_engine.scoring.scorers.profanity import ProfanityScorer
from detox_engine.study.fit import SAMPLE, Fit, PairSample, fit_pairs, fit_stream, sum_moments
from detox_engine.study.rank import count_dominant_directions
from detox_engine.study.study import ModelIdentity, Study, require_new, stamp
from detox_engine.study.suggest import suggest


class Workbench:
    """An open model, shared by everyone who explores it, and never left edited.

    Every method may be called from any thread: forward passes take turns, batch by batch, and edits live only in
    the pass that carries them.
    """

    def __init__(self, model: OpenModel, load_seconds: float = 0.0) -> None:
        self.model = model
        self.load_seconds = load_seconds

    @classmethod
    def load(cls, spec: ModelSpec = ModelSpec(), progress: Progress = ignore_progress) -> "Workbench":  # noqa: B008
        start = perf_counter()
        model = load_model(spec, progress)
        return cls(model, perf_counter() - start)

    def fit(
        self,
        plan: FitPlan = FitPlan(),  # noqa: B008
        progress: Progress = ignore_progress,
        pairs: PairStream | None = None,
        keep_moments: bool = True,
    ) -> Study:
        """Steps 1–5 of the method: from pairs to the toxic subspace of every layer.

        Args:
            pairs: those that the plan names, where their reading has begun already.
            keep_moments: with a study of streamed pairs, so that more can be added to it.

        Raises:
            InputError: the pairs cannot be used, or the embeddings cannot be taken (see `PairStream`, `embed_pairs`).
        """
        if pairs is None:
            pairs = open_pairs(plan.pairs, bundled_pairs(self.model.spec.name))
        study = self._make_study(plan, fit_pairs(self.model, plan, pairs, progress))
        return study if keep_moments else replace(study, moments=None)

    def extend(
        self, study: Study, more: PairSpec, progress: Progress = ignore_progress, pairs: PairStream | None = None
    ) -> Study:
        """The study of its pairs and `more` of them, fitted by its own plan; only these are embedded.

        Raises:
            InputError: the study is of another model or can take no more pairs, or as `fit`.
        """
        study.require_fit(self.model)
        study.require_extensible()
        plan = study.plan
        if pairs is None:
            pairs = open_pairs(more, bundled_pairs(self.model.spec.name))
        embeddings = study.embeddings or embed_pairs(
            self.model, study.pairs, plan.max_length, plan.pooling, progress=progress
        )
        sample = PairSample(study.pairs, embeddings, study.pair_count, study.pairs_hash, study.tokens, study.warnings)
        before = sample, study.moments or sum_moments(embeddings)
        fit = fit_stream(self.model, plan, pairs, progress, before)
        return replace(self._make_study(plan, fit), added=(*study.added, more))

    def _make_study(self, plan: FitPlan, fit: Fit) -> Study:
        subspaces, sample = fit.subspaces, fit.sample
        ranks = tuple(
            null.suggest_rank(subspace.singular_values)
            for null, subspace in zip(fit.null_spectra, subspaces, strict=True)
        )
        begin = suggest(self.model.spec.name, len(subspaces), count_dominant_directions(fit.null_spectra, subspaces))
        made, versions = stamp()
        return Study(
            model=self.identity,
            plan=plan,
            pairs=sample.pairs,
            pair_count=sample.count,
            pairs_hash=sample.pairs_hash,
            warnings=sample.warnings,
            subspaces=subspaces,
            embeddings=sample.embeddings if plan.keep_embeddings else None,
            tokens=sample.tokens,
            seconds={"load": self.load_seconds, **fit.seconds},
            null_spectra=fit.null_spectra,
            suggested_ranks=ranks,
            suggested_layers=begin.layers,
            suggested_rank=min(begin.rank, min(subspace.kept for subspace in subspaces)),
            made=made,
            versions=versions,
            moments=fit.moments,
        )

    @property
    def identity(self) -> ModelIdentity:
        model = self.model
        name = model.spec.name
        folder = Path(name).expanduser()
        if name != BUNDLED and model.revision is None and folder.is_dir():
            # The whole path, so that the study finds its model from anywhere.
            name = str(folder.absolute())
        return ModelIdentity(name, model.revision, model.weights_hash, model.anatomy.layers, model.anatomy.hidden)

    def read(
        self,
        study: Study,
        layers: Sequence[int],
        rank: int,
        top: int = 10,
        measure: Measure = "product",
        through_norm: bool = False,
    ) -> tuple[DirectionReading, ...]:
        """The first `rank` directions of each of `layers` in tokens, layer by layer, strongest first."""
        study.require_fit(self.model)
        plan = EditPlan(tuple(layers), rank)
        edit = make_edit(study.subspaces, plan)
        found = []
        for layer in sorted(set(plan.layers)):
            subspace = study.subspaces[layer]
            readings = read_tokens(edit.bases[layer], self.model, top, measure, through_norm)
            shares = subspace.shares
            found.extend(
                DirectionReading(
                    layer,
                    direction,
                    float(subspace.singular_values[direction]),
                    float(shares[direction]),
                    float(subspace.polarity[direction]),
                    reading,
                )
                for direction, reading in enumerate(readings)
            )
        return tuple(found)

    def edit(self, study: Study, plan: EditPlan) -> LowRankEdit:
        """The edit that `plan` asks for, checked against the study and this model."""
        study.require_fit(self.model)
        return make_edit(study.subspaces, plan)

    def compare(
        self,
        study: Study,
        plan: EditPlan,
        prompts: Sequence[str],
        sampling: SamplingPlan = SamplingPlan(),  # noqa: B008
        progress: Progress = ignore_progress,
        probabilities: bool = True,
    ) -> tuple[Comparison, ...]:
        """What the model writes after each prompt before and after the edit, with the toxicity of each continuation."""
        edit = self.edit(study, plan)
        comparisons = compare_prompts(self.model, prompts, edit, sampling, progress, probabilities)
        scorer = ProfanityScorer()
        before = scorer.score([comparison.before.text for comparison in comparisons])
        after = scorer.score([comparison.after.text for comparison in comparisons])
        return tuple(
            replace(comparison, toxicity_before=low, toxicity_after=high)
            for comparison, low, high in zip(comparisons, before, after, strict=True)
        )


def fit_to_folder(spec: ModelSpec, plan: FitPlan, folder: Path, progress: Progress = ignore_progress) -> Study:
    """Fit a study and write it to a new folder; the folder and the pairs are checked before the model is loaded.

    Of more pairs than are held in memory the first are.
    """
    require_new(folder)
    pairs = open_pairs(plan.pairs, bundled_pairs(spec.name))
    pairs.ahead(SAMPLE, progress)
    study = Workbench.load(spec, progress).fit(plan, progress, pairs)
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
    extended = Workbench.load(spec, progress).extend(study, more, progress, pairs)
    extended.save(folder)
    return extended
