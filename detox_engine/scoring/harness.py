"""A trial's edits as models that lm-evaluation-harness can ask; needs the optional package lm-eval."""

import logging
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from lm_eval.api.model import TemplateLM
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager

from detox_engine.errors import InputError
from detox_engine.forward.compare import generate
from detox_engine.forward.likelihood import Likelihoods, Span, read_likelihoods
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.scoring.trial import Trial

LONGEST_ANSWER = 256
"""Tokens of an answer where the task does not say; the harness's own default."""


class EditedModel(TemplateLM):
    """The model under one edit of a trial, `edit`.

    The harness asks the same of every edit, so what it asks is computed for all of them in the same passes, when
    the first edit is asked.
    """

    def __init__(self, trial: Trial) -> None:
        super().__init__()
        self.trial = trial
        self.edit = 0
        self.tokenizer = trial.model.tokenizer
        self._read: dict[tuple[Span, ...], Likelihoods] = {}
        self._written: dict[tuple[str, int], tuple[str, ...]] = {}

    @property
    def eot_token_id(self) -> int:
        return self.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:
        start = self.tokenizer.bos_token_id
        return self.eot_token_id if start is None else start

    @property
    def tokenizer_name(self) -> str:
        return self.trial.model.spec.name

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **settings: Any) -> list[int]:
        options = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        return self.tokenizer(string, verbose=False, **options)["input_ids"]

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **settings: Any
    ) -> list[tuple[float, bool]]:
        context = self.trial.model.context
        spans = tuple(
            Span(ids, min(len(asked), len(ids) - 1))
            for _, given, asked in requests
            for ids in [tuple(given + asked)[-context if context else 0 :]]
        )
        if spans not in self._read:
            trial = self.trial
            self._read[spans] = read_likelihoods(trial.model, spans, trial.edits, trial.progress, "Answering questions")
        read = self._read[spans]
        return list(zip((-read.surprise[self.edit]).tolist(), read.greedy[self.edit].tolist(), strict=True))

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Greedy text after each prompt, up to the first of the task's stops."""
        asked = [(prompt, _length(settings), _stops(settings)) for prompt, settings in (each.args for each in requests)]
        for length in sorted({length for _, length, _ in asked}):
            self._write([prompt for prompt, wanted, _ in asked if wanted == length], length)
        answers = []
        for prompt, length, stops in asked:
            text = self._written[prompt, length][self.edit]
            for stop in stops:
                text = text.split(stop)[0]
            answers.append(text)
        return answers

    def _write(self, prompts: Sequence[str], length: int) -> None:
        trial, plan = self.trial, SamplingPlan(max_new_tokens=length, greedy=True)
        new = [prompt for prompt in dict.fromkeys(prompts) if (prompt, length) not in self._written]
        if new:
            written = generate(trial.model, new, trial.edits, plan, trial.progress)
            for prompt, samples in zip(new, written, strict=True):
                self._written[prompt, length] = tuple(side.text for side in samples[0])

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        raise InputError("Tasks that measure perplexity are not supported here: use the perplexity scorer.")


def _length(settings: dict[str, Any]) -> int:
    if settings.get("do_sample") and settings.get("temperature", 1) > 0:
        raise InputError("Tasks that draw their answers at random are not supported: choose another task.")
    return settings.get("max_gen_toks", LONGEST_ANSWER)


def _stops(settings: dict[str, Any]) -> list[str]:
    stops = settings.get("until") or []
    return [stop for stop in ([stops] if isinstance(stops, str) else stops) if stop]


def load_task(name: str) -> dict[str, Any]:
    """The task called `name`, or of the task file `name`, with its documents.

    Raises:
        InputError: there is no such task, or its documents cannot be fetched.
    """
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    own = name.endswith((".yaml", ".yml"))
    if own and not Path(name).is_file():
        raise InputError(f"There is no task file {name}: check its name and folder.")
    try:
        loaded = (TaskManager(include_defaults=False) if own else _own_tasks()).load([name])
    except Exception as error:  # the harness and the data sets library raise errors of many kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"The task “{name}” cannot be loaded ({reason}): check its name with “lm_eval ls tasks”, and the network."
        ) from error
    for task in loaded["tasks"].values():
        task.set_config(key="num_fewshot", value=0)
    return loaded


@cache
def _own_tasks() -> TaskManager:
    """The harness's own thousands of tasks: seconds to read, and the same for each."""
    return TaskManager()


def run_task(task: dict[str, Any], trial: Trial, limit: int | None) -> Iterator[list[dict[str, Any]]]:
    """For each edit of the trial the harness's record of every document, in the documents' order."""
    model = EditedModel(trial)
    for edit in range(len(trial.edits)):
        model.edit = edit
        results = evaluate(lm=model, task_dict=task, limit=limit, bootstrap_iters=0, log_samples=True)
        yield [
            sample
            for name in sorted(results["samples"])
            for sample in sorted(results["samples"][name], key=lambda sample: sample["doc_id"])
        ]
