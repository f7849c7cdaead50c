"""From pairs to the subspaces of every layer: all pairs in memory, or one chunk after another.

Of up to as many pairs as a layer is wide, and up to `SAMPLE`, the embeddings are kept: they take little more room than
the moments that could stand for them. Of more pairs only the moments are, and a random sample of pairs for what needs
texts and embeddings: the map, the cards, the probes.
"""

import ctypes
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count, islice
from time import perf_counter
from typing import Protocol

import torch
from torch import Tensor

from detox_engine.data.bundled import bundled_neutral, bundled_pairs
from detox_engine.data.columns import Pair
from detox_engine.data.pairs import collect_pairs
from detox_engine.data.stream import PairStream, Reservoir, hash_pairs, open_pairs
from detox_engine.data.texts import read_text
from detox_engine.errors import Progress, ignore_progress
from detox_engine.forward.embed import embed_pairs
from detox_engine.forward.embedded_pairs import Embeddings, TokenMoments
from detox_engine.forward.sinks import Sinks
from detox_engine.forward.sinks.search import find_sinks
from detox_engine.model.anatomy import Anatomy
from detox_engine.model.head import check_head
from detox_engine.model.load import OpenModel
from detox_engine.plans.choice import Choice
from detox_engine.plans.fit import PAPER, FitPlan
from detox_engine.plans.sources import PairSpec, TextSpec
from detox_engine.study.findings import judge_pairs, judge_sinks
from detox_engine.study.methods import fit_subspaces, fit_subspaces_of, need_covariance, require_streamed
from detox_engine.study.moments import Moments
from detox_engine.study.noise.null_spectra import NullSpectrum, draw_null_spectra
from detox_engine.study.noise.null_spectra_streamed import draw_null_spectra_of
from detox_engine.study.noise.threshold import count_dominant_directions, find_noise_thresholds
from detox_engine.study.shards import Counted, Shard, Sums, Work, add_to_all
from detox_engine.study.study import Study, identify, stamp
from detox_engine.study.subspace import ToxicSubspace
from detox_engine.study.suggest import suggest

SAMPLE = 768
"""Pairs that are kept of a stream, with their embeddings: enough for a map and for probes, and never the larger part
of the memory that the moments take."""

CHUNK = 256
"""Pairs of a stream that are embedded together: texts of nearly one length share a pass, as among all of them."""

SHARD = 64
"""Pairs of a shard where all pairs are kept: few, so that every worker has some."""

HELD_OUT_SHARE, MOST_HELD_OUT = 0.2, 80
"""Pairs whose civil tokens are not counted into the covariance, so that what is measured on them fitted nothing."""


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
    left_out: tuple[int, ...]
    """By layer, tokens of all pairs that were left out as sinks."""
    numbers: tuple[int, ...] = ()
    """Of each pair in its source, as `unit` counts; not known where pairs are a sample."""
    unit: str = "pair"


@dataclass(frozen=True, eq=False)
class Before:
    """What earlier pairs came to, to go on from; it stays as it is."""

    sample: PairSample
    moments: Sequence[Moments]
    token_moments: TokenMoments | None
    sinks: Sinks | None


class Crew(Protocol):
    """Workers that each have the model, and share shards."""

    def sum_shards(
        self, work: Work, shards: Iterable[Shard], total: Sums, progress: Progress
    ) -> Iterator[tuple[int, Counted]]:
        """Count every shard into `total` exactly once; each one's number and what was counted, in any order.

        What is in `total` before the last of them was given is not whole. Progress is called again and again, with
        texts that are done.
        """
        ...


