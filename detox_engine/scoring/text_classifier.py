"""Toxicity by a text-classification model, from the Hub or a folder; safetensors only."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import huggingface_hub
import torch
from torch import Tensor
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from detox_engine.errors import Cancelled, InputError, Progress, first_line, ignore_progress
from detox_engine.model.checkpoint import check_weight_names, find_weights, read_any_config, weight_names
from detox_engine.model.hub import SECONDS_TO_ANSWER, find_in_cache, reporting_bar
from detox_engine.model.load import loading_alone, pick_device

TOXIC_NAMES = ("toxic", "toxicity")
CIVIL_NAMES = ("nontoxic", "nottoxic", "neutral", "civil", "clean", "safe", "normal", "nothate", "ok")
TEXTS_AT_ONCE = 32
LISTED = 12
"""Labels that a sentence names; some classifiers have hundreds."""
TRIED = ("Thank you for waiting.", "What an idiot, he parked across two places and walked away!")
WAY_OUT = "score with profanity instead, or name another text-classification model or a folder"


@dataclass(frozen=True)
class Head:
    """Which of a classifier's outputs means toxic, and how its numbers become probabilities."""

    label: int
    exclusive: bool
    """True: the labels exclude each other (softmax); False: each stands for itself (sigmoid)."""

    def read(self, logits: Tensor) -> Tensor:
        """Probabilities `[texts]` from `[texts, labels]`."""
        wide = logits.float()
        return (wide.softmax(-1) if self.exclusive else wide.sigmoid())[:, self.label]


class ClassifierScorer:
    """Probability that a text is toxic, by a text-classification model."""

    name = "classifier"

    def __init__(self, source: str, score: Callable[[Sequence[str]], list[float]]) -> None:
        self.source, self._score = source, score
        self.sentence = f"Probability that a text is toxic, by {source}."

    def score(self, texts: Sequence[str]) -> list[float]:
        """One probability for each text; texts longer than the classifier can read are cut at their end."""
        return self._score(texts)


