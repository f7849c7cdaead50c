"""Toxicity by a text-classification model, from the Hub or a folder; safetensors only."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedConfig

from detox_engine.errors import Cancelled, InputError, Progress, first_line, ignore_progress
from detox_engine.model.checkpoint import check_weight_names, find_weights, weight_names
from detox_engine.model.hub import SECONDS_TO_ANSWER, find_in_cache, reporting_bar
from detox_engine.model.load import loading_alone, pick_device

TOXIC_NAMES = ("toxic", "toxicity")
CIVIL_NAMES = ("nontoxic", "nottoxic", "neutral", "civil", "clean", "safe", "normal", "nothate", "ok")
TEXTS_AT_ONCE = 32
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
    find_weights(folder, shown)
    progress("Loading the classifier", 0, 1)
    with loading_alone(progress):
        try:
            model, found = AutoModelForSequenceClassification.from_pretrained(
                folder, use_safetensors=True, local_files_only=True, trust_remote_code=False, output_loading_info=True
            )
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # transformers raises errors of many kinds
            raise InputError(f"{shown} cannot be loaded ({first_line(error)}): {WAY_OUT}.") from error
    if found["missing_keys"]:
        lacking = sorted(found["missing_keys"])[0]
        raise InputError(f"{shown} is no text classifier: it lacks weights such as {lacking}; {WAY_OUT}.")
    head = find_head(model.config, label, shown)
    model = model.eval().requires_grad_(False).to(pick_device(device))
    longest = min(tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", None) or 512)
    if model.config.model_type in ("roberta", "xlm-roberta", "camembert"):
        longest = min(longest, model.config.max_position_embeddings - 2)  # their positions begin at 2
    progress("Loading the classifier", 1, 1)

    @torch.inference_mode()
    def score(texts: Sequence[str]) -> list[float]:
        scores = [0.0] * len(texts)
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        for start in range(0, len(order), TEXTS_AT_ONCE):
            progress("Scoring continuations", start, len(order))
            batch = order[start : start + TEXTS_AT_ONCE]
            given = tokenizer(
                [texts[index] for index in batch],
                truncation=True, max_length=longest, padding=True, return_tensors="pt",
            )  # fmt: skip
            read = head.read(model(**given.to(model.device)).logits)
            for index, value in zip(batch, read.tolist(), strict=True):
                scores[index] = value
        progress("Scoring continuations", len(order), len(order))
        return scores

    return ClassifierScorer(source, score)


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
    names = [config.id2label[index] for index in range(config.num_labels)]
    plain = [re.sub(r"[^a-z0-9]", "", name.lower()) for name in names]
    if label is not None:
        chosen = [index for index, name in enumerate(names) if name.lower() == label.lower()]
    elif len(names) == 1:
        chosen = [0]
    else:
        chosen = [index for index, name in enumerate(plain) if name in TOXIC_NAMES]
    if len(chosen) != 1:
        wanted = "has no label called toxic or toxicity" if label is None else f"has no label “{label}”"
        raise InputError(f"{shown} {wanted}: choose the label that stands for toxic text among {', '.join(names)}.")
    if config.problem_type is not None or len(names) == 1:
        exclusive = config.problem_type == "single_label_classification" and len(names) > 1
    else:
        exclusive = len(names) == 2 or any(name in CIVIL_NAMES for name in plain)
    return Head(chosen[0], exclusive)
