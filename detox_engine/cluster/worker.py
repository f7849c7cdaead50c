"""What runs in a worker's process: the model, the sums of its own shards, and the parts of a measurement.

A worker sends no state of a token: sums, embeddings of the sample, texts and scores are what leaves it.
"""

import hashlib
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, wraps
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from detox_engine.edit.low_rank import LowRankEdit
from detox_engine.errors import InputError
from detox_engine.forward.compare import Continuation, generate
from detox_engine.forward.likelihood import Likelihoods, Span, read_likelihoods
from detox_engine.model.load import load_model
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.evaluation import SweepPlan
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.plans.sources import ModelSpec
from detox_engine.scoring.evaluation import Materials
from detox_engine.scoring.results import SweepPoint
from detox_engine.scoring.scorers import make_scorers
from detox_engine.scoring.sweep import measure_settings
from detox_engine.study.fit import return_memory
from detox_engine.study.shards import Counted, LayerSums, Shard, Sums, Work, add_layer_sums
from detox_engine.study.study import Study

PACKAGES = ("torch", "transformers")
LESS = "ask for fewer --workers, a smaller --dtype or shorter texts"


@dataclass(frozen=True)
class Refused:
    """What cannot be done, in place of its result; errors of others do not travel well."""

    sentence: str


@dataclass(frozen=True)
class Introduction:
    """What a worker is, to be held against what it has to be."""

    host: str
    project: str
    weights_hash: str


@dataclass(frozen=True)
class PackedEdit:
    """An edit as it travels."""

    bases: dict[int, Any]
    strength: float
    edit_bias: bool
    sites: str
    reads: dict[int, Any]


def pack(edits: Sequence[LowRankEdit | None]) -> tuple[PackedEdit | None, ...]:
    return tuple(
        edit and PackedEdit(dict(edit.bases), edit.strength, edit.edit_bias, edit.sites, dict(edit.reads))
        for edit in edits
    )


def unpack(edits: Sequence[PackedEdit | None]) -> list[LowRankEdit | None]:
    return [edit and LowRankEdit(**vars(edit)) for edit in edits]


@cache
def name_project() -> str:
    """The code that runs here and what it computes with: equal on two machines where they compute the same."""
    folder = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        if "dashboard" not in file.relative_to(folder).parts:
            digest.update(f"{file.relative_to(folder).as_posix()}\n".encode() + file.read_bytes())
    packages = ", ".join(f"{name} {version(name).partition('+')[0]}" for name in PACKAGES)
    return f"code {digest.hexdigest()[:12]}, {packages}"


def guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a sentence where the work cannot be done, memory that does not suffice among the reasons."""

    @wraps(method)
    def run(self: "Worker", *given: Any) -> Any:
        try:
            return method(self, *given)
        except InputError as error:
            return Refused(str(error))
        except (MemoryError, RuntimeError) as error:
            told = str(error).lower()
            if isinstance(error, MemoryError) or "memory" in told:
                return Refused(f"A worker on {socket.gethostname()} has not enough memory: {LESS}.")
            raise

    return run


class Worker:
    """One model in a process of its own."""

    def __init__(self) -> None:
        self._model, self._work, self._sums = None, None, None

    @guarded
    def open(self, spec: ModelSpec) -> Introduction:
        """Load the model; a worker whose code differs says so before that takes time."""
        self._model = load_model(spec)
        return Introduction(socket.gethostname(), name_project(), self._model.weights_hash)

    def introduce(self) -> Introduction:
        return Introduction(socket.gethostname(), name_project(), "")

    def find_process(self) -> int:
        return os.getpid()

    @guarded
    def begin(self, work: Work | None) -> None:
        """Forget all sums, and begin new ones; of nothing where there is no work."""
        self._work, self._sums = work, None
        if work is not None:
            self._sums = Sums(self._model.anatomy.layers, self._model.anatomy.hidden, work)

    @guarded
    def add(self, shard: Shard) -> Counted:
        counted = self._sums.add(self._model, self._work, shard)
        return_memory()
        return counted

    @guarded
    def take(self, layer: int, places: Sequence[int]) -> LayerSums:
        return self._sums.take(layer, places)

    @guarded
    def join(self, one: LayerSums | Refused, other: LayerSums | Refused) -> LayerSums | Refused:
        """What two parts of the tree came to."""
        refused = next((part for part in (one, other) if isinstance(part, Refused)), None)
        return add_layer_sums(one, other) if refused is None else refused

    @guarded
    def write(
        self, edits: Sequence[PackedEdit | None], prompts: Sequence[str], sampling: SamplingPlan
    ) -> list[list[list[Continuation]]]:
        return generate(self._model, prompts, unpack(edits), sampling)

    @guarded
    def read(self, edits: Sequence[PackedEdit | None], spans: Sequence[Span], listed: Sequence[int]) -> Likelihoods:
        return read_likelihoods(self._model, spans, unpack(edits), listed=listed)

    @guarded
    def measure(
        self, study: Study, plan: SweepPlan, materials: Materials, settings: Sequence[EditPlan]
    ) -> list[SweepPoint]:
        """The points of settings that share a trial; the scorers are made here."""
        scorers = make_scorers(plan.evaluation, str(self._model.network.device))
        own = Materials(scorers, materials.prompts, materials.texts, materials.sources)
        return measure_settings(self._model, study, settings, plan, own)


def place_of(spec: ModelSpec, dtype: torch.dtype, gpu: bool) -> ModelSpec:
    """The model as a worker opens it: in the number format of this process, on the device that it is given."""
    device = "cuda" if gpu else "cpu"
    return ModelSpec(spec.name, spec.revision, device, str(dtype).removeprefix("torch."))
