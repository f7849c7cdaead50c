"""Direct Preference Optimization by TRL: the training that DeTox claims to do without (Rafailov et al. 2023).

A LoRA on every linear module of the blocks learns to prefer the civil text of a pair to the toxic one. Without it the
model is as it was, so the reference model is no second copy; and what is trained is a twin of the model that shares its
weights, so that the model itself stays untouched. The learning rate, and where training stops, are those of the lowest
loss on pairs that are held out of it.
"""

import copy
import hashlib
import json
import logging
import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from transformers import TrainerCallback
from transformers.pytorch_utils import Conv1D

from detox_engine.data.columns import Pair
from detox_engine.data.stream import hash_pairs
from detox_engine.disk import read_as, scratch_folder, write_whole
from detox_engine.edit.change import Adapter
from detox_engine.errors import InputError, Progress, ignore_progress
from detox_engine.lab.effort import measured
from detox_engine.model.load import OpenModel
from detox_engine.plans.lab.training import TrainingPlan

INSTALL = "pip install 'detox-explorer[dpo]'"
STAGE = "Training by DPO"
FEWEST = 4
"""Pairs: fewer leave nothing to hold out."""
HELD_OUT_SHARE, MOST_HELD_OUT = 0.2, 24
EVALUATIONS = 5
"""How often at most the held-out pairs are read at a learning rate."""
PATIENCE = 2
"""After how many evaluations without a lower loss training stops."""
LONGEST = 128
"""Tokens of a pair's text."""


@dataclass(frozen=True)
class Step:
    """What training came to at a step, over a step's pairs or over those held out."""

    step: int
    loss: float
    margin: float
    """Mean reward of the civil text less that of the toxic one: β times how much more probable it became."""
    accuracy: float
    """Share of pairs whose civil text has the higher reward."""


@dataclass(frozen=True)
class Run:
    """Training at one learning rate."""

    learning_rate: float
    trained: tuple[Step, ...]
    held_out: tuple[Step, ...]

    @property
    def best(self) -> Step:
        """Where the held-out loss was lowest."""
        return min(self.held_out, key=lambda step: step.loss)


@dataclass(frozen=True, eq=False)
class Training:
    """What DPO made of a model."""

    adapter: Adapter
    """As it was at the best step of the best run."""
    runs: tuple[Run, ...]
    pairs: int
    """Those trained on; the others were held out."""
    held_out: int
    seconds: float
    memory: float
    """Bytes at most beside what was held before."""
    at_steps: Mapping[int, Adapter] = field(default_factory=dict)
    """Of the last run, as it was at steps that were asked for."""

    @property
    def best(self) -> Run:
        return min(self.runs, key=lambda run: run.best.loss)


def require_trl() -> None:
    """Raise an InputError that says how to install TRL and PEFT, where they are not."""
    missing = [name for name in ("trl", "peft") if find_spec(name) is None]
    if missing:
        raise InputError(f"DPO is trained by TRL, which is not installed here: install it with: {INSTALL}.")


def train_dpo(
    model: OpenModel,
    pairs: Sequence[Pair],
    plan: TrainingPlan = TrainingPlan(),  # noqa: B008
    robust: float | None = None,
    at_steps: Sequence[int] = (),
    progress: Progress = ignore_progress,
) -> Training:
    """Train on `pairs` at every learning rate of the plan; progress counts steps.

    Args:
        robust: the share of flipped labels that robust DPO reckons with (Chowdhury et al. 2024, arXiv 2403.00409);
            None trains plain DPO.
        at_steps: steps after which the adapter is kept as it is; training then does not stop early.

    Raises:
        InputError: TRL is not installed, there are fewer than `FEWEST` pairs, or the model has no token that ends a
            text.
    """
    require_trl()
    model.require_whole("DPO's training")
    if len(pairs) < FEWEST:
        raise InputError(f"DPO needs {FEWEST} pairs or more, some of them held out, not {len(pairs)}: take more pairs.")
    if model.tokenizer.eos_token is None:
        raise InputError("DPO teaches a model where texts end, and this model has no token for it: take another model.")
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(plan.seed)).tolist()
    held = max(1, min(MOST_HELD_OUT, round(HELD_OUT_SHARE * len(pairs))))
    held_out, trained = ([pairs[place] for place in part] for part in (order[:held], order[held:]))
    total = plan.steps * len(plan.learning_rates)
    runs, best, kept = [], None, {}
    with measured() as spent:
        for place, rate in enumerate(plan.learning_rates):

            def tell(step: int, before: int = place * plan.steps) -> None:
                progress(STAGE, before + step, total)

            watch = _train(model, trained, held_out, plan, rate, robust, at_steps, tell)
            runs.append(Run(rate, tuple(watch.trained), tuple(watch.held_out)))
            if best is None or watch.lowest < best.lowest:
                best = watch
            kept = watch.at_steps
    progress(STAGE, total, total)
    return Training(best.adapter, tuple(runs), len(trained), held, spent.seconds, spent.memory, kept)


