"""A model spec -> a causal language model with its tokenizer and its anatomy, ready to run: safetensors or GGUF."""

import logging
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from time import perf_counter

import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from detox_engine.data.bundled import BUNDLED_MODEL, find_smollm2
from detox_engine.errors import Cancelled, InputError, Progress, first_line, ignore_progress
from detox_engine.model.adapter import add_adapter, find_adapter
from detox_engine.model.anatomy import Anatomy, find_anatomy
from detox_engine.model.checkpoint import WAYS_OUT, Checkpoint, find_quantisation, open_folder
from detox_engine.model.hub import download_model
from detox_engine.model.placement import find_device
from detox_engine.model.threads import Turns, settle_threads
from detox_engine.plans.sources import BUNDLED, SMOLLM2, WHOLE, ModelSpec

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

BLOCK = re.compile(r"(?:^|\.)(?:h|layers|blocks|layer)\.(\d{1,9})\.")
"""The number of a block in the name of a weight."""
PROBE = "A text with \u00e9, \u4e2d and \U0001f600."
"""What no tokenizer of these models knows all of."""

_LOADING = Lock()
"""The library swaps functions of its own and of torch while it loads a model, such as the one that ties weights: of two
loads at once the second finds weights missing, or leaves every later one without its ties."""


@dataclass(frozen=True)
class OpenModel:
    """A model in evaluation mode, without gradients, on its device, and where things are in it.

    Raises:
        InputError: a part of it was not found, or is of a kind that is not supported.
    """

    spec: ModelSpec
    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    """Has a padding token among the model's tokens; the embeddings are never resized."""

    revision: str | None
    """The commit on the Hub; None for folders and files."""

    weights_hash: str
    """`sha256:…` over the files that hold the weights, the same on every device and in every number format."""

    context: int | None
    """Longest input in tokens; None where the architecture has no limit."""

    load_seconds: float = field(default=0.0, compare=False)
    """What loading took."""

    anatomy: Anatomy = field(init=False, compare=False, repr=False)

    turns: Turns = field(default_factory=Turns, compare=False, repr=False)
    """Held by every forward pass that carries hooks, one batch at a time, so that threads can share the model."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "anatomy", find_anatomy(self.network))

    @property
    def device(self) -> torch.device:
        """Where texts go in; a split model's later blocks may be elsewhere."""
        return find_device(self.network)

    @property
    def is_split(self) -> bool:
        """Whether weights are brought to the device where they are used, so that one pass at a time can run."""
        return any(hasattr(part, "_hf_hook") for part in self.network.modules())

    def require_whole(self, what: str) -> None:
        """Raise an InputError where the model is split or quantised: `what`, such as "DPO", trains its weights."""
        if any(value.packed for value in self.anatomy.values):
            raise InputError(
                f"{what} needs plain weights, and those of this model are quantised: load the model that it was made "
                "from."
            )
        if self.is_split:
            raise InputError(
                f"{what} needs all weights on one device, and this model is split: load it with --device-map off, or "
                "take a smaller model."
            )


def load_model(spec: ModelSpec, progress: Progress = ignore_progress) -> OpenModel:
    """Load the model that `spec` names.

    Raises:
        InputError: the model cannot be found, reached or used; nothing is left half loaded.
    """
    start = perf_counter()
    shown = "The bundled model" if spec.name == BUNDLED else f"“{spec.name}”"
    device = pick_device("auto" if spec.is_split else spec.device)
    split = read_device_map(spec.device_map)
    check_dtype(spec.dtype)
    place, revision = find_model(spec, progress)
    progress("Loading the model", 0, 1)
    adapter = find_adapter(place, shown, from_hub=revision is not None)
    if adapter is None:
        checkpoint = open_checkpoint(place, shown)
    else:
        base = replace(spec, name=adapter.base, revision=adapter.revision)
        try:
            checkpoint = open_checkpoint(find_model(base, progress)[0], adapter.shown_base)
        except InputError as error:
            raise InputError(f"{shown} is an adapter for “{adapter.base}”: {error}") from None
    if split is not None and (adapter is not None or place.is_file()):
        raise InputError(
            f"{shown} is {'an adapter' if adapter is not None else 'a GGUF file'}, which is put together in the memory "
            "of one device: load it with --device-map off, or give the folder of a whole model."
        )
    settle_threads()
    with ThreadPoolExecutor(max_workers=1) as reader, loading_alone(progress):
        hashed = reader.submit(checkpoint.hash_weights)
        packed = find_quantisation(checkpoint.config.to_dict())
        if packed and adapter is not None:
            raise InputError(
                f"{shown} is an adapter for quantised weights ({packed}), into which it cannot be put: give its base, "
                "or merge it into plain weights."
            )
        place_at = {"": device} if packed and split is None else None
        model = read_model(checkpoint, pick_dtype(spec.dtype, device, checkpoint.config), progress, split, place_at)
        tokenizer = read_tokenizer(checkpoint, model)
        if adapter is not None:
            model = add_adapter(model, adapter)
        if split is None and not packed:
            model = move(model, device, shown)
    weights_hash = hashed.result() if adapter is None else adapter.hash_weights(hashed.result())
    progress("Loading the model", 1, 1)
    took = perf_counter() - start
    return OpenModel(spec, model, tokenizer, revision, weights_hash, find_context(checkpoint.config), took)


