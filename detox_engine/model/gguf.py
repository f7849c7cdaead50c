"""A GGUF file, as llama.cpp writes them -> its configuration, weights and tokenizer, read by transformers' own loader.

The file comes from anyone and lies anywhere: what it says is checked before transformers goes by it, and nothing that
lies beside it is looked at.
"""

import copy
import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any

import gguf
import numpy as np
import transformers
from tokenizers import Regex, Tokenizer, pre_tokenizers
from transformers import (
    AutoConfig,
    GgufConfig,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    modeling_gguf_pytorch_utils,
)
from transformers.integrations.gguf import GgufHeader, convert_gguf_tokenizer, get_gguf_tokenizer, read_gguf_metadata
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX as QWEN2

from detox_engine.disk import hash_file, scratch_folder
from detox_engine.errors import InputError, Progress, first_line
from detox_engine.model.checkpoint import check_causal

GET_AGAIN = "get the file again"
WAYS_OUT = "use another file, or a folder that holds the model as safetensors"
BLOOM = r" ?[^(\s|.,!?…。，、।۔،)]+"


def _digits_then_words() -> pre_tokenizers.PreTokenizer:
    """Every digit on its own, then GPT-2's pieces of what is between them: two spaces before a digit stay together."""
    digits = pre_tokenizers.Digits(individual_digits=True)
    return pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])


def _pieces(pattern: str) -> pre_tokenizers.PreTokenizer:
    """What matches `pattern`, and what is between."""
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


DIGITS_FIRST = ("smollm", "starcoder", "refact", "codeshell", "command-r", "exaone", "minerva-7b")
PRE_TOKENIZERS: Mapping[str, Callable[[], pre_tokenizers.PreTokenizer]] = {
    **dict.fromkeys(DIGITS_FIRST, _digits_then_words),
    "stablelm2": lambda: _pieces(QWEN2),
    **dict.fromkeys(("bloom", "poro-chat", "gpt3-finnish"), lambda: _pieces(BLOOM)),
}
"""How a byte-level tokenizer cuts a text before it merges bytes, by `tokenizer.ggml.pre`, as llama.cpp does it
(`src/llama-vocab.cpp`); those that transformers leaves to GPT-2's rule though they have one of their own."""

LONGEST_LIST = 1024
"""A longer one in a header is a vocabulary's: others hold a number for each layer."""

_REPLACING = Lock()
"""Held while parts of other libraries are replaced."""