def fit_study(
    model: OpenModel,
    plan: FitPlan = FitPlan(),  # noqa: B008
    progress: Progress = ignore_progress,
    pairs: PairStream | None = None,
    keep_moments: bool = True,
    crew: Crew | None = None,
) -> Study:
    """Steps 1–5 of the method: from pairs to the toxic subspace of every layer.

    Args:
        pairs: those that the plan names, where their reading has begun already.
        keep_moments: with a study of streamed pairs, so that more can be added to it.
        crew: who embeds the pairs, if not this process.

    Raises:
        InputError: the pairs cannot be used, or the embeddings cannot be taken (see `PairStream`, `embed_pairs`).
    """
    if pairs is None:
        pairs = open_pairs(plan.pairs, bundled_pairs(model.spec.name))
    with model.turns:
        check_head(model)  # what is suggested and measured later rests on it
    study = fit_pairs(model, plan, pairs, progress, crew)
    return study if keep_moments else replace(study, moments=None, token_moments=None)


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
    embeddings = study.embeddings or embed_pairs(
        model, study.pairs, plan.max_length, plan.pooling, progress=progress, sinks=study.sinks
    )
    sample = PairSample(
        study.pairs, embeddings, study.pair_count, study.pairs_hash, study.tokens, study.warnings, study.left_out
    )
    before = Before(sample, study.moments or sum_moments(embeddings), study.token_moments, study.sinks)
    return replace(fit_stream(model, plan, pairs, progress, before), added=(*study.added, more))


def _make_study(
    model: OpenModel,
    plan: FitPlan,
    sample: PairSample,
    directions: Mapping[str, tuple[ToxicSubspace, ...]],
    null_spectra: tuple[NullSpectrum, ...] | None,
    seconds: Mapping[str, float],
    sinks: Sinks | None,
    token_moments: TokenMoments | None,
    moments: tuple[Moments, ...] | None = None,
) -> Study:
    subspaces = directions[PAPER]
    thresholds = find_noise_thresholds(subspaces, sample.count, model.anatomy.hidden)
    begin = suggest(model.spec.name, len(subspaces), count_dominant_directions(subspaces, thresholds))
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
        noise_thresholds=thresholds,
        suggested_layers=begin.layers,
        suggested_rank=min(begin.rank, min(subspace.kept for subspace in subspaces)),
        made=made,
        versions=versions,
        moments=moments,
        others={name: found for name, found in directions.items() if name != PAPER},
        sinks=sinks,
        left_out=sample.left_out,
        token_moments=token_moments,
        null_spectra=null_spectra,
        findings=judge_pairs(
            sample.pairs,
            sample.embeddings,
            [subspace.basis[0] for subspace in subspaces],
            numbers=sample.numbers,
            unit=sample.unit,
        )
        + judge_sinks(sample.left_out, sample.tokens, sinks),
    )


def fit_pairs(
    model: OpenModel,
    plan: FitPlan,
    stream: PairStream,
    progress: Progress = ignore_progress,
    crew: Crew | None = None,
) -> Study:
    """Steps 1–5 of the method; how, depends on how many pairs there are.

    Raises:
        InputError: there is no such method, the pairs cannot be used, or the embeddings cannot be taken (see
            `PairStream`, `embed_pairs`).
    """
    counts_tokens = need_covariance(plan.methods)  # before anything is embedded
    most = max(model.anatomy.hidden, SAMPLE)
    if len(stream.ahead(most + 1, progress)) > most:
        return fit_stream(model, plan, stream, progress, crew=crew)
    start = perf_counter()
    found = collect_pairs(stream)
    sinks = look_for_sinks(model, plan, progress)
    if crew is None:
        tokens = start_token_moments(model, sinks) if counts_tokens else None
        embeddings = embed_pairs(
            model,
            found.pairs,
            plan.max_length,
            plan.pooling,
            progress=progress,
            sinks=sinks,
            moments=tokens,
            held_out=hold_out(len(found.pairs)),
        )
    else:
        work = Work(plan.max_length, plan.pooling, sinks, len(found.pairs), sums_pairs=False, sums_tokens=counts_tokens)
        embeddings, tokens = _embed_with(crew, model.anatomy, work, found.pairs, progress)
    embedded = perf_counter()

    def fit(method: Choice) -> tuple[ToxicSubspace, ...]:
        return fit_subspaces(embeddings.toxic, embeddings.civil, plan.keep, progress, method, tokens)

    directions = {method.name: fit(method) for method in plan.methods}
    nulls = draw_null_spectra(embeddings, directions[PAPER], progress=progress) if plan.parallel_analysis else None
    warnings = found.warnings + _describe_texts(len(embeddings.cut), embeddings.special, plan)
    sample = PairSample(
        found.pairs,
        embeddings,
        len(found.pairs),
        found.hash,
        embeddings.tokens,
        warnings,
        embeddings.sinks,
        found.lines,
        found.unit,
    )
    return _make_study(model, plan, sample, directions, nulls, _time_steps(start, embedded), sinks, tokens)