def find_model(spec: ModelSpec, progress: Progress) -> tuple[Path, str | None]:
    """The folder or the file of the model on this machine, and its commit if it came from the Hub."""
    if spec.name == SMOLLM2:
        place = find_smollm2()
    else:
        place = BUNDLED_MODEL if spec.name == BUNDLED else Path(spec.name).expanduser()
    if spec.name == BUNDLED and not place.is_dir():
        raise InputError(
            f"The bundled model is missing (looked in {place}): run from a whole copy of the repository, or give a "
            "Hub id or a folder."
        )
    if place.exists():
        if spec.revision is not None:
            kind = "folder" if place.is_dir() else "file"
            raise InputError(f"“{spec.name}” is a {kind}, which has no revision “{spec.revision}”: leave it out.")
        return place, None
    file = spec.name.endswith(".gguf")
    if not spec.name or file or place.is_absolute() or spec.name.startswith((".", "~")) or spec.name.endswith(os.sep):
        raise InputError(
            f"There is no {'file' if file else 'folder'} “{spec.name}”: check the path, or use the bundled model or a "
            "Hub id."
        )
    cached = download_model(spec.name, spec.revision, progress)
    return cached, cached.name


def open_checkpoint(place: Path, shown: str) -> Checkpoint:
    """What is at `place`, checked; see `open_folder` and `open_gguf`."""
    if place.is_dir():
        return open_folder(place, shown)
    # Tokenizers of many families come with it, which takes a moment that few models need.
    from detox_engine.model.gguf import open_gguf

    return open_gguf(place, shown)


def read_model(
    checkpoint: Checkpoint,
    dtype: torch.dtype,
    progress: Progress,
    split: dict[str | int, int] | None = None,
    place_at: dict[str, torch.device] | None = None,
) -> PreTrainedModel:
    """Read the weights in `dtype`; every weight of the causal model must be among them.

    Args:
        split: bytes that each device may hold, empty for all that is free; None reads the model as a whole.
        place_at: where quantised weights, which cannot be moved afterwards, go.
    """
    shown, offload, model = checkpoint.shown, None, None
    try:
        with checkpoint.reading(progress) as source:
            if split is not None:
                offload = tempfile.mkdtemp(prefix="detox-offload-")
                source = {**source, "device_map": "auto", "max_memory": split or None, "offload_folder": offload}
            elif place_at is not None:
                source = {**source, "device_map": place_at}
            model, found = AutoModelForCausalLM.from_pretrained(
                **source,
                config=checkpoint.config,
                dtype=dtype,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are named below, which the library's own error does not do
            )
    except Cancelled:
        raise
    except MemoryError as error:
        raise InputError(
            f"{shown} does not fit into this machine's memory: use a smaller model, or split it (--device-map auto)."
        ) from error
    except Exception as error:  # transformers raises OSError, ValueError, RuntimeError, ImportError, … as it happens
        if how := find_quantisation(checkpoint.config.to_dict()):
            raise InputError(
                f"{shown} is quantised ({how}), and what reads that is missing here ({first_line(error)}): install it, "
                "use the model that it was made from, or a GGUF file of it, which is read as plain weights."
            ) from error
        raise InputError(f"{shown} could not be loaded: {first_line(error)}") from error
    finally:
        if offload is not None and model is None:
            shutil.rmtree(offload, ignore_errors=True)
    if offload is not None:
        weakref.finalize(model, shutil.rmtree, offload, ignore_errors=True)
    missing = sorted(found["missing_keys"]) + sorted(key for key, *_ in found["mismatched_keys"])
    if missing:
        raise InputError(
            f"{shown} is no whole causal language model: {len(missing)} of the weights it needs are not in its files "
            f"in the right size, such as {missing[0]}; {WAYS_OUT}."
        )
    layers = checkpoint.config.get_text_config().num_hidden_layers
    beyond = [key for key in found["unexpected_keys"] if any(int(number) >= layers for number in BLOCK.findall(key))]
    if beyond:
        raise InputError(
            f"{shown} has weights of more layers than the {layers} of its config.json, such as {min(beyond)}: get its "
            "files again."
        )
    return model.eval().requires_grad_(False)