LLAMA_3_POSITIONS = {
    "rope_type": "llama3",
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
LLAMA_3 = ("llama-bpe", "llama3", "llama-v3")
"""Files of these begin a text with its first token, and take a word that is a token as it is, without merging."""


@dataclass(frozen=True)
class GgufFile:
    """A GGUF file whose header is sound, of an architecture that transformers knows as a causal language model."""

    file: Path
    shown: str
    """What it is called in a sentence, with its architecture and quantisation."""
    config: PreTrainedConfig
    pre_tokenizer: str | None
    """`tokenizer.ggml.pre` where it has a byte-level tokenizer."""

    def hash_weights(self) -> str:
        """`sha256:…` over the file's bytes, whatever its name."""
        return f"sha256:{hash_file(self.file)}"

    @contextmanager
    def reading(self, progress: Progress) -> Iterator[dict[str, Any]]:
        """What `from_pretrained` is told so that it dequantises the weights tensor by tensor, which is reported.

        Of what transformers uses here some is replaced meanwhile: the bar that it draws; the reader, see
        `ReaderWithoutLists`; and the table of tensors' names, which it makes anew for every module of the model.
        """
        with (
            # Files beside the model's would be taken for its own: an adapter, a configuration.
            scratch_folder() as empty,
            _REPLACING,
            replaced(modeling_gguf_pytorch_utils, "tqdm", reporting_bar(progress)),
            replaced(gguf, "GGUFReader", ReaderWithoutLists),
            replaced(gguf, "get_tensor_name_map", cache(gguf.get_tensor_name_map)),
        ):
            yield {
                "pretrained_model_name_or_path": str(empty),
                "gguf_file": str(self.file),
                "quantization_config": GgufConfig(dequantize=True),
            }

    def read_tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer inside the file, which cuts texts as the model's own does."""
        try:
            architecture, vocabulary, settings = get_gguf_tokenizer(str(self.file))
            backend, _ = convert_gguf_tokenizer(architecture, vocabulary)
            cut_as_named(backend, self.pre_tokenizer)
            if self.pre_tokenizer in LLAMA_3:
                settings.setdefault("add_bos_token", True)
            # Of no family's class: such a one cuts as the family does when it is read from a folder again.
            return PreTrainedTokenizerFast(tokenizer_object=backend, **settings)
        except Exception as error:  # the file's lists can hold anything: KeyError, IndexError, ValueError, TypeError, …
            raise InputError(
                f"{self.shown} has a tokenizer that could not be loaded ({first_line(error)}): {WAYS_OUT}."
            ) from error


def cut_as_named(tokenizer: Tokenizer, name: str | None) -> None:
    """Let a byte-level tokenizer cut texts as `tokenizer.ggml.pre` names it, where transformers does not see to it."""
    if name in PRE_TOKENIZERS:
        tokenizer.pre_tokenizer = PRE_TOKENIZERS[name]()
    if name in LLAMA_3:
        tokenizer.model.ignore_merges = True


class ReaderWithoutLists(gguf.GGUFReader):
    """Does not read a header's long lists: those of the vocabulary, which the tokenizer is made of elsewhere.

    An entry at a time they are most of what transformers waits for with a small model: 3 s for SmolLM2, twice. Of the
    tokens it wants to know how many there are, so these are all empty.
    """

    def _get_field_parts(self, orig_offs: int, raw_type: int) -> tuple[int, list, list[int], list]:
        if raw_type == gguf.GGUFValueType.ARRAY:
            kind, count = struct.unpack_from("<IQ", self.data, orig_offs)
            if count > LONGEST_LIST and self.byte_order == "I":
                end = skip_list(self.data, orig_offs + 12, kind, count)
                types = [gguf.GGUFValueType.ARRAY, gguf.GGUFValueType(kind)]
                return end - orig_offs, [np.array([count]), np.array([], np.uint8)], [], types
        return super()._get_field_parts(orig_offs, raw_type)

    def _push_field(self, field: gguf.ReaderField, skip_sum: bool = False) -> int:
        if field.name == "tokenizer.ggml.tokens" and not field.parts[-1].size:
            field = field._replace(data=[len(field.parts) - 1] * int(field.parts[-2][0]))
        return super()._push_field(field, skip_sum)


def skip_list(data: np.ndarray, start: int, kind: int, count: int) -> int:
    """Where a list of `count` entries of `kind` ends that begins at byte `start`."""
    number = gguf.GGUFReader.gguf_scalar_to_np.get(gguf.GGUFValueType(kind))
    if number is not None:
        return start + count * np.dtype(number).itemsize
    for _ in range(count):  # texts, each behind its length
        start += 8 + struct.unpack_from("<Q", data, start)[0]
    return start


@contextmanager
def replaced(module: ModuleType, name: str, stand_in: Any) -> Iterator[None]:
    """`stand_in` is what `module` calls `name`, for a while."""
    own = getattr(module, name)
    setattr(module, name, stand_in)
    try:
        yield
    finally:
        setattr(module, name, own)


def reporting_bar(progress: Progress) -> Callable[..., Iterator]:
    """Stands in for a progress bar over the tensors of a file: draws nothing, and reports each to `progress`."""

    def report(tensors: Sequence, **_: Any) -> Iterator:
        for done, tensor in enumerate(tensors):
            progress("Loading the model", done, len(tensors))
            yield tensor

    return report


def open_gguf(file: Path, shown: str) -> GgufFile:
    """Check a file by its header, before any weight is read.

    Raises:
        InputError: it is no GGUF, is broken, a part of several, no whole model, has no tokenizer, or is of an
            architecture that transformers cannot read or that does not continue texts.
    """
    file = file.absolute()
    metadata, names, shown = read_header(file, shown)
    if str(metadata.get("general.type")) == "adapter":
        raise InputError(f"{shown} is an adapter and no whole model: merge it into its base model and give the result.")
    if "tokenizer.ggml.tokens" not in metadata:
        raise InputError(f"{shown} has no tokenizer inside: {WAYS_OUT}.")
    config = read_config(file, shown)
    mark_ends(config, metadata)
    if "rope_freqs.weight" in names:
        scale_positions(config, file, shown)
    byte_level = metadata.get("tokenizer.ggml.model") == "gpt2"
    return GgufFile(file, shown, config, str(metadata.get("tokenizer.ggml.pre")) if byte_level else None)


def read_header(file: Path, shown: str) -> tuple[dict[str, Any], tuple[str, ...], str]:
    """The metadata of a file that is whole, lists of texts as their lengths, the names of its tensors, and what to call
    it from now on.

    transformers' reader stops at the end of the file, however long a list in it claims to be; the gguf library's,
    which transformers uses later on, does not.
    """
    try:
        with file.open("rb") as stream:
            magic = stream.read(4)
    except OSError as error:
        raise InputError(f"{shown} cannot be read ({error.strerror}): check the file.") from error
    if magic != b"GGUF":
        raise InputError(
            f"{shown} is a file that is no GGUF: give the folder that holds the model, or a GGUF file of llama.cpp."
        )
    try:
        metadata, names = read_gguf_metadata(str(file))
    except Exception as error:  # whatever lengths that are wrong lead to: struct.error, UnicodeDecodeError, …
        check_undivided(file, {}, shown)
        raise InputError(f"{shown} has a broken header ({first_line(error)}): {GET_AGAIN}.") from error
    try:
        header = GgufHeader.from_file(str(file))
    except Exception:  # a quantisation that this one of transformers' two readers does not know
        header = None
    shown = f"{shown} (architecture {plain_word(metadata['general.architecture'])}, {name_format(metadata, header)})"
    check_undivided(file, metadata, shown)
    if header is not None:
        promised = max((header.data_start + part.offset + part.nbytes for part in header.tensors), default=0)
        if promised > file.stat().st_size:
            raise InputError(f"{shown} ends before its weights do: {GET_AGAIN}.")
    return metadata, names, shown


def name_format(metadata: Mapping[str, Any], header: GgufHeader | None) -> str:
    """How the weights are stored, such as `weights in Q4_K_M`: as the file says, or as most of them are."""
    try:
        most = gguf.LlamaFileType(metadata.get("general.file_type")).name
        return f"weights in {most.removeprefix('MOSTLY_').removeprefix('ALL_')}"
    except ValueError:
        if header is None or not header.tensors:
            return "weights in an unnamed format"
        largest = max(header.tensors, key=lambda part: part.nbytes)
        return f"weights in {gguf.GGMLQuantizationType(largest.ggml_type).name}"


def check_undivided(file: Path, metadata: Mapping[str, Any], shown: str) -> None:
    """Refuse one part of a model that was split over several files."""
    named = re.search(r"-\d{5}-of-(\d{5})\.gguf$", file.name)
    parts = int(named[1]) if named else metadata.get("split.count", 1)
    if isinstance(parts, int) and parts > 1:
        raise InputError(
            f"{shown} is one part of a model in {parts} files: join them with llama.cpp’s "
            "`llama-gguf-split --merge` and give the whole."
        )


def read_config(file: Path, shown: str) -> PreTrainedConfig:
    """The configuration that transformers makes of the file's metadata."""
    try:
        with _REPLACING, replaced(gguf, "GGUFReader", ReaderWithoutLists):
            config = AutoConfig.from_pretrained(
                file.parent, gguf_file=str(file), local_files_only=True, trust_remote_code=False
            )
    except Exception as error:  # a file can state anything; an architecture that is not known is a ValueError
        raise InputError(
            f"{shown} cannot be read by transformers {transformers.__version__} ({first_line(error)}): {WAYS_OUT}."
        ) from error
    check_causal(config, shown)
    return config


def mark_ends(config: PreTrainedConfig, metadata: Mapping[str, Any]) -> None:
    """Give the configuration the file's own tokens that begin and end a text, which transformers leaves as they are
    in the family's first model."""
    begin, *ends = (metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos", "eot"))
    ends = [end for end in dict.fromkeys(ends) if isinstance(end, int)]
    config.bos_token_id = begin if isinstance(begin, int) else None
    if not isinstance(config.eos_token_id, list):  # which transformers made on purpose
        config.eos_token_id = ends if len(ends) > 1 else next(iter(ends), None)


def scale_positions(config: PreTrainedConfig, file: Path, shown: str) -> None:
    """Let rotary positions turn as slowly as in Llama 3.1 and later, which the file holds as numbers that each
    frequency is divided by, and transformers' loader leaves out.

    Raises:
        InputError: the numbers are not those of Llama 3.
    """
    divisors = next(tensor.data for tensor in ReaderWithoutLists(file).tensors if tensor.name == "rope_freqs.weight")
    scaled = copy.deepcopy(config)
    scaled.rope_parameters = {**config.rope_parameters, **LLAMA_3_POSITIONS, "factor": float(np.max(divisors))}
    plain = config.rope_parameters["rope_theta"] ** -np.linspace(0, 1, len(divisors), endpoint=False)
    slow, _ = ROPE_INIT_FUNCTIONS["llama3"](scaled)
    if len(slow) == len(plain) and np.allclose(plain / slow.numpy(), divisors, rtol=1e-3):
        config.rope_parameters = scaled.rope_parameters
    elif not np.allclose(divisors, 1):
        raise InputError(f"{shown} scales its rotary positions in a way that is not known here: {WAYS_OUT}.")


def plain_word(value: Any) -> str:
    """A name out of a file within a sentence: short, and on one line."""
    return re.sub(r"[^\w.+-]", "?", str(value))[:40]