def look_for_sinks(model: OpenModel, plan: FitPlan, progress: Progress = ignore_progress) -> Sinks | None:
    """The model's sinks, from its neutral text; None where the plan keeps them."""
    if plan.sinks == "keep":
        return None
    return find_sinks(model, read_text(TextSpec(), bundled_neutral(model.spec.name)).lines, progress)


def start_token_moments(model: OpenModel, sinks: Sinks | None) -> TokenMoments:
    anatomy = model.anatomy
    return TokenMoments.empty(torch.zeros(anatomy.layers, anatomy.hidden) if sinks is None else sinks.centres)


def hold_out(count: int) -> frozenset[int]:
    """Indices, among `count` pairs, of those that what is measured later rests on; the same every time."""
    held = min(MOST_HELD_OUT, int(HELD_OUT_SHARE * count))
    return frozenset(torch.randperm(count, generator=torch.Generator().manual_seed(0))[:held].tolist())


def _embed_with(
    crew: Crew, anatomy: Anatomy, work: Work, pairs: Sequence[Pair], progress: Progress
) -> tuple[Embeddings, TokenMoments | None]:
    """The embeddings of all pairs and the moments of their civil tokens, as the workers find them."""
    held, total = hold_out(len(pairs)), Sums(anatomy.layers, anatomy.hidden, work)
    counted: dict[int, Counted] = {}
    starts = range(0, len(pairs), SHARD)

    def cut() -> Iterator[Shard]:
        for number, start in enumerate(starts):
            part = pairs[start : start + SHARD]
            placed = {start + index: index for index in range(len(part))}
            yield Shard(number, tuple(part), placed, frozenset(row - start for row in held))

    def watch(stage: str, done: int, _: int) -> None:
        progress(stage, done, 2 * len(pairs))

    for number, found in crew.sum_shards(work, cut(), total, watch):
        counted[number] = found
    every = [counted[number] for number in sorted(counted)]
    cut_texts = (start + index for start, found in zip(starts, every, strict=True) for index in sorted(found.cut))
    sinks = tuple(map(sum, zip(*(found.sinks for found in every), strict=True)))
    toxic, civil = total.sides
    tokens, special = (sum(getattr(found, name) for found in every) for name in ("tokens", "special"))
    lengths = torch.cat([found.lengths for found in every], dim=1)
    return Embeddings(toxic, civil, tokens, tuple(cut_texts), lengths, sinks, special), total.tokens


def fit_stream(
    model: OpenModel,
    plan: FitPlan,
    stream: PairStream,
    progress: Progress = ignore_progress,
    before: Before | None = None,
    crew: Crew | None = None,
) -> Study:
    """As `fit_pairs`, in memory that does not grow with the number of pairs."""
    require_streamed(plan.methods)  # before anything is embedded
    start = perf_counter()
    gathered = _Gathering(model.anatomy, plan, before.sample if before else None)
    sinks = before.sinks if before else look_for_sinks(model, plan, progress)
    if crew is None:
        moments, tokens = _sum_here(model, plan, stream, gathered, sinks, progress)
    else:
        moments, tokens = _sum_with(crew, model.anatomy, plan, stream, gathered, sinks, progress)
    if before:
        moments = [earlier + new for earlier, new in zip(before.moments, moments, strict=True)]
        tokens = tokens and before.token_moments + tokens
    sample = gathered.finish(stream)
    embedded = perf_counter()

    def fit(method: Choice) -> tuple[ToxicSubspace, ...]:
        return fit_subspaces_of(moments, plan.keep, progress, method, tokens)

    directions = {method.name: fit(method) for method in plan.methods}
    nulls = None
    if plan.parallel_analysis:
        nulls = draw_null_spectra_of(moments, sample.embeddings, directions[PAPER], progress=progress)
    seconds = _time_steps(start, embedded)
    return _make_study(model, plan, sample, directions, nulls, seconds, sinks, tokens, tuple(moments))