def move(model: PreTrainedModel, device: torch.device, shown: str) -> PreTrainedModel:
    """The model on `device`, weight by weight, so that no second copy is ever whole."""
    try:
        return model.to(device)
    except torch.OutOfMemoryError as error:
        size = model.get_memory_footprint() / 2**30
        raise InputError(
            f"{shown} needs {size:.1f} GiB, which {device} does not have free: use bfloat16, split it (--device-map "
            "auto), use the cpu, or a smaller model."
        ) from error


def read_tokenizer(checkpoint: Checkpoint, model: PreTrainedModel) -> PreTrainedTokenizerBase:
    """The model's tokenizer, with a padding token that is one of the model's tokens."""
    tokenizer, shown = checkpoint.read_tokenizer(), checkpoint.shown
    tokens = model.get_input_embeddings().weight.shape[0]
    # A special token that was added beyond the embeddings is never read: no text is made of it.
    special = set(tokenizer.all_special_ids)
    largest = max((id for id in tokenizer.get_vocab().values() if id not in special), default=-1)
    if not 0 <= largest < tokens:
        raise InputError(
            f"{shown} has a tokenizer of {largest + 1} tokens for a model of {tokens}: copy the tokenizer files of "
            "this model."
        )
    try:
        tokenizer(PROBE)
    except Exception as error:  # a tokenizer without a token for what it does not know
        told = f"{shown} has a tokenizer that cannot read every text ({first_line(error)}): copy that of this model."
        raise InputError(told) from error
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id >= tokens:
        end = tokenizer.eos_token_id
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(end if end is not None and end < tokens else 0)
    return tokenizer


def find_context(config: PreTrainedConfig) -> int | None:
    """Longest input in tokens; None for positions that are not counted, such as ALiBi's."""
    text = config.get_text_config()
    return None if getattr(text, "alibi", False) else getattr(text, "max_position_embeddings", None)


def pick_device(name: str) -> torch.device:
    """The device called `name`; `auto` takes CUDA, else Apple's MPS, else the CPU."""
    if name == "auto":
        found = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(found)
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda", "mps"):
        raise InputError(f"“{name}” is no device: write auto, cpu, cuda, cuda:1 or mps.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"The device {name} was asked for and this machine has {torch.cuda.device_count()} CUDA "
            "devices: use auto or cpu."
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError("The device mps was asked for and this machine has none: use auto or cpu.")
    return device


def read_device_map(told: str) -> dict[str | int, int] | None:
    """Bytes that each device may hold; empty for all that is free, None for a model that is not split."""
    if told in (WHOLE, "auto"):
        return {} if told == "auto" else None
    found: dict[str | int, int] = {}
    for part in told.split(","):
        device, _, size = (piece.strip() for piece in part.partition("="))
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)i?B", size)
        if match is None or not (device in ("cpu", "mps") or device.isdecimal()) or len(device) > 4:
            raise InputError(
                f"“{told}” is no device map: write off, auto, or what each device may hold, such as 0=20GiB,cpu=60GiB."
            )
        number = int(device) if device.isdecimal() else device
        found[number] = int(float(match[1]) * 1024 ** " KMGT".index(match[2] or " "))
    return found


def check_dtype(name: str) -> None:
    if name != "auto" and name not in DTYPES:
        raise InputError(f"“{name}” is no number format for weights: write auto, {', '.join(DTYPES)}.")


def pick_dtype(name: str, device: torch.device, config: PreTrainedConfig) -> torch.dtype:
    """The number format called `name`; `auto` is bfloat16 on CUDA, the checkpoint's own on MPS, float32 on the CPU."""
    if name != "auto":
        return DTYPES[name]
    stored = config.dtype if config.dtype in DTYPES.values() else torch.float32
    return {"cuda": torch.bfloat16, "mps": stored}.get(device.type, torch.float32)


@contextmanager
def loading_alone(progress: Progress) -> Iterator[None]:
    """Let one thread at a time load a model, and keep the library's own bars and notes off standard error.

    Waiting reports progress, so that it can be stopped like any work; what matters is raised as an InputError.
    """
    while not _LOADING.acquire(timeout=0.5):
        progress("Waiting for another model to be loaded", 0, 0)
    log = transformers.utils.logging
    verbosity, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    splitting = logging.getLogger("accelerate")
    told = splitting.level
    splitting.setLevel(logging.CRITICAL)
    log.set_verbosity(log.CRITICAL)
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        splitting.setLevel(told)
        if bars:
            log.enable_progress_bar()
        _LOADING.release()
