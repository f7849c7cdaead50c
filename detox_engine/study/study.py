"""A fitted study: what was found in one model with one set of pairs, in memory and on disk."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from detox_engine.data.columns import Pair
from detox_engine.disk import hash_file, new_folder, read_as, write_whole
from detox_engine.errors import InputError, first_line
from detox_engine.forward.embedded_pairs import Embeddings, TokenMoments
from detox_engine.forward.sinks import Sinks
from detox_engine.plans.choice import Choice
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.fit import PAPER, FitPlan
from detox_engine.plans.layers import check_layers, format_layers, parse_layers
from detox_engine.plans.sources import PairSpec, find_place
from detox_engine.study.checks import LARGEST, check_files, check_record, check_study
from detox_engine.study.findings import Finding, describe_verdict
from detox_engine.study.methods import (
    fit_subspaces,
    fit_subspaces_of,
    methods,
    need_covariance,
    read_methods,
    record_methods,
)
from detox_engine.study.moments import Moments, load_moments, save_moments
from detox_engine.study.noise.null_spectra import NullSpectrum
from detox_engine.study.noise.threshold import count_dominant_directions, find_noise_thresholds
from detox_engine.study.subspace import ToxicSubspace
from detox_engine.study.suggestion import Suggestion, read_suggestion, record_suggestion

if TYPE_CHECKING:
    from detox_engine.model.load import OpenModel

FORMAT = 1
PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy")


@dataclass(frozen=True)
class ModelIdentity:
    """Which model a study belongs to."""

    name: str
    revision: str | None
    weights_hash: str
    layers: int
    hidden: int


@dataclass(frozen=True, eq=False)
class Study:
    """The toxic subspaces of every layer of a model, and where they come from."""

    model: ModelIdentity
    plan: FitPlan
    pairs: tuple[Pair, ...]
    """Those that were kept: all, or a random sample where they were streamed."""
    pair_count: int
    """All that the subspaces rest on."""
    pairs_hash: str
    warnings: tuple[str, ...]
    """What was noticed about the pairs: skipped rows, cut texts, and the like; a sentence each."""
    subspaces: tuple[ToxicSubspace, ...]
    """DeTox's, one a layer, layer 0 first."""
    embeddings: Embeddings | None
    """Of `pairs`; None where the plan did not keep them."""
    tokens: int
    """Real tokens that went through the model."""
    seconds: dict[str, float]
    """Wall time of the steps `load`, `embed`, `subspace`."""
    noise_thresholds: tuple[float, ...]
    """What a singular value must exceed to stand out from noise, one a layer (see `find_noise_threshold`)."""
    suggested_layers: tuple[int, ...]
    suggested_rank: int
    made: str
    """When, in ISO 8601, UTC."""
    versions: dict[str, str]
    moments: tuple[Moments, ...] | None = None
    """One a layer where the pairs were streamed: what more pairs can be added to."""
    added: tuple[PairSpec, ...] = ()
    """Where pairs came from that were added since, in order."""
    others: Mapping[str, tuple[ToxicSubspace, ...]] = field(default_factory=dict)
    """The directions of every other method, by its name, one subspace a layer."""
    sinks: Sinks | None = None
    """The model's attention sinks, which were left out; None where they were kept."""
    left_out: tuple[int, ...] = ()
    """By layer, how many of the pairs' tokens were left out as sinks."""
    token_moments: TokenMoments | None = None
    """What civil tokens' states add up to: what more pairs can be added to, and directions be fitted anew from."""
    null_spectra: tuple[NullSpectrum, ...] | None = None
    """What the singular values would be without structure, one a layer; None without a parallel analysis."""
    findings: tuple[Finding, ...] = ()
    """What is to be said about the pairs; none in studies of earlier versions."""
    suggestion: Suggestion | None = None
    """None where none was looked for; a suggestion may be that there is none."""
    _fitted_since: dict[str, tuple[ToxicSubspace, ...]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """What `of` fitted: it follows from the rest, so it is not saved, and a changed study begins without."""

    @property
    def layers(self) -> int:
        return len(self.subspaces)

    @property
    def kept(self) -> int:
        """Directions of DeTox's that every layer has: the largest rank an edit of any layers can take."""
        return self.kept_of(PAPER)

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that it was fitted by, by name."""
        return (PAPER, *self.others)

    @property
    def offered(self) -> tuple[str, ...]:
        """The methods whose directions `of` gives, in the order of the registry; those that are not in it last."""
        known = [name for name in methods() if name in self.methods or self._can_fit(name)]
        return (*known, *(name for name in self.methods if name not in known))

    def of(self, method: str) -> tuple[ToxicSubspace, ...]:
        """The directions that a method finds, one subspace a layer.

        Those of a method that the study was not fitted by are fitted now, with the options that are usual, where the
        study kept what that takes; they stay in memory. Threads that ask at once may fit them twice, to the same.

        Raises:
            InputError: the study has none of this method and cannot fit them.
        """
        found = self.subspaces if method == PAPER else self.others.get(method) or self._fitted_since.get(method)
        if found is None:
            if not self._can_fit(method):
                raise InputError(
                    f"The study has no directions of the method “{method}”, only of {', '.join(self.offered)}: choose "
                    "one of these, or fit again with it among the methods."
                )
            found = self._fitted_since.setdefault(method, self._fit(method))
        return found

    def _can_fit(self, method: str) -> bool:
        kind = methods().get(method)
        if kind is None or (kind.needs_covariance and self.token_moments is None):
            return False
        return self._embeds_all_pairs or (self.moments is not None and kind.fit_streamed is not None)

    def _fit(self, method: str) -> tuple[ToxicSubspace, ...]:
        choice, keep = Choice(method), self.plan.keep
        if self._embeds_all_pairs:
            embeddings = self.embeddings
            return fit_subspaces(embeddings.toxic, embeddings.civil, keep, method=choice, tokens=self.token_moments)
        return fit_subspaces_of(self.moments, keep, method=choice, tokens=self.token_moments)

    @property
    def _embeds_all_pairs(self) -> bool:
        """Whether the embeddings are those of all pairs, and not of a sample."""
        return self.embeddings is not None and len(self.pairs) == self.pair_count

    @property
    def massive_dimensions(self) -> tuple[int, ...]:
        """The dimensions that attention sinks live in, which its directions keep off; none where sinks are kept."""
        return () if self.sinks is None else self.sinks.dimensions

    @property
    def sink_writers(self) -> tuple[int, ...]:
        """Layers that write what attention sinks hold, or cancel it; none where sinks are kept."""
        return () if self.sinks is None else self.sinks.writers

    def kept_of(self, method: str) -> int:
        """Directions of a method that every layer has."""
        return min(subspace.kept for subspace in self.of(method))

    @property
    def suggested_edit(self) -> EditPlan:
        """What is removed where nobody asks for another edit: what is suggested, or else a starting point."""
        suggested = self.suggestion and self.suggestion.edit
        return suggested or EditPlan(self.suggested_layers, self.suggested_rank)

    @property
    def dominant_ranks(self) -> tuple[int, ...]:
        """How many of its kept directions stand out from noise, one a layer."""
        return count_dominant_directions(self.subspaces, self.noise_thresholds)

    @property
    def verdict(self) -> str:
        """That the pairs do not isolate toxicity, and why; empty where nothing speaks against them."""
        return describe_verdict(self.findings, len(self.pairs))

    @property
    def isolates_toxicity(self) -> bool:
        return not self.verdict

    def check_direction(self, layer: int, direction: int, method: str = PAPER) -> None:
        """Raise an InputError where the study has no such layer or did not keep this direction of it."""
        check_layers((layer,), self.layers)
        kept = self.of(method)[layer].kept
        if not 0 <= direction < kept:
            raise InputError(f"Direction {direction} of layer {layer} was not kept: choose one of 0-{kept - 1}.")

    def require_fit(self, model: "OpenModel") -> None:
        """Raise an InputError that says which differ, if the study was made with another model than `model`."""
        if self.model.weights_hash != model.weights_hash:
            raise InputError(
                f"The study was made with other weights than the model at hand: “{self.model.name}” "
                f"({_short(self.model.weights_hash)}) against “{model.spec.name}” ({_short(model.weights_hash)}); "
                "name the study's own model, or fit a new study."
            )

    def require_suggestion(self) -> EditPlan:
        """The edit that is suggested; raises an InputError that says why where none is."""
        if self.suggestion is None:
            raise InputError("No edit was looked for when this study was fitted: fit it again, with --suggest.")
        if self.suggestion.edit is None:
            raise InputError(f"This study suggests no edit. {self.suggestion.reason}")
        return self.suggestion.edit

    def require_extensible(self) -> None:
        """Raise an InputError where no pairs can be added: neither moments nor embeddings of all were kept, or one of
        its methods cannot go on from moments."""
        for kind in (methods().get(choice.name) for choice in self.plan.methods):
            if kind is not None and kind.fit_streamed is None:
                raise InputError(
                    f"The method {kind.title} needs all pairs at once, so none can be added to the study; fit a new "
                    "one on all pairs together."
                )
        pairs_are_there = self.moments is not None or self._embeds_all_pairs
        if not pairs_are_there or (need_covariance(self.plan.methods) and self.token_moments is None):
            raise InputError(
                "The study did not keep what its pairs came to, so none can be added to it; fit a new one on all pairs "
                "together."
            )

    def save(self, folder: Path) -> None:
        """Write the study beside `folder` and rename it when whole.

        Raises:
            InputError: `folder` exists already, or cannot be written.
        """
        with written_whole(folder) as partial:
            self._write(partial)

    def _write(self, folder: Path) -> None:
        tensors = {f"layers.{layer}.null_spectrum": null.draws for layer, null in enumerate(self.null_spectra or ())}
        for method in self.methods:
            for layer, subspace in enumerate(self.of(method)):
                parts = {name: getattr(subspace, name) for name in (*_TENSORS, *_OPTIONAL)}
                tensors |= {
                    _key(method, layer, name): part.contiguous() for name, part in parts.items() if part is not None
                }
        if self.sinks is not None:
            tensors |= {f"sinks.{name}": part.contiguous() for name, part in self.sinks.as_tensors().items()}
        save_file(tensors, folder / "subspaces.safetensors")
        if self.embeddings is not None:
            sides = {"toxic": self.embeddings.toxic, "civil": self.embeddings.civil}
            if self.embeddings.lengths is not None:
                sides["lengths"] = self.embeddings.lengths
            save_file(sides, folder / "embeddings.safetensors")
        if self.moments is not None:
            save_moments(self.moments, folder / "moments.safetensors")
        if self.token_moments is not None:
            save_file(self.token_moments.as_tensors(), folder / "tokens.safetensors")
        with (folder / "pairs.jsonl").open("w", encoding="utf-8") as lines:
            lines.writelines(json.dumps(asdict(pair), ensure_ascii=False) + "\n" for pair in self.pairs)
        files = {path.name: f"sha256:{hash_file(path)}" for path in sorted(folder.iterdir())}
        record = self._record() | {"files": files}
        (folder / "study.json").write_text(json.dumps(record, indent=2, ensure_ascii=False), encoding="utf-8")

    def _record(self) -> dict:
        plan = record_fit(self.plan)
        source = plan.pop("pairs")
        return {
            "format": FORMAT,
            "model": asdict(self.model),
            "pairs": {**source, "count": self.pair_count, "hash": self.pairs_hash, "warnings": self.warnings},
            "added": [asdict(spec) for spec in self.added],
            "findings": [asdict(finding) for finding in self.findings],
            "plan": plan,
            "tokens": self.tokens,
            "cut": self.embeddings.cut if self.embeddings else (),
            "left_out": self.left_out,
            "seconds": self.seconds,
            "suggested": {
                "layers": format_layers(self.suggested_layers),
                "rank": self.suggested_rank,
            },
            "noise_thresholds": self.noise_thresholds,
            "dominant_ranks": self.dominant_ranks,
            "made": self.made,
            "versions": self.versions,
            "suggestion": None if self.suggestion is None else record_suggestion(self.suggestion),
        }

    def write_suggestion(self, folder: Path) -> None:
        """Put this study's suggestion into the study that lies in `folder`, which is otherwise left as it is.

        Raises:
            InputError: the folder cannot be written.
        """
        file = folder / "study.json"
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            record["suggestion"] = None if self.suggestion is None else record_suggestion(self.suggestion)
            write_whole(file, json.dumps(record, indent=2, ensure_ascii=False))
        except OSError as error:
            raise InputError(f"{file} cannot be written: {error.strerror}; the study is as it was.") from None

    @classmethod
    def load(cls, folder: Path) -> "Study":
        """Read a study that `save` wrote.

        Raises:
            InputError: the folder is missing, is no study, or a part of it is missing, broken, or what no fit makes.
        """
        folder = Path(folder)
        if not (folder / "study.json").is_file():
            raise InputError(
                f"{folder} is no study (it holds no study.json); make one with “detox fit --out {folder}”."
            )
        try:
            study = _read(folder)
            check_study(study)
            return study
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
            raise InputError(
                f"The study {folder} is incomplete or broken ({_reason(error)}); fit it again into a new folder."
            ) from None


_TENSORS, _OPTIONAL = ("basis", "singular_values", "mean_direction", "polarity"), ("reads",)


def _key(method: str, layer: int, name: str) -> str:
    """Where a tensor lies in the file; DeTox's lie where they did when there was no other method."""
    return f"layers.{layer}.{name}" if method == PAPER else f"methods.{method}.layers.{layer}.{name}"


def _read(folder: Path) -> Study:
    file = folder / "study.json"
    if file.stat().st_size > LARGEST:
        raise ValueError("study.json is larger than any")
    record = json.loads(file.read_text(encoding="utf-8"))
    if isinstance(record, dict) and record.get("format") != FORMAT:
        raise ValueError(f"its format is {str(record.get('format'))[:20]}, this version reads {FORMAT}")
    check_record(record)
    check_files(folder, record)
    model = ModelIdentity(**record["model"])
    chosen = read_methods(record["plan"])
    with safe_open(folder / "subspaces.safetensors", framework="pt") as file:
        names = set(file.keys())

        def read(method: str, layer: int) -> ToxicSubspace:
            keys = {name: _key(method, layer, name) for name in (*_TENSORS, *_OPTIONAL)}
            kept = {name: key for name, key in keys.items() if name in _TENSORS or key in names}
            # Copies, since products of tensors that lie aligned in memory as they did when fitted round so too.
            return ToxicSubspace(**{name: file.get_tensor(key).clone() for name, key in kept.items()})

        found = {method.name: tuple(read(method.name, layer) for layer in range(model.layers)) for method in chosen}
        parts = {name: file.get_tensor(name).clone() for name in names if name.startswith("sinks.")}
        spectra = [f"layers.{layer}.null_spectrum" for layer in range(model.layers)]
        nulls = tuple(NullSpectrum(file.get_tensor(name)) for name in spectra) if set(spectra) <= names else None
    with (folder / "pairs.jsonl").open(encoding="utf-8") as lines:
        pairs = tuple(Pair(**json.loads(line)) for line in lines)
    source = record["pairs"]
    spec = PairSpec(**{name: source[name] for name in PairSpec.__dataclass_fields__})
    embeddings = None
    if (folder / "embeddings.safetensors").is_file():
        sides = load_file(folder / "embeddings.safetensors")
        embeddings = Embeddings(
            sides["toxic"], sides["civil"], record["tokens"], tuple(record["cut"]), sides.get("lengths")
        )
    moments = None
    if (folder / "moments.safetensors").is_file():
        moments = load_moments(folder / "moments.safetensors", model.layers)
    tokens = folder / "tokens.safetensors"
    # Studies of earlier versions kept sinks, and say nothing of them.
    plan = FitPlan(pairs=spec, methods=chosen, **{"sinks": "keep"} | record["plan"])
    thresholds = record.get("noise_thresholds")
    if thresholds is None:
        # Studies of earlier versions have the parallel analysis alone.
        thresholds = find_noise_thresholds(found[PAPER], source["count"], model.hidden)
    suggested = record["suggested"]
    return Study(
        model=model,
        plan=plan,
        pairs=pairs,
        pair_count=source["count"],
        pairs_hash=source["hash"],
        warnings=tuple(source["warnings"]),
        subspaces=found[PAPER],
        embeddings=embeddings,
        tokens=record["tokens"],
        seconds=record["seconds"],
        noise_thresholds=tuple(thresholds),
        suggested_layers=parse_layers(suggested["layers"], model.layers),
        suggested_rank=suggested["rank"],
        made=record["made"],
        versions=record["versions"],
        moments=moments,
        # Studies of earlier versions have none.
        added=tuple(PairSpec(**spec) for spec in record.get("added", ())),
        others={name: subspaces for name, subspaces in found.items() if name != PAPER},
        sinks=Sinks.of_tensors({name.removeprefix("sinks."): part for name, part in parts.items()}) if parts else None,
        left_out=tuple(record.get("left_out", ())),
        token_moments=TokenMoments(**load_file(tokens)) if tokens.is_file() else None,
        null_spectra=nulls,
        findings=tuple(Finding(**finding) for finding in record.get("findings", ())),
        suggestion=read_suggestion(record["suggestion"], model.layers) if record.get("suggestion") else None,
    )


def require_new(folder: Path) -> None:
    """Raise an InputError if `folder` exists, since nothing on disk is ever replaced, or could not be written."""
    if folder.exists():
        raise InputError(f"{folder} exists already; choose another folder, or remove it first.")
    above = next(parent for parent in folder.absolute().parents if parent.exists())
    if not (above.is_dir() and os.access(above, os.W_OK)):
        raise InputError(f"{folder} cannot be written: {above} takes no new folder; choose another one.")


def require_new_file(file: Path) -> None:
    """Raise an InputError if `file` exists, since nothing on disk is ever replaced unasked."""
    if file.exists():
        raise InputError(f"{file} exists already; choose another file, or remove it first.")


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """A folder to fill, which is renamed to `folder` when whole; if that is not reached, nothing is left of it.

    Raises:
        InputError: `folder` exists already, or cannot be written.
    """
    require_new(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with new_folder(folder) as partial:
            yield partial
    except (OSError, SafetensorError) as error:
        told = getattr(error, "strerror", None) or first_line(error)
        raise InputError(f"{folder} cannot be written: {told}; choose another folder.") from None


def record_fit(plan: FitPlan) -> dict[str, Any]:
    """All of how a study was fitted, such that it can be repeated from JSON."""
    return asdict(plan) | {"methods": record_methods(plan.methods)}


def read_fit(record: Mapping[str, Any]) -> FitPlan:
    """What `record_fit` wrote."""
    rest = dict(record)
    chosen, pairs = read_methods(rest), read_as(PairSpec, rest.pop("pairs"))
    return FitPlan(pairs, methods=chosen, **rest)


def identify(model: "OpenModel") -> ModelIdentity:
    """Which model a study is of; a folder or a file by its whole path, so that the study finds it from anywhere."""
    place = find_place(model.spec) if model.revision is None else None
    name = model.spec.name if place is None else str(place.absolute())
    return ModelIdentity(name, model.revision, model.weights_hash, model.anatomy.layers, model.anatomy.hidden)


def stamp() -> tuple[str, dict[str, str]]:
    """When (ISO 8601, UTC) and with which package versions."""
    return datetime.now(UTC).isoformat(timespec="seconds"), dict(_find_versions())


@cache
def _find_versions() -> dict[str, str]:
    """Looked up once: a folder that a thread takes from the path meanwhile would hide the packages behind it."""
    return {name: version(name) for name in PACKAGES}


def _short(digest: str) -> str:
    return digest[: len("sha256:") + 12]


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"{error.args[0]} is missing"
    if isinstance(error, OSError):
        return f"{Path(error.filename).name if error.filename else 'a file'}: {error.strerror or error}"
    return first_line(error)
