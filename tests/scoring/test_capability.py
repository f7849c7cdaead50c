"""The capability scorer on a small local task; data sets of the Hub's tasks are not needed."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from detox_engine.edit.control import draw_controls
from detox_engine.edit.in_weights import edited_weights
from detox_engine.edit.low_rank import LowRankEdit
from detox_engine.errors import InputError
from detox_engine.plans.choice import Choice
from detox_engine.plans.evaluation import EvaluationPlan
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.scoring.scorers import make_scorers
from detox_engine.scoring.scorers.capability import TASKS, Capability, CapabilityOptions
from detox_engine.scoring.trial import Trial
from tests.models import HIDDEN, SENTENCES, open_tiny

needs_harness = pytest.mark.skipif(
    find_spec("lm_eval") is None,
    reason="lm-eval IS NOT INSTALLED, SO THE CAPABILITY SCORER IS NOT TESTED: pip install -e '.[capability]'",
)
CHOICES = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{gold}}}}"
doc_to_choice: "{{{{choices}}}}"
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""
ANSWERS = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs:
  until: ["{stop}"]
  max_gen_toks: 4
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
"""


@pytest.fixture
def trial() -> Trial:
    model = open_tiny("gpt2")
    edits = draw_controls(LowRankEdit({0: torch.eye(HIDDEN)[:4], 1: torch.eye(HIDDEN)[:4]}), 2, 0)
    return Trial(model, (None, *edits), (), SamplingPlan(), {})


def questions() -> list[dict]:
    """Halves of sentences, with the ends of two sentences to choose from."""
    halves = [(text[: len(text) // 2].rstrip(), text[len(text) // 2 :].strip()) for text in SENTENCES]
    return [
        {"question": start, "choices": [end, halves[row - 1][1]], "gold": row % 2, "answer": end}
        for row, (start, end) in enumerate(halves)
    ]


def write_task(folder: Path, template: str, documents: list[dict], stop: str = "zzz") -> str:
    data = folder / "documents.jsonl"
    data.write_text("".join(json.dumps(document) + "\n" for document in documents), encoding="utf-8")
    task = folder / "halves.yaml"
    task.write_text(template.format(name="halves", data=data, stop=stop), encoding="utf-8")
    return str(task)


@needs_harness
def test_accuracy_equals_choosing_by_hand_under_every_edit(trial: Trial, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    model, tokenizer = trial.model.network, trial.model.tokenizer

    def surprise(question: str, choice: str) -> float:
        given, ids = (tokenizer(text)["input_ids"] for text in (question, f"{question} {choice}"))
        with torch.no_grad():
            logs = model(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
        return -sum(logs[place - 1, ids[place]].item() for place in range(len(given), len(ids)))

    def right() -> list[float]:
        return [
            float(np.argmin([surprise(entry["question"], choice) for choice in entry["choices"]]) == entry["gold"])
            for entry in questions()
        ]

    by_hand = [right()]
    for edit in trial.edits[1:]:
        with edited_weights(trial.model.anatomy, edit):
            by_hand.append(right())
    tally = Capability(write_task(tmp_path, CHOICES, questions())).measure(trial)
    assert tally.totals.tolist() == by_hand and (tally.counts == 1).all()
    assert len({tuple(row) for row in by_hand}) > 1


@needs_harness
def test_limit_takes_the_first_documents(trial: Trial, tmp_path: Path):
    assert Capability(write_task(tmp_path, CHOICES, questions()), limit=3).measure(trial).totals.shape == (3, 3)


@needs_harness
def test_written_answers_end_at_the_stop(trial: Trial, tmp_path: Path):
    from detox_engine.forward.compare import generate

    plan = SamplingPlan(max_new_tokens=4, greedy=True)
    prompts = [entry["question"] for entry in questions()]
    written = generate(trial.model, prompts, trial.edits, plan)
    stop = written[0][0][0].text[-1]
    documents = [
        {"question": prompt, "answer": samples[0][0].text.split(stop)[0]}
        for prompt, samples in zip(prompts, written, strict=True)
    ]
    tally = Capability(write_task(tmp_path, ANSWERS, documents, stop)).measure(trial)
    assert tally.totals[0].tolist() == [1.0] * len(prompts)
    expected = [
        float(samples[0][1].text.split(stop)[0] == document["answer"])
        for document, samples in zip(documents, written, strict=True)
    ]
    assert tally.totals[1].tolist() == expected


@needs_harness
def test_unknown_and_unsuitable_tasks_get_one_sentence(trial: Trial, tmp_path: Path, monkeypatch):
    from detox_engine.scoring import harness

    # The index of the harness's own tasks takes many seconds to read, and has no such task either.
    monkeypatch.setattr(harness, "_own_tasks", lambda: harness.TaskManager(include_defaults=False))
    for task, says in (("no_such_task_at_all", "no_such_task_at_all"), (str(tmp_path / "no.yaml"), "no task file")):
        with pytest.raises(InputError, match=says) as refused:
            Capability(task).measure(trial)
        assert "\n" not in str(refused.value)


def test_missing_harness_is_told_before_anything_is_measured(monkeypatch):
    monkeypatch.setattr("detox_engine.scoring.scorers.capability.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'detox-explorer\[capability\]'"):
        make_scorers(EvaluationPlan(scorers=("capability",)))


def test_each_task_is_a_scorer_with_a_name(monkeypatch):
    monkeypatch.setattr("detox_engine.scoring.scorers.capability.require_harness", lambda: None)
    plan = EvaluationPlan(scorers=(Choice("capability", CapabilityOptions((*TASKS, "tasks/own.yaml"), 5, True)),))
    names = [scorer.name for scorer in make_scorers(plan)]
    assert names == [f"capability_{task}" for task in TASKS] + ["capability_own"]


def test_a_task_file_is_let_in_by_a_person_alone(trial, tmp_path):
    """It can run Python of whoever wrote it."""
    task = write_task(tmp_path, CHOICES, questions())

    def make(**more: bool):
        options = CapabilityOptions((task,), **more)
        return make_scorers(EvaluationPlan(scorers=(Choice("capability", options),)))

    with pytest.raises(InputError, match="can run Python.*--task-files"):
        make()
    assert len(make(task_files=True)) == 1
