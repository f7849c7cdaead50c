"""From pairs to the subspaces of every layer: all pairs in memory, or one chunk after another.

Of up to as many pairs as a layer is wide, and up to `SAMPLE`, the embeddings are kept: they take little more room than
the moments that could stand for them. Of more pairs only the moments are, and a random sample of pairs for what needs
texts and embeddings: the map, the cards, the probes.
"""

import ctypes
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor

from detox_engine.data.bundled import bundled_pairs
from detox_engine.data.columns import Pair
from detox_engine.data.pairs import collect_pairs
from detox_engine.data.stream import PairStream, Reservoir, hash_pairs, open_pairs
from detox_engine.errors import Progress, ignore_progress
from detox_engine.forward.embed import embed_pairs
from detox_engine.forward.embedded_pairs import Embeddings
from detox_engine.model.anatomy import Anatomy
from detox_engine.model.load import OpenModel, load_model
from detox_engine.model.threads import run_side_by_side
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.sources import ModelSpec, PairSpec
from detox_engine.study.methods import choose, fit_subspaces, fit_subspaces_of
from detox_engine.study.moments import Moments
from detox_engine.study.null_spectra import NullSpectrum, count_dominant_directions, draw_null_spectra
from detox_engine.study.null_spectra_streamed import draw_null_spectra_of
from detox_engine.study.study import Study, identify, require_new, stamp
from detox_engine.study.subspace import ToxicSubspace
from detox_engine.study.suggest import suggest

SAMPLE = 768
"""Pairs that are kept of a stream, with their embeddings: enough for a map and for probes, and never the larger part
of the memory that the moments take."""

CHUNK = 256
"""Pairs of a stream that are embedded together: texts of nearly one length share a pass, as among all of them."""


@dataclass(frozen=True, eq=False)
class PairSample:
    """Pairs with their embeddings, out of `count` of them: all, or a uniform random sample in their order."""

    pairs: tuple[Pair, ...]
    embeddings: Embeddings
    """Its cut texts are those of the sample, its tokens those of all."""
    count: int
    pairs_hash: str
    tokens: int
    warnings: tuple[str, ...]