def _train(
    model: OpenModel,
    trained: Sequence[Pair],
    held_out: Sequence[Pair],
    plan: TrainingPlan,
    rate: float,
    robust: float | None,
    at_steps: Sequence[int],
    tell: Any,
) -> "_Watch":
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import PrinterCallback
    from trl import DPOConfig, DPOTrainer

    names = list_linear(model)
    with ExitStack() as around:
        around.enter_context(_quiet())
        around.enter_context(_luck_of_its_own())
        settings = DPOConfig(
            output_dir=str(around.enter_context(scratch_folder())),
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=model.device.type == "cpu",
            bf16=False,
            gradient_checkpointing=False,
            dataloader_pin_memory=False,
            per_device_train_batch_size=min(plan.batch, len(trained)),
            per_device_eval_batch_size=max(2 * plan.batch, 1),
            max_steps=plan.steps,
            learning_rate=rate,
            lr_scheduler_type="constant_with_warmup",
            warmup_steps=min(5, plan.steps // 4),
            eval_strategy="steps",
            eval_steps=max(1, plan.steps // EVALUATIONS),
            logging_steps=max(1, plan.steps // (2 * EVALUATIONS)),
            beta=plan.beta,
            loss_type=["sigmoid" if robust is None else "robust"],
            label_smoothing=robust or 0.0,
            max_length=min(LONGEST, model.context or LONGEST),
            seed=plan.seed,
        )
        adapter = LoraConfig(r=plan.lora_rank, lora_alpha=plan.lora_rank, target_modules=list(names))
        watch = _Watch(names, PATIENCE if not at_steps else plan.steps, at_steps, tell)
        trainer = DPOTrainer(
            model=make_twin(model),
            args=settings,
            train_dataset=Dataset.from_list([_as_preference(pair) for pair in trained]),
            eval_dataset=Dataset.from_list([_as_preference(pair) for pair in held_out]),
            processing_class=model.tokenizer,
            peft_config=adapter,
            callbacks=[watch],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return watch


def _as_preference(pair: Pair) -> dict[str, str]:
    start = len(pair.prompt)
    return {"prompt": pair.prompt, "chosen": pair.civil_text[start:], "rejected": pair.toxic_text[start:]}


def make_twin(model: OpenModel) -> nn.Module:
    """Modules of their own over the same memory of weights: hooks, adapters and gradients of a twin are its own."""
    network = model.network
    shared = {id(weight): nn.Parameter(weight.data, requires_grad=False) for weight in network.parameters()}
    shared |= {id(buffer): buffer for buffer in network.buffers()}
    # No pass may carry hooks meanwhile: they would be the twin's too.
    with model.turns:
        return copy.deepcopy(network, shared)


def list_linear(model: OpenModel) -> dict[str, tuple[int, str]]:
    """The linear modules of the blocks: name in the network -> layer, and name in the block."""
    owners = {block: layer for layer, block in enumerate(model.anatomy.blocks)}
    found = {}
    for name, block in model.network.named_modules():
        if block in owners:
            found |= {
                f"{name}.{inner}": (owners[block], inner)
                for inner, module in block.named_modules()
                if isinstance(module, nn.Linear | Conv1D)
            }
    if not found:
        raise InputError("This model's blocks hold no linear modules that a LoRA can be put on: take another model.")
    return found


class _Watch(TrainerCallback):
    """Keeps the curves and the best adapter, stops where the held-out loss no longer falls, and tells how far it is."""

    def __init__(self, names: Mapping[str, tuple[int, str]], patience: int, at_steps: Sequence[int], tell: Any) -> None:
        self.names, self.patience, self.asked, self.tell = names, patience, set(at_steps), tell
        self.trained: list[Step] = []
        self.held_out: list[Step] = []
        self.at_steps: dict[int, Adapter] = {}
        self.lowest, self.missed = float("inf"), 0
        self.adapter: Adapter | None = None

    def on_step_end(self, args: Any, state: Any, control: Any, model: nn.Module, **_: Any) -> None:
        self.tell(state.global_step)
        if state.global_step in self.asked:
            self.at_steps[state.global_step] = self._take(model)

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float], **_: Any) -> None:
        if "loss" in logs:
            self.trained.append(_read_step(state.global_step, logs, ""))

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Mapping[str, float], model: nn.Module, **_: Any
    ) -> None:
        self.held_out.append(_read_step(state.global_step, metrics, "eval_"))
        if self.held_out[-1].loss < self.lowest:
            self.lowest, self.missed, self.adapter = self.held_out[-1].loss, 0, self._take(model)
        else:
            self.missed += 1
            control.should_training_stop |= self.missed >= self.patience

    def _take(self, model: nn.Module) -> Adapter:
        modules = dict(model.base_model.model.named_modules())
        factors: dict[int, dict[str, tuple[Tensor, Tensor]]] = {}
        for name, (layer, inner) in self.names.items():
            lora = modules[name]
            down, up = (part["default"].weight.detach().float() for part in (lora.lora_A, lora.lora_B))
            factors.setdefault(layer, {})[inner] = down.clone(), lora.scaling["default"] * up
        return Adapter(factors)


def _read_step(step: int, logs: Mapping[str, float], prefix: str) -> Step:
    margin, accuracy = (float(logs[f"{prefix}rewards/{part}"]) for part in ("margins", "accuracies"))
    return Step(step, float(logs[f"{prefix}loss"]), margin, accuracy)


@contextmanager
def _quiet() -> Iterator[None]:
    """Neither bars nor warnings of the libraries that train: progress is told by the caller."""
    import datasets

    shown = datasets.is_progress_bar_enabled()
    level = logging.root.manager.disable
    datasets.disable_progress_bars()
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(level)
        if shown:
            datasets.enable_progress_bars()


@contextmanager
def _luck_of_its_own() -> Iterator[None]:
    """The trainer seeds every generator there is; they go on afterwards as if it had not been."""
    states = random.getstate(), numpy.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(states[0])
        numpy.random.set_state(states[1])


def train_or_load(
    model: OpenModel,
    pairs: Sequence[Pair],
    plan: TrainingPlan,
    robust: float | None = None,
    folder: Path | None = None,
    progress: Progress = ignore_progress,
) -> Training:
    """As `train_dpo`; what was trained before on the same, and kept in `folder`, is read instead."""
    if folder is None:
        return train_dpo(model, pairs, plan, robust, progress=progress)
    told = [model.weights_hash, str(model.network.dtype), hash_pairs(pairs), asdict(plan), robust]
    file = folder / f"dpo-{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]}.safetensors"
    kept = _load(file, model)
    if kept is None:
        kept = train_dpo(model, pairs, plan, robust, progress=progress)
        _keep(kept, file)
    return kept


@dataclass(frozen=True)
class _Kept:
    """What of a training is no tensor."""

    runs: tuple[Run, ...]
    pairs: int
    held_out: int
    seconds: float
    memory: float


def _describe(training: "Training | _Kept") -> dict[str, Any]:
    return {each.name: getattr(training, each.name) for each in fields(_Kept)}


def _keep(training: Training, file: Path) -> None:
    tensors = {}
    for layer, modules in training.adapter.factors.items():
        for name, (down, up) in modules.items():
            tensors |= {f"{layer}:{name}:A": down.contiguous(), f"{layer}:{name}:B": up.contiguous()}
    record = asdict(_Kept(**_describe(training)))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, save(tensors, {"training": json.dumps(record)}))
    except OSError as error:
        raise InputError(f"{file} cannot be written ({error.strerror}): make room, or name another folder.") from None


