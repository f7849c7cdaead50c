"""One loaded model and the whole journey on it: fit, read, edit, compare."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

from detox_engine.anatomy import find_anatomy
from detox_engine.edit import LowRankEdit, make_edit
from detox_engine.embeddings import embed_pairs
from detox_engine.generate import Comparison, compare_prompts
from detox_engine.lens import Measure, Reading, read_tokens
from detox_engine.loading import LoadedModel, load_model
from detox_engine.pairs import DEMO, EVERYDAY, PairSet, read_pairs
from detox_engine.presets import suggest
from detox_engine.rank import draw_null_spectra
from detox_engine.scorers.profanity import ProfanityScorer
from detox_engine.specs import (
    BUNDLED,
    EditPlan,
    FitPlan,
    ModelSpec,
    Progress,
    SamplingPlan,
    ignore_progress,
)
from detox_engine.study import ModelIdentity, Study, require_new, stamp
from detox_engine.subspace import fit_subspaces


@dataclass(frozen=True)
class DirectionReading:
    """One direction of one layer, in numbers and in tokens."""

    layer: int
    direction: int
    singular_value: float
    share: float
    """Of the variance of the layer's centred differences."""
    polarity: float
    reading: Reading


class Workbench:
    """A loaded model, shared by everyone who explores it, and never left edited.

    Every method may be called from any thread: forward passes take turns, batch by batch, and edits live only in
    the pass that carries them.
    """

    def __init__(self, loaded: LoadedModel, load_seconds: float = 0.0) -> None:
        self.loaded = loaded
        self.anatomy = find_anatomy(loaded.model)
        self.load_seconds = load_seconds

    @classmethod
    def load(cls, spec: ModelSpec = ModelSpec(), progress: Progress = ignore_progress) -> "Workbench":  # noqa: B008
        start = perf_counter()
        loaded = load_model(spec, progress)
        return cls(loaded, perf_counter() - start)

    def fit(
        self,
        plan: FitPlan = FitPlan(),  # noqa: B008
        progress: Progress = ignore_progress,
        pair_set: PairSet | None = None,
    ) -> Study:
        """Steps 1–5 of the method: from pairs to the toxic subspace of every layer.

        Args:
            pair_set: the pairs that the plan names, where they have been read already.

        Raises:
            InputError: the pairs cannot be used, or the embeddings cannot be taken (see `read_pairs`, `embed_pairs`).
        """
        if pair_set is None:
            pair_set = read_pairs(plan.pairs, bundled_pairs(self.loaded.spec.name), progress)
        start = perf_counter()
        embeddings = embed_pairs(
            self.loaded, self.anatomy, pair_set.pairs, plan.max_length, plan.pooling, progress=progress
        )
        embedded = perf_counter()
        subspaces = fit_subspaces(embeddings.toxic, embeddings.civil, plan.keep, progress)
        nulls = draw_null_spectra(embeddings, subspaces, progress=progress)
        ranks = tuple(
            null.suggest_rank(subspace.singular_values) for null, subspace in zip(nulls, subspaces, strict=True)
        )
        dominant = tuple(
            null.count_dominant(subspace.singular_values) for null, subspace in zip(nulls, subspaces, strict=True)
        )
        finished = perf_counter()
        begin = suggest(self.loaded.spec.name, len(subspaces), dominant)
        made, versions = stamp()
        warnings = pair_set.warnings
        if embeddings.cut:
            warnings += (f"{len(embeddings.cut)} pairs were cut at {plan.max_length} tokens.",)
        return Study(
            model=self.identity,
            plan=plan,
            pairs=pair_set.pairs,
            pairs_hash=pair_set.hash,
            warnings=warnings,
            subspaces=subspaces,
            embeddings=embeddings if plan.keep_embeddings else None,
            tokens=embeddings.tokens,
            seconds={"load": self.load_seconds, "embed": embedded - start, "subspace": finished - embedded},
            null_spectra=nulls,
            suggested_ranks=ranks,
            suggested_layers=begin.layers,
            suggested_rank=min(begin.rank, min(subspace.kept for subspace in subspaces)),
            made=made,
            versions=versions,
        )

    @property
    def identity(self) -> ModelIdentity:
        loaded, anatomy = self.loaded, self.anatomy
        name = loaded.spec.name
        folder = Path(name).expanduser()
        if name != BUNDLED and loaded.revision is None and folder.is_dir():
            # The whole path, so that the study finds its model from anywhere.
            name = str(folder.absolute())
        return ModelIdentity(name, loaded.revision, loaded.weights_hash, anatomy.layers, anatomy.hidden)

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
        study.require_fit(self.loaded)
        plan = EditPlan(tuple(layers), rank)
        edit = make_edit(study.subspaces, plan)
        found = []
        for layer in sorted(set(plan.layers)):
            subspace = study.subspaces[layer]
            readings = read_tokens(edit.bases[layer], self.anatomy, self.loaded.tokenizer, top, measure, through_norm)
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
        study.require_fit(self.loaded)
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
        comparisons = compare_prompts(self.loaded, self.anatomy, prompts, edit, sampling, progress, probabilities)
        scorer = ProfanityScorer()
        before = scorer.score([comparison.before.text for comparison in comparisons])
        after = scorer.score([comparison.after.text for comparison in comparisons])
        return tuple(
            replace(comparison, toxicity_before=low, toxicity_after=high)
            for comparison, low, high in zip(comparisons, before, after, strict=True)
        )


def bundled_pairs(model_name: str) -> Path:
    """The pairs that “bundled” means: the bundled model's own for it, everyday ones for any other."""
    return (DEMO if model_name == BUNDLED else EVERYDAY) / "pairs.jsonl"


def bundled_prompts(model_name: str) -> Path:
    """Prompts that invite a rude continuation: the bundled model's own for it, everyday ones for any other."""
    return DEMO / "hostile_prompts.txt" if model_name == BUNDLED else EVERYDAY / "challenge_prompts.txt"


def fit_to_folder(spec: ModelSpec, plan: FitPlan, folder: Path, progress: Progress = ignore_progress) -> Study:
    """Fit a study and write it to a new folder; the folder and the pairs are checked before the model is loaded."""
    require_new(folder)
    pair_set = read_pairs(plan.pairs, bundled_pairs(spec.name), progress)
    study = Workbench.load(spec, progress).fit(plan, progress, pair_set)
    study.save(folder)
    return study