def fit_study(
    model: OpenModel,
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
        pairs = open_pairs(plan.pairs, bundled_pairs(model.spec.name))
    study = fit_pairs(model, plan, pairs, progress)
    return study if keep_moments else replace(study, moments=None)


def extend_study(
    model: OpenModel,
    study: Study,
    more: PairSpec,
    progress: Progress = ignore_progress,
    pairs: PairStream | None = None,
) -> Study:
    """The study of its pairs and `more` of them, fitted by its own plan; only these are embedded.

    Raises:
        InputError: the study is of another model or can take no more pairs, or as `fit_study`.
    """
    study.require_fit(model)
    study.require_extensible()
    plan = study.plan
    if pairs is None:
        pairs = open_pairs(more, bundled_pairs(model.spec.name))
    embeddings = study.embeddings or embed_pairs(model, study.pairs, plan.max_length, plan.pooling, progress=progress)
    sample = PairSample(study.pairs, embeddings, study.pair_count, study.pairs_hash, study.tokens, study.warnings)
    before = sample, study.moments or sum_moments(embeddings)
    return replace(fit_stream(model, plan, pairs, progress, before), added=(*study.added, more))


def _make_study(
    model: OpenModel,
    plan: FitPlan,
    sample: PairSample,
    subspaces: tuple[ToxicSubspace, ...],
    null_spectra: tuple[NullSpectrum, ...],
    seconds: Mapping[str, float],
    moments: tuple[Moments, ...] | None = None,
) -> Study:
    ranks = tuple(
        null.suggest_rank(subspace.singular_values) for null, subspace in zip(null_spectra, subspaces, strict=True)
    )
    begin = suggest(model.spec.name, len(subspaces), count_dominant_directions(null_spectra, subspaces))
    made, versions = stamp()
    return Study(
        model=identify(model),
        plan=plan,
        pairs=sample.pairs,
        pair_count=sample.count,
        pairs_hash=sample.pairs_hash,
        warnings=sample.warnings,
        subspaces=subspaces,
        embeddings=sample.embeddings if plan.keep_embeddings else None,
        tokens=sample.tokens,
        seconds={"load": model.load_seconds, **seconds},
        null_spectra=null_spectra,
        suggested_ranks=ranks,
        suggested_layers=begin.layers,
        suggested_rank=min(begin.rank, min(subspace.kept for subspace in subspaces)),
        made=made,
        versions=versions,
        moments=moments,
    )


def fit_to_folder(spec: ModelSpec, plan: FitPlan, folder: Path, progress: Progress = ignore_progress) -> Study:
    """Fit a study and write it to a new folder; the folder and the pairs are checked before the model is loaded.

    Of more pairs than are held in memory the first are.
    """
    require_new(folder)
    choose(plan.method)
    pairs = open_pairs(plan.pairs, bundled_pairs(spec.name))
    pairs.ahead(SAMPLE, progress)
    study = fit_study(load_model(spec, progress), plan, progress, pairs)
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
    extended = extend_study(load_model(spec, progress), study, more, progress, pairs)
    extended.save(folder)
    return extended


def fit_pairs(model: OpenModel, plan: FitPlan, stream: PairStream, progress: Progress = ignore_progress) -> Study:
    """Steps 1–5 of the method; how, depends on how many pairs there are.

    Raises:
        InputError: there is no such method, the pairs cannot be used, or the embeddings cannot be taken (see
            `PairStream`, `embed_pairs`).
    """
    choose(plan.method)  # before anything is embedded
    most = max(model.anatomy.hidden, SAMPLE)
    if len(stream.ahead(most + 1, progress)) > most:
        return fit_stream(model, plan, stream, progress)
    start = perf_counter()
    found = collect_pairs(stream)
    embeddings = embed_pairs(model, found.pairs, plan.max_length, plan.pooling, progress=progress)
    embedded = perf_counter()
    subspaces = fit_subspaces(embeddings.toxic, embeddings.civil, plan.keep, progress, plan.method)
    nulls = draw_null_spectra(embeddings, subspaces, progress=progress)
    warnings = found.warnings + _describe_cut(len(embeddings.cut), plan)
    sample = PairSample(found.pairs, embeddings, len(found.pairs), found.hash, embeddings.tokens, warnings)
    return _make_study(model, plan, sample, subspaces, nulls, _time_steps(start, embedded))


def fit_stream(
    model: OpenModel,
    plan: FitPlan,
    stream: PairStream,
    progress: Progress = ignore_progress,
    before: tuple[PairSample, Sequence[Moments]] | None = None,
) -> Study:
    """As `fit_pairs`, in memory that does not grow with the number of pairs.

    Args:
        before: what earlier pairs came to, to go on from; it stays as it is.
    """
    start = perf_counter()
    moments = [Moments.empty(model.anatomy.hidden) for _ in range(model.anatomy.layers)]
    gathered = _Gathering(model.anatomy, plan, before[0] if before else None)

    def take(chunk: Sequence[Pair]) -> None:
        watch = _count_texts(progress, 2 * (stream.given - len(chunk)), 2 * stream.expected)
        embeddings = embed_pairs(model, chunk, plan.max_length, plan.pooling, progress=watch)
        _add_to_all(moments, embeddings)
        gathered.add(chunk, embeddings)

    while chunk := [pair for _, pair in islice(stream, CHUNK)]:
        take(chunk)
        _return_memory()
    if before:
        moments = [earlier + new for earlier, new in zip(before[1], moments, strict=True)]
    sample = gathered.finish(stream)
    embedded = perf_counter()
    subspaces = fit_subspaces_of(moments, plan.keep, progress, plan.method)
    nulls = draw_null_spectra_of(moments, sample.embeddings, subspaces, progress=progress)
    return _make_study(model, plan, sample, subspaces, nulls, _time_steps(start, embedded), tuple(moments))


def sum_moments(embeddings: Embeddings) -> tuple[Moments, ...]:
    """The moments of every layer of embeddings that are all there."""
    layers, _, hidden = embeddings.toxic.shape
    moments = tuple(Moments.empty(hidden) for _ in range(layers))
    _add_to_all(moments, embeddings)
    return moments


def _add_to_all(moments: Sequence[Moments], embeddings: Embeddings) -> None:
    run_side_by_side(lambda layer: moments[layer].add(embeddings.toxic[layer], embeddings.civil[layer]), len(moments))


class _Gathering:
    """The sample of a stream as it grows, and what is counted of all its pairs."""

    def __init__(self, anatomy: Anatomy, plan: FitPlan, before: PairSample | None) -> None:
        shape = (anatomy.layers, SAMPLE, anatomy.hidden)
        self._plan, self._sides = plan, (torch.empty(shape), torch.empty(shape))
        self._kept: dict[int, tuple[int, Pair, bool]] = {}
        """At each place of the sample the pair's number in the stream, the pair, and whether it was cut."""
        self._hash, self._tokens, self._cut, self._warnings = "", 0, 0, ()
        self._reservoir = Reservoir(SAMPLE, f"{plan.pairs.seed}")
        if before is not None:
            self.add(before.pairs, before.embeddings)
            self._hash, self._tokens, self._cut = before.pairs_hash, before.tokens, 0
            self._warnings = before.warnings
            self._reservoir = Reservoir(SAMPLE, f"{plan.pairs.seed} {before.count}")
            self._reservoir.seen = before.count

    def add(self, pairs: Sequence[Pair], embeddings: Embeddings) -> None:
        first = self._reservoir.seen
        placed = {self._reservoir.place(): index for index in range(len(pairs))}
        placed.pop(None, None)
        cut = set(embeddings.cut)
        for place, index in placed.items():
            self._kept[place] = (first + index, pairs[index], index in cut)
        if placed:
            places, indices = list(placed), list(placed.values())
            for side, states in zip(self._sides, (embeddings.toxic, embeddings.civil), strict=True):
                side[:, places] = states[:, indices]
        self._hash = hash_pairs(pairs, self._hash)
        self._tokens += embeddings.tokens
        self._cut += len(cut)

    def finish(self, stream: PairStream) -> PairSample:
        """The sample in the order of the stream."""
        places = sorted(self._kept, key=lambda place: self._kept[place][0])
        toxic, civil = (_take(side, places) for side in self._sides)
        kept = [self._kept[place] for place in places]
        cut = tuple(index for index, (_, _, was_cut) in enumerate(kept) if was_cut)
        count = self._reservoir.seen
        found = stream.warnings + stream.flaws + _describe_cut(self._cut, self._plan)
        if self._warnings:
            found = tuple(f"Added from {stream.table.shown}: {sentence}" for sentence in found)
        if count > len(kept):
            found += (
                f"The directions rest on all pairs, but only a random {SAMPLE} are kept to be looked at, and repeated "
                "pairs were not looked for.",
            )
        return PairSample(
            tuple(pair for _, pair, _ in kept),
            Embeddings(toxic, civil, self._tokens, cut),
            count,
            self._hash,
            self._tokens,
            tuple(dict.fromkeys(self._warnings + found)),
        )


def _take(states: Tensor, places: Sequence[int]) -> Tensor:
    """`[layers, places, hidden]` out of `states`, whose memory is used again, layer by layer."""
    for layer in states:
        layer[: len(places)] = layer[list(places)]
    return states[:, : len(places)].contiguous()


def _count_texts(progress: Progress, before: int, expected: int) -> Progress:
    """Progress of a chunk as progress of the whole stream, whose length is an estimate until its end."""

    def count(stage: str, done: int, total: int) -> None:
        progress(stage, before + done, max(before + total, expected))

    return count


def _return_memory() -> None:
    """Give freed memory back to the system: glibc keeps it, each thread's apart, and more of it chunk by chunk."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _describe_cut(count: int, plan: FitPlan) -> tuple[str, ...]:
    return (f"{count} pairs were cut at {plan.max_length} tokens.",) if count else ()


def _time_steps(start: float, embedded: float) -> dict[str, float]:
    return {"embed": embedded - start, "subspace": perf_counter() - embedded}
