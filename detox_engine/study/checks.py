"""A study that may be anybody's: what its `study.json` may hold, and what its tensors must be.

A study is read as strangers' data: types, ranges and no unknown field in the record; shapes, finite numbers,
orthonormal directions and counts that agree in everything else; and every file is the one that the record names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from detox_engine.data.stream import hash_pairs
from detox_engine.disk import hash_file
from detox_engine.plans.layers import MOST_LAYERS

if TYPE_CHECKING:
    from detox_engine.study.study import Study

LARGEST = 2**26
"""Bytes of a `study.json` that are read at most."""
WIDEST = 2**20
"""No model has a wider residual stream."""
ROUNDING = 1e-3
"""How far products of directions may lie from those of orthonormal ones."""

Text = Annotated[str, Field(max_length=20_000)]
Hash = Annotated[str, Field(pattern=r"^sha256:\S{1,128}$")]
Count = Annotated[int, Field(ge=0, le=2**53)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Model(_Strict):
    name: Text
    revision: Text | None
    weights_hash: Hash
    layers: Annotated[int, Field(ge=1, le=MOST_LAYERS)]
    hidden: Annotated[int, Field(ge=1, le=WIDEST)]


class _Source(_Strict):
    source: Text
    toxic: Text | None
    civil: Text | None
    prompt: Text | None
    subset: Text | None
    split: Text
    revision: Text | None
    limit: Annotated[int, Field(ge=2)] | None
    seed: Count


class _Pairs(_Source):
    count: Annotated[int, Field(ge=1, le=2**53)]
    hash: Hash
    warnings: list[Text]


class _Finding(_Strict):
    kind: Text
    value: Finite
    sentence: Text


class _Method(_Strict):
    name: Text
    options: dict[str, Any] = {}


class _Plan(_Strict):
    max_length: Annotated[int, Field(ge=1, le=2**31)]
    pooling: Literal["mean", "continuation", "last"]
    keep: Annotated[int, Field(ge=1, le=WIDEST)]
    keep_embeddings: bool
    sinks: Literal["leave-out", "keep"] = "keep"
    methods: list[_Method] = []
    parallel_analysis: bool = False
    suggest: bool = True
    budget: Literal["gentle", "strong"] = "gentle"
    # Of earlier versions.
    method: Text | None = None
    method_options: Any = None


class _Edit(_Strict):
    layers: Text
    rank: Annotated[int, Field(ge=1, le=WIDEST)]
    strength: Finite
    switched_off: list[tuple[Count, Count]]
    edit_bias: bool
    sites: Literal["mlp", "attention", "both"]
    method: Text


class _Estimate(_Strict):
    mean: float
    low: float
    high: float
    n: Count


class _Tried(_Strict):
    edit: _Edit
    predicted_gap: float
    predicted_divergence: float
    gap: _Estimate | None
    divergence: float | None
    perplexity: float | None
    rude_words: _Estimate | None = None


class _Change(_Strict):
    name: Text
    before: _Estimate
    after: _Estimate
    control: _Estimate
    fall: _Estimate
    beyond: _Estimate


class _Check(_Strict):
    changes: list[_Change]
    prompts: Count
    samples: Count
    controls: Count
    seconds: Finite
    made: Text


class _Suggestion(_Strict):
    edit: _Edit | None
    budget: Literal["gentle", "strong"]
    reason: Text
    status: Literal["untested", "confirmed", "refuted"]
    tried: list[_Tried]
    check: _Check | None
    seconds: Finite


class _Suggested(_Strict):
    layers: Text
    rank: Annotated[int, Field(ge=1, le=WIDEST)]
    # Of earlier versions.
    ranks: list[Count] | None = None


class _Record(_Strict):
    format: int
    model: _Model
    pairs: _Pairs
    plan: _Plan
    tokens: Count
    cut: list[Count]
    seconds: dict[str, Finite]
    suggested: _Suggested
    made: Text
    versions: dict[str, Text]
    # Studies of earlier versions have not all of these.
    added: list[_Source] = []
    findings: list[_Finding] = []
    left_out: list[Count] = []
    noise_thresholds: list[Finite] | None = None
    dominant_ranks: list[Count] | None = None
    suggestion: _Suggestion | None = None
    files: dict[Text, Hash] | None = None
    null_ranks: list[Count] | None = None


def check_record(record: Any) -> None:
    """Raise a ValueError that names the first field of a `study.json` that is not as it should be."""
    try:
        _Record.model_validate(record)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{place[:200]} in study.json: {first['msg'][:200].lower()}") from None


def check_files(folder: Path, record: Mapping[str, Any]) -> None:
    """Raise a ValueError where a file is missing, or is not the one that the record names; older records name none."""
    for name, digest in (record.get("files") or {}).items():
        if Path(name).name != name or name in ("", ".", ".."):
            raise ValueError(f"{name[:100]} is no name of a file of a study")
        file = folder / name
        if not file.is_file():
            raise ValueError(f"{name} is missing")
        if f"sha256:{hash_file(file)}" != digest:
            raise ValueError(f"{name} is not the file that was written")


def check_study(study: Study) -> None:
    """Raise a ValueError where parts of a study do not go together, or hold what no fit finds."""
    for fault in _find_faults(study):
        raise ValueError(fault)


def _find_faults(study: Study) -> Iterator[str]:
    hidden, layers = study.model.hidden, study.model.layers
    for method in study.methods:
        for layer, subspace in enumerate(study.of(method)):
            where = f"of {method} at layer {layer}"
            kept = len(subspace.basis)
            yield from _find_wrong(subspace.basis, (kept, hidden), torch.float32, f"the directions {where}")
            if not kept or kept > study.plan.keep:
                yield f"{kept} directions {where}, where {study.plan.keep} are kept"
            if (subspace.basis @ subspace.basis.T - torch.eye(kept)).abs().max() > ROUNDING:
                yield f"the directions {where} are not orthonormal"
            if subspace.reads is not None:
                yield from _find_wrong(subspace.reads, (kept, hidden), torch.float32, f"the reads {where}")
                if not (subspace.reads @ subspace.basis.T - torch.eye(kept)).abs().max() <= ROUNDING:
                    yield f"the reads {where} do not read its directions"
            values = subspace.singular_values
            yield from _find_wrong(values, (len(values),), torch.float32, f"the singular values {where}")
            if len(values) < kept or (values < 0).any():
                yield f"the singular values {where} are too few, or below 0"
            yield from _find_wrong(subspace.mean_direction, (hidden,), torch.float32, f"the mean direction {where}")
            yield from _find_wrong(subspace.polarity, (kept,), torch.float32, f"the polarities {where}")
    if study.embeddings is not None:
        for name in ("toxic", "civil"):
            shape = (layers, len(study.pairs), hidden)
            yield from _find_wrong(getattr(study.embeddings, name), shape, torch.float32, f"the {name} embeddings")
        lengths = study.embeddings.lengths
        if lengths is not None and (lengths.shape != (2, len(study.pairs)) or lengths.dtype != torch.int64):
            yield "the lengths of the texts are of another shape"
        if any(index >= len(study.pairs) for index in study.embeddings.cut):
            yield "a text that was cut is none of its pairs"
    if study.pair_count < len(study.pairs) or not study.pairs:
        yield f"{len(study.pairs)} pairs, where {study.pair_count} were fitted on"
    if study.pair_count == len(study.pairs) and not study.added and hash_pairs(study.pairs) != study.pairs_hash:
        yield "the pairs are not those that it was fitted on"
    if len(study.noise_thresholds) != layers:
        yield f"{len(study.noise_thresholds)} noise thresholds for {layers} layers"
    if study.suggested_rank > study.kept:
        yield f"the suggested rank {study.suggested_rank} is above the {study.kept} directions kept"
    edit = study.suggestion.edit if study.suggestion is not None else None
    if edit is not None and (edit.method not in study.methods or edit.rank > study.kept_of(edit.method)):
        yield f"the suggested edit of {edit.method[:50]}, rank {edit.rank}, is none of its directions"
    yield from _find_wrong_moments(study)


def _find_wrong_moments(study: Study) -> Iterator[str]:
    """What is wrong with sinks, and with what more pairs can be added to."""
    hidden, layers = study.model.hidden, study.model.layers
    if study.sinks is not None:
        yield from _find_wrong(study.sinks.medians, (layers,), torch.float32, "the medians of the sinks")
        yield from _find_wrong(study.sinks.sizes, (layers,), torch.float32, "the sizes of the sinks")
        yield from _find_wrong(study.sinks.centres, (layers, hidden), torch.float32, "the centres of the sinks")
        if any(not 0 <= place < hidden for place in study.sinks.dimensions):
            yield "a massive dimension lies outside the hidden size"
        if any(not 0 <= layer < layers for layer in study.sinks.writers):
            yield "a layer that writes sinks lies outside the model"
    if study.token_moments is not None:
        told = study.token_moments
        yield from _find_wrong(told.centres, (layers, hidden), torch.float32, "the centres of tokens")
        yield from _find_wrong(told.sums, (layers, hidden), torch.float64, "the sums of tokens")
        yield from _find_wrong(told.products, (layers, hidden, hidden), torch.float32, "the products of tokens")
        yield from _find_wrong(told.count, (layers,), torch.int64, "the counts of tokens")
    for moments in study.moments or ():
        yield from _find_wrong(moments.civil, (hidden, hidden), torch.float64, "the moments of civil texts")
        yield from _find_wrong(moments.differences, (hidden, hidden), torch.float64, "the moments of differences")


def _find_wrong(tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype, what: str) -> Iterator[str]:
    if tuple(tensor.shape) != shape or tensor.dtype != dtype:
        yield f"{what} are {list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}, not {list(shape)}"
    elif not tensor.isfinite().all():
        yield f"{what} hold what is no number"
