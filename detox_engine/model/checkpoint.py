"""A model's folder -> its configuration and its weight files, checked before anything large is read."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import transformers
from safetensors import SafetensorError, safe_open
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)
from transformers.quantizers.auto import AutoQuantizationConfig

from detox_engine.disk import hash_file
from detox_engine.errors import InputError, Progress, first_line
from detox_engine.model.adapter import CONFIG
from detox_engine.plans.layers import MOST_LAYERS

WAYS_OUT = "use the bundled model or another local folder"
SIZES = {
    "num_hidden_layers": MOST_LAYERS,
    "hidden_size": 2**17,
    "vocab_size": 2**24,
    "num_attention_heads": 2**14,
}
"""What every configuration has under these names, and the most of each that any model has."""
QUANTISED = {"gptq": "GPTQ", "awq": "AWQ", "mlx": "MLX"}
"""Ways to quantise that have a name of their own, as config.json calls them."""
SHARD = re.compile(r"[A-Za-z0-9_][\w.-]*\.safetensors")
"""A bare file name: an index is anybody's, and leads nowhere else."""
INDEX = "model.safetensors.index.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")


class Checkpoint(Protocol):
    """Where a model is read from: checked before anything large is."""

    @property
    def shown(self) -> str:
        """What it is called in a sentence."""

    @property
    def config(self) -> PreTrainedConfig: ...

    def hash_weights(self) -> str:
        """`sha256:…`, the same wherever the weights lie."""

    def reading(self, progress: Progress) -> AbstractContextManager[dict[str, Any]]:
        """What `from_pretrained` is told of the weights, while it reads them."""

    def read_tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer; raises an InputError where there is none that can be used."""


@dataclass(frozen=True)
class SafetensorsFolder:
    """A folder of a causal language model whose weights are safetensors."""

    folder: Path
    shown: str
    config: PreTrainedConfig
    files: tuple[Path, ...]
    """Those with the weights, sorted."""

    def hash_weights(self) -> str:
        """`sha256:…` over the files' bytes and names, the same in whichever folder they lie."""
        return hash_weights(self.files)

    @contextmanager
    def reading(self, progress: Progress) -> Iterator[dict[str, Any]]:
        """What `from_pretrained` is told: it reads nothing but safetensors."""
        yield {"pretrained_model_name_or_path": self.folder, "use_safetensors": True}

    def read_tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer in the folder.

        Raises:
            InputError: there is none, or it cannot be loaded.
        """
        if not any((self.folder / name).is_file() for name in TOKENIZER_FILES):
            raise InputError(
                f"{self.shown} has no tokenizer: looked for {', '.join(TOKENIZER_FILES)} and found none; copy the "
                "files from the model it was made from."
            )
        try:
            return AutoTokenizer.from_pretrained(self.folder, local_files_only=True, trust_remote_code=False)
        except BaseException as error:  # each family builds its own, with exceptions of many kinds, panics of Rust too
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            told = f"{self.shown} has a tokenizer that could not be loaded ({first_line(error)}): get its files again."
            raise InputError(told) from error


def open_folder(folder: Path, shown: str) -> SafetensorsFolder:
    """Check a folder's configuration and the headers of its weights.

    Raises:
        InputError: it holds no causal language model as safetensors.
    """
    config = read_config(folder, shown)
    return SafetensorsFolder(folder, shown, config, tuple(find_weights(folder, shown)))


def read_config(folder: Path, shown: str) -> PreTrainedConfig:
    """The model's configuration, refused unless transformers itself knows it as a causal language model."""
    config = read_any_config(folder, shown, packed=True)
    check_causal(config, shown)
    return config