def _load(file: Path, model: OpenModel) -> Training | None:
    """What was kept; None where nothing was, or where it is nothing of this model and is to be trained anew."""
    if not file.is_file():
        return None
    factors: dict[int, dict[str, list[Tensor]]] = {}
    try:
        with safe_open(file, framework="pt") as opened:
            record = read_as(_Kept, json.loads(opened.metadata()["training"]))
            for key in sorted(opened.keys()):
                layer, name, _ = key.split(":")
                factors.setdefault(int(layer), {}).setdefault(name, []).append(opened.get_tensor(key).clone())
    except (OSError, SafetensorError, ValueError, LookupError, TypeError):
        return None
    pairs = {layer: {name: tuple(both) for name, both in modules.items()} for layer, modules in factors.items()}
    if not _fits(pairs, model):
        return None
    return Training(Adapter(pairs), **_describe(record))


def _fits(factors: Mapping[int, Mapping[str, tuple[Tensor, ...]]], model: OpenModel) -> bool:
    """Whether these are two matrices of one rank for each linear module of the blocks, in its shape."""
    known = list_linear(model)
    if {(layer, name) for layer, modules in factors.items() for name in modules} != set(known.values()):
        return False
    for full, (layer, name) in known.items():
        module = model.network.get_submodule(full)
        given, written = module.weight.shape if isinstance(module, Conv1D) else module.weight.T.shape
        shapes = [each.shape for each in factors[layer][name]]
        if len(shapes) != 2 or shapes != [(len(factors[layer][name][0]), given), (written, shapes[0][0])]:
            return False
    return True


def record_training(training: Training) -> dict[str, Any]:
    """The curves, for JSON."""
    return asdict(_Kept(**_describe(training))) | {
        "learning_rate": training.best.learning_rate,
        "best": asdict(training.best.best),
    }