def _sum_here(
    model: OpenModel,
    plan: FitPlan,
    stream: PairStream,
    gathered: "_Gathering",
    sinks: Sinks | None,
    progress: Progress,
) -> tuple[list[Moments], TokenMoments | None]:
    """The moments of the stream's pairs and of their civil tokens; the sample goes into what is gathered."""
    moments = [Moments.empty(model.anatomy.hidden) for _ in range(model.anatomy.layers)]
    tokens = start_token_moments(model, sinks) if need_covariance(plan.methods) else None

    def take(chunk: Sequence[Pair]) -> None:
        watch = _count_texts(progress, 2 * (stream.given - len(chunk)), 2 * stream.expected)
        embeddings = embed_pairs(
            model, chunk, plan.max_length, plan.pooling, progress=watch, sinks=sinks, moments=tokens
        )
        add_to_all(moments, embeddings)
        gathered.add(chunk, embeddings)

    while chunk := [pair for _, pair in islice(stream, CHUNK)]:
        take(chunk)
        return_memory()
    return moments, tokens


def _sum_with(
    crew: Crew,
    anatomy: Anatomy,
    plan: FitPlan,
    stream: PairStream,
    gathered: "_Gathering",
    sinks: Sinks | None,
    progress: Progress,
) -> tuple[list[Moments], TokenMoments | None]:
    """As `_sum_here`, by workers, each of which has the sums of its own shards until they are added up."""
    work = Work(plan.max_length, plan.pooling, sinks, SAMPLE, sums_tokens=need_covariance(plan.methods))
    total = Sums(anatomy.layers, anatomy.hidden, work, mapped=True)
    waiting: dict[int, tuple[int, Mapping[int, int]]] = {}

    def cut() -> Iterator[Shard]:
        for number in count():
            chunk = tuple(pair for _, pair in islice(stream, CHUNK))
            if not chunk:
                return
            first, placed = gathered.choose(chunk)
            waiting[number] = first, placed
            yield Shard(number, chunk, placed)

    def watch(stage: str, done: int, _: int) -> None:
        progress(stage, done, 2 * max(stream.given, stream.expected))

    for number, found in crew.sum_shards(work, cut(), total, watch):
        gathered.count(found, *waiting.pop(number))
    gathered.take_over(total.sides)
    return total.moments, total.tokens


def sum_moments(embeddings: Embeddings) -> tuple[Moments, ...]:
    """The moments of every layer of embeddings that are all there."""
    layers, _, hidden = embeddings.toxic.shape
    moments = tuple(Moments.empty(hidden) for _ in range(layers))
    add_to_all(moments, embeddings)
    return moments