def read_any_config(folder: Path, shown: str, packed: bool = False) -> PreTrainedConfig:
    """The configuration of a model of any kind that transformers knows, with possible sizes.

    Args:
        packed: its weights may be quantised in a way that transformers reads; else they must be plain.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise InputError(f"{shown} is no model: looked for config.json and found none; {WAYS_OUT}.")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        kind = raw.get("model_type")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"{shown} has a broken config.json ({first_line(error)}): get the file again.") from error
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        own = raw.get("auto_map")
        if own:
            code = str(next(iter(own.values())) if isinstance(own, dict) else own)[:80]
            raise InputError(
                f"{shown} needs its own Python code to run ({code}), which is never executed here: choose a model of "
                f"an architecture built into transformers, or {WAYS_OUT}."
            )
        raise InputError(
            f"{shown} is of an architecture (“{str(kind)[:80]}”) that transformers {transformers.__version__} does not "
            f"know: {WAYS_OUT}."
        )
    if (how := find_quantisation(raw)) and not (packed and is_readable(raw)):
        raise InputError(
            f"{shown} is quantised ({how}), and plain weights are needed here: use the model that it was made from, or "
            "a GGUF file of it, which is read as plain weights."
        )
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # each family checks its own fields, with exceptions of many kinds
        raise InputError(f"{shown} has a config.json that cannot be used ({first_line(error)}).") from error
    check_sizes(config, shown)
    return config


def find_quantisation(record: dict[str, Any]) -> str:
    """How a model of this config.json is quantised, such as `GPTQ, 4 bits`; empty where it is not."""
    mlx, found = record.get("quantization"), record.get("quantization_config")
    if not (mlx or found):
        return ""
    told = found if isinstance(found, dict) else mlx if isinstance(mlx, dict) else {}
    method = str(told.get("quant_method") or ("mlx" if mlx else "bitsandbytes"))[:40]
    eight = 8 if told.get("load_in_8bit") else None
    bits = told.get("bits") or told.get("w_bit") or eight or (4 if told.get("load_in_4bit") else None)
    name = QUANTISED.get(method, method)
    return f"{name}, {bits} bits" if isinstance(bits, int) else name


def is_readable(record: dict[str, Any]) -> bool:
    """Whether transformers knows how to read a model that is quantised as this config.json says."""
    found = record.get("quantization_config")
    if not isinstance(found, dict):
        return False
    try:
        return AutoQuantizationConfig.from_dict(dict(found)) is not None
    except Exception:  # a stranger's settings, checked by each way's own code
        return False


def check_sizes(config: PreTrainedConfig, shown: str) -> None:
    """Refuse a configuration whose sizes are no sizes, before a network is built of them."""
    text = config.get_text_config()
    for name, most in SIZES.items():
        size = getattr(text, name, 1)
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= most:
            raise InputError(
                f"{shown} has a config.json that cannot be used ({name} is {str(size)[:40]}, where it is a whole "
                f"number from 1 to {most:,}): get the file again."
            )


def check_causal(config: PreTrainedConfig, shown: str) -> None:
    """Refuse encoders and the like: the checkpoint must have been saved from a causal model, or from its trunk."""
    causal = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    told = config.architectures if isinstance(config.architectures, list) else []
    saved = [name for name in told if isinstance(name, str)]
    known = {entry.__name__ for entry in (causal, MODEL_MAPPING.get(type(config), None)) if isinstance(entry, type)}
    if causal is None or config.is_encoder_decoder or (saved and not known & set(saved)):
        raise InputError(
            f"{shown} has no causal language-model head (it is a {saved[0] if saved else config.model_type}), so it "
            "cannot continue a text: use a model that writes, such as GPT-2 or Llama, or the bundled model."
        )


def weight_names(names: Iterable[str]) -> list[str]:
    """Which files of a model's folder hold its weights as safetensors: one file, or its numbered shards, sorted.

    Where there is an index, that decides, whatever the shards are called.
    """
    names = set(names)
    if "model.safetensors" in names:
        return ["model.safetensors"]
    return sorted(name for name in names if re.fullmatch(r"model-\d+-of-\d+\.safetensors", name))


def check_weight_names(names: Iterable[str], shown: str) -> None:
    """Refuse a listing without safetensors.

    Raises:
        InputError: there are no safetensors; says so if there is a pickle, and how to convert it.
    """
    names = sorted(names)
    whole = bool(weight_names(names)) or INDEX in names
    if CONFIG in names:
        # transformers would load the model that the adapter names instead, wherever that is.
        both = f"holds an adapter beside its weights: move {CONFIG} and what belongs to it elsewhere"
        alone = "is an adapter and no whole model: merge it into its base and give the result"
        raise InputError(f"{shown} {both if whole else alone}.")
    if whole:
        return
    pickle = next((name for name in names if re.search(r"^pytorch_model.*\.bin$|\.(pt|pth|ckpt|pkl)$", name)), None)
    if pickle:
        raise InputError(
            f"{shown} keeps its weights only as a pickle ({pickle}), which can run any code when it is opened, so it "
            "is refused: load it with transformers where you trust it and write it again with "
            "model.save_pretrained(folder), which makes safetensors, then give that folder."
        )
    raise InputError(f"{shown} has no weights to load: looked for model.safetensors or its shards and found none.")


def find_weights(folder: Path, shown: str) -> list[Path]:
    """The safetensors files of the model, sorted; each has a whole header and all the bytes it promises."""
    names = [entry.name for entry in folder.iterdir()]
    check_weight_names(names, shown)
    wanted = weight_names(names)
    if "model.safetensors" not in wanted:
        wanted = read_index(folder / INDEX, shown)
    for name in wanted:
        try:
            with safe_open(folder / name, framework="pt"):
                pass
        except FileNotFoundError as error:
            raise InputError(f"{shown} is not whole: {name} is missing; get the model again.") from error
        except (SafetensorError, OSError) as error:
            raise InputError(
                f"{shown} has a broken weights file, {name} ({first_line(error)}): get the file again."
            ) from error
    return [folder / name for name in wanted]


def read_index(index: Path, shown: str) -> list[str]:
    """The shards that the index of a large model names, sorted."""
    try:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        wrong = [name for name in shards if not isinstance(name, str) or not SHARD.fullmatch(name)]
        if wrong or not shards:
            raise ValueError(f"it names {str(wrong[0])[:80]}" if wrong else "it names no file")
        return sorted(shards)
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise InputError(
            f"{shown} is in shards and has no usable model.safetensors.index.json ({first_line(error)}): get the file "
            "again."
        ) from error


def hash_weights(files: Sequence[Path]) -> str:
    """`sha256:…` over the files' bytes and names, the same in whichever folder they lie."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        digests = pool.map(hash_file, files)
        summary = "".join(f"{found} {file.name}\n" for file, found in zip(files, digests, strict=True))
    return "sha256:" + hashlib.sha256(summary.encode()).hexdigest()