def load_classifier(
    source: str, label: str | None = None, device: str = "auto", progress: Progress = ignore_progress
) -> ClassifierScorer:
    """The classifier that `source` names, a folder or a Hub id.

    Raises:
        InputError: it cannot be found, is a pickle, is no text classifier, or has no label that is known to mean
            toxic and none was chosen.
    """
    shown = f"The classifier “{source}”"
    folder = find_classifier(source, shown, progress)
    config = read_any_config(folder, shown)
    find_weights(folder, shown)
    progress("Loading the classifier", 0, 1)
    with loading_alone(progress):
        try:
            model, found = AutoModelForSequenceClassification.from_pretrained(
                folder,
                config=config,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are named below
            )
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except BaseException as error:  # transformers raises errors of many kinds, and tokenizers of Rust panic
            if isinstance(error, KeyboardInterrupt | SystemExit | Cancelled):
                raise
            raise InputError(f"{shown} cannot be loaded ({first_line(error)}): {WAY_OUT}.") from error
    lacking = sorted(found["missing_keys"]) + sorted(key for key, *_ in found["mismatched_keys"])
    if lacking:
        raise InputError(f"{shown} is no text classifier: it lacks weights such as {lacking[0]}; {WAY_OUT}.")
    head = find_head(config, label, shown)
    model = model.eval().requires_grad_(False).to(pick_device(device))
    at_once = settle_padding(model, tokenizer)
    longest = min(tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", None) or 512)
    if model.config.model_type in ("roberta", "xlm-roberta", "camembert"):
        longest = min(longest, model.config.max_position_embeddings - 2)  # their positions begin at 2

    @torch.inference_mode()
    def score(texts: Sequence[str]) -> list[float]:
        scores = [0.0] * len(texts)
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        for start in range(0, len(order), at_once):
            progress("Scoring continuations", start, len(order))
            batch = order[start : start + at_once]
            given = tokenizer(
                [texts[index] for index in batch],
                truncation=True, max_length=longest, padding=at_once > 1, return_tensors="pt",
            )  # fmt: skip
            read = head.read(model(**given.to(model.device)).logits)
            for index, value in zip(batch, read.tolist(), strict=True):
                scores[index] = value
        progress("Scoring continuations", len(order), len(order))
        return scores

    check_scores(score, shown)
    progress("Loading the classifier", 1, 1)
    return ClassifierScorer(source, score)


def settle_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """How many texts the classifier reads at once: one where neither it nor its tokenizer has a token to pad with.

    A decoder finds a text's last token by the padding behind it, and is told which that is.
    """
    text = model.config.get_text_config()
    if tokenizer.pad_token_id is None:
        return 1
    if tokenizer.pad_token_id >= model.get_input_embeddings().weight.shape[0]:
        return 1
    if text.pad_token_id is None:
        text.pad_token_id = model.config.pad_token_id = tokenizer.pad_token_id
    return TEXTS_AT_ONCE


def check_scores(score: Callable[[Sequence[str]], list[float]], shown: str) -> None:
    """Refuse a classifier that cannot read two texts of different length, or whose scores are no numbers."""
    try:
        scores = score(TRIED)
    except Cancelled:
        raise
    except Exception as error:  # whatever a family's own code raises
        raise InputError(f"{shown} cannot read a text ({first_line(error)}): {WAY_OUT}.") from error
    if not all(map(isfinite, scores)):
        raise InputError(f"{shown} gives no numbers: get its weights again, or {WAY_OUT}.")


def find_classifier(source: str, shown: str, progress: Progress) -> Path:
    """The folder with the classifier's files, downloaded where `source` is a Hub id."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise InputError(f"{shown} is no model: looked for config.json and found none; {WAY_OUT}.")
        return folder
    if folder.is_absolute() or source.startswith((".", "~")) or source.count("/") > 1:
        raise InputError(f"There is no folder “{source}”: check the path of the classifier.")
    try:
        listing = huggingface_hub.model_info(source, timeout=SECONDS_TO_ANSWER)
        names = [file.rfilename for file in listing.siblings or () if "/" not in file.rfilename]
        check_weight_names(names, shown)
        small = [name for name in names if name.endswith((".json", ".txt", ".model"))]
        return Path(
            huggingface_hub.snapshot_download(
                source, allow_patterns=small + weight_names(names), tqdm_class=reporting_bar(progress)
            )
        )
    except (Cancelled, InputError):
        raise
    except Exception as error:  # every way in which a network or a name fails
        try:
            return find_in_cache(source, None, error)
        except Exception:  # the sentence of a language model would point the wrong way
            raise InputError(f"{shown} could not be fetched from the Hub ({first_line(error)}): {WAY_OUT}.") from error


def find_head(config: PreTrainedConfig, label: str | None, shown: str) -> Head:
    """How to read the classifier's outputs; follows the library's text-classification pipeline.

    `problem_type` says whether labels exclude each other. Where it is not set, one label stands for itself, two or
    more exclude each other if a civil one is among them, and otherwise each stands for itself (“toxic, obscene,
    insult” has no label for plain text).

    Raises:
        InputError: no label or several are called toxic or toxicity, and none was chosen.
    """
    names = [str(config.id2label.get(index, f"LABEL_{index}")) for index in range(config.num_labels)]
    if config.problem_type == "regression":
        raise InputError(
            f"{shown} gives a number without a scale (a regression), not the probability that a text is toxic: "
            f"{WAY_OUT}."
        )
    plain = [re.sub(r"[^a-z0-9]", "", name.lower()) for name in names]
    if label is not None:
        chosen = [index for index, name in enumerate(names) if name.lower() == label.lower()]
    elif len(names) == 1:
        chosen = [0]
    else:
        chosen = [index for index, name in enumerate(plain) if name in TOXIC_NAMES]
    if len(chosen) != 1:
        wanted = "has no label called toxic or toxicity" if label is None else f"has no label “{label}”"
        listed = ", ".join(name[:60] for name in names[:LISTED])
        more = f" and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
        raise InputError(f"{shown} {wanted}: choose the label that stands for toxic text among {listed}{more}.")
    if config.problem_type is not None or len(names) == 1:
        exclusive = config.problem_type == "single_label_classification" and len(names) > 1
    else:
        exclusive = len(names) == 2 or any(name in CIVIL_NAMES for name in plain)
    return Head(chosen[0], exclusive)