class _Gathering:
    """The sample of a stream as it grows, and what is counted of all its pairs."""

    def __init__(self, anatomy: Anatomy, plan: FitPlan, before: PairSample | None) -> None:
        shape = (anatomy.layers, SAMPLE, anatomy.hidden)
        self._plan, self._sides = plan, (torch.empty(shape), torch.empty(shape))
        self._kept: dict[int, tuple[int, Pair, bool]] = {}
        """At each place of the sample the pair's number in the stream, the pair, and whether it was cut."""
        self._hash, self._tokens, self._cut, self._special, self._warnings = "", 0, 0, 0, ()
        self._lengths = torch.zeros(2, SAMPLE, dtype=torch.int64)
        self._left_out = torch.zeros(anatomy.layers, dtype=torch.int64)
        self._reservoir = Reservoir(SAMPLE, f"{plan.pairs.seed}")
        if before is not None:
            self.add(before.pairs, before.embeddings)
            self._hash, self._tokens, self._cut, self._special = before.pairs_hash, before.tokens, 0, 0
            self._left_out = torch.tensor(before.left_out or [0] * anatomy.layers)
            self._warnings = before.warnings
            self._reservoir = Reservoir(SAMPLE, f"{plan.pairs.seed} {before.count}")
            self._reservoir.seen = before.count

    def add(self, pairs: Sequence[Pair], embeddings: Embeddings) -> None:
        first, placed = self.choose(pairs)
        if placed:
            places, indices = list(placed), list(placed.values())
            for side, states in zip(self._sides, (embeddings.toxic, embeddings.civil), strict=True):
                side[:, places] = states[:, indices]
        self.count(Counted.of(embeddings), first, placed)

    def choose(self, pairs: Sequence[Pair]) -> tuple[int, dict[int, int]]:
        """Take pairs in as they come: the number of the first, and at which place of the sample which of them goes."""
        first = self._reservoir.seen
        placed = {self._reservoir.place(): index for index in range(len(pairs))}
        placed.pop(None, None)
        for place, index in placed.items():
            self._kept[place] = (first + index, pairs[index], False)
        self._hash = hash_pairs(pairs, self._hash)
        return first, placed

    def count(self, found: Counted, first: int, placed: Mapping[int, int]) -> None:
        """Count what was found of pairs that were chosen from; in any order."""
        for place, index in placed.items():
            number, pair, _ = self._kept[place]
            if number == first + index:  # else a later pair has taken the place
                self._kept[place] = (number, pair, index in found.cut)
                if found.lengths is not None:
                    self._lengths[:, place] = found.lengths[:, index]
        self._left_out += torch.tensor(found.sinks or [0] * len(self._left_out))
        self._tokens += found.tokens
        self._cut += len(found.cut)
        self._special += found.special

    def take_over(self, sides: Tensor) -> None:
        """The sample's embeddings, `[2, layers, places, hidden]`, as others placed them."""
        self._sides = tuple(sides)

    def finish(self, stream: PairStream) -> PairSample:
        """The sample in the order of the stream."""
        places = sorted(self._kept, key=lambda place: self._kept[place][0])
        toxic, civil = (_take(side, places) for side in self._sides)
        kept = [self._kept[place] for place in places]
        cut = tuple(index for index, (_, _, was_cut) in enumerate(kept) if was_cut)
        count = self._reservoir.seen
        found = stream.warnings + stream.flaws + _describe_texts(self._cut, self._special, self._plan)
        if self._warnings:
            found = tuple(f"Added from {stream.table.shown}: {sentence}" for sentence in found)
        if count > len(kept):
            found += (
                f"The directions rest on all pairs, but only a random {SAMPLE} are kept to be looked at, and "
                "repeated pairs were looked for among these alone.",
            )
        return PairSample(
            tuple(pair for _, pair, _ in kept),
            Embeddings(toxic, civil, self._tokens, cut, self._lengths[:, places].contiguous()),
            count,
            self._hash,
            self._tokens,
            tuple(dict.fromkeys(self._warnings + found)),
            tuple(self._left_out.tolist()) if self._plan.sinks == "leave-out" else (),
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


def return_memory() -> None:
    """Give freed memory back to the system: glibc keeps it, each thread's apart, and more of it chunk by chunk."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _describe_texts(cut: int, special: int, plan: FitPlan) -> tuple[str, ...]:
    """What was noticed when texts became tokens."""
    told = []
    if cut:
        told.append(f"{cut} pairs were cut at {plan.max_length} tokens.")
    if special:
        told.append(
            f"{special} texts hold special tokens of the model, such as one that ends a text: the model read them, and "
            "they count in no embedding; take them out if they are none of the text."
        )
    return tuple(told)


def _time_steps(start: float, embedded: float) -> dict[str, float]:
    return {"embed": embedded - start, "subspace": perf_counter() - embedded}
