import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from detox_engine.data.table import Row, Table
from detox_engine.data.texts import read_any_prompts, read_text
from detox_engine.disk import write_json
from detox_engine.edit.control import draw_controls
from detox_engine.edit.low_rank import LowRankEdit
from detox_engine.edit.proof import hash_parameters
from detox_engine.errors import Cancelled, InputError
from detox_engine.forward.compare import Continuation
from detox_engine.forward.likelihood import cut_spans
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.evaluation import EvaluationPlan
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.plans.sources import PairSpec, TextSpec
from detox_engine.scoring import trial
from detox_engine.scoring.evaluation import Evaluation, describe_matches, evaluate, make_controls, prepare
from detox_engine.scoring.records import record_evaluation
from detox_engine.scoring.results import Pieces
from detox_engine.scoring.scorers.profanity import ProfanityScorer
from detox_engine.scoring.toxicity import describe_empty, toxicity_scorers
from detox_engine.scoring.trial import Trial
from detox_engine.study.study import Study
from detox_engine.workbench import Workbench
from tests.models import CONTEXT, HIDDEN, SENTENCES, open_tiny

EDIT = EditPlan((1, 2), 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Pairs, prompts and neutral text."""
    folder = tmp_path_factory.mktemp("evaluate")
    rude = ("an idiot", "a moron", "pathetic", "crap", "dumb")
    pairs = [
        {"prompt": text, "toxic": f" You are {rude[row % 5]}, as ever.", "civil": " We can mend it together."}
        for row, text in enumerate(SENTENCES)
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
    (folder / "prompts.txt").write_text("The train is\nShe explained\nThis printer\nWhat a\n", encoding="utf-8")
    (folder / "neutral.txt").write_text("\n\n".join(SENTENCES[:6]) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def bench() -> Workbench:
    return Workbench(open_tiny("gpt2"))


@pytest.fixture(scope="module")
def study(bench: Workbench, folder: Path) -> Study:
    return bench.fit(FitPlan(PairSpec(str(folder / "pairs.jsonl")), keep=4))


@pytest.fixture(scope="module")
def plan(folder: Path) -> EvaluationPlan:
    return EvaluationPlan(
        prompts=str(folder / "prompts.txt"),
        neutral=TextSpec(str(folder / "neutral.txt")),
        sampling=SamplingPlan(max_new_tokens=30, samples=2),
        resamples=200,
    )


@pytest.fixture(scope="module")
def evaluation(bench: Workbench, study: Study, plan: EvaluationPlan) -> Evaluation:
    return evaluate(bench.model, study, EDIT, plan)


def test_every_scorer_has_before_after_and_control_with_intervals(evaluation: Evaluation):
    names = [score.name for score in evaluation.scores]
    assert names[:4] == ["profanity", "profanity_above_half", "profanity_expected_maximum", "profanity_probability"]
    assert {"perplexity", "drift", "fluency", "distinct_2", "harmless_drift", "groups_perplexity"} < set(names)
    for score in evaluation.scores:
        for estimate in (score.effect.before, score.effect.after, *(each.level for each in score.effect.controls)):
            assert estimate.low <= estimate.mean <= estimate.high and estimate.n > 0, score.name
            assert score.range[0] <= estimate.mean <= score.range[1]
        assert [(each.kind, len(each.draws)) for each in score.effect.controls] == [("plain", 3), ("matched", 3)]
    drift = evaluation["drift"].effect
    assert (drift.before.mean, drift.before.high) == (0, 0) and drift.after.low > 0
    assert evaluation["profanity"].effect.before.n == 4 and evaluation["perplexity"].effect.before.n == 6


def test_numbers_are_those_of_each_side_by_itself(bench: Workbench, study: Study, plan, evaluation: Evaluation):
    comparisons = bench.compare(study, EDIT, read_any_prompts(plan.prompts, Path(), None), plan.sampling)
    for side in ("before", "after"):
        toxicity = np.mean([getattr(comparison, f"toxicity_{side}") for comparison in comparisons])
        assert getattr(evaluation["profanity"].effect, side).mean == pytest.approx(toxicity)
    shown = [comparison for outcome in evaluation.prompts for comparison in outcome.comparisons]
    assert [(each.before.text, each.after.text) for each in shown] == [
        (each.before.text, each.after.text) for each in comparisons
    ]


def test_the_same_plan_gives_the_same_digits(bench: Workbench, study: Study, plan, evaluation: Evaluation):
    again = evaluate(bench.model, study, EDIT, plan)
    assert again.scores == evaluation.scores and again.sources == evaluation.sources


def test_prompts_fall_into_four_fates(evaluation: Evaluation):
    outcome = evaluation.prompts[0]
    fates = {
        (0.8, 0.2): "better", (0.2, 0.5): "worse", (0.5, 0.9): "stayed bad", (0.4, 0.1): "stayed fine"
    }  # fmt: skip
    for (before, after), fate in fates.items():
        assert replace(outcome, before=before, after=after).fate == fate
    assert [len(outcome.comparisons) for outcome in evaluation.prompts] == [2, 2, 2, 2]
    assert outcome.before == np.mean([comparison.toxicity_before for comparison in outcome.comparisons])


def test_proof_shows_what_changed_and_that_it_was_undone(bench: Workbench, evaluation: Evaluation):
    proof = evaluation.proof
    assert proof.before == proof.undone != proof.edited
    assert [change.layer for change in proof.changes] == [1, 2]
    for change in proof.changes:
        assert 0 < change.change < 1 and change.along_after < 1e-6 < change.along_before
    assert hash_parameters(bench.model.network) == proof.before


def test_hash_sees_one_bit_of_one_parameter(bench: Workbench):
    parameter = bench.model.network.transformer.h[0].ln_1.bias
    first, kept = hash_parameters(bench.model.network), parameter.clone()
    try:
        parameter[3] = torch.nextafter(parameter[3], torch.tensor(9.0))
        assert hash_parameters(bench.model.network) != first
    finally:
        parameter.copy_(kept)
    assert hash_parameters(bench.model.network) == first


def test_controls_are_random_subspaces_of_the_same_shape(bench: Workbench, study: Study):
    edit = bench.edit(study, EditPlan((0, 2), 3, 0.5))
    first, second = draw_controls(edit, 2, 7)
    for control in (first, second):
        assert control.layers == edit.layers and control.strength == 0.5
        for basis in control.bases.values():
            assert basis.shape == (3, HIDDEN)
            assert torch.allclose(basis @ basis.T, torch.eye(3), atol=1e-6)
    assert not torch.allclose(first.bases[0], second.bases[0], atol=0.1)
    assert not torch.allclose(first.bases[0], first.bases[2], atol=0.1)
    assert torch.equal(draw_controls(edit, 1, 7)[0].bases[2], first.bases[2])
    lower = draw_controls(bench.edit(study, EditPlan((0,), 2)), 1, 7)[0]
    assert torch.allclose(lower.bases[0], first.bases[0][:2], atol=1e-6)


def test_controls_keep_off_dimensions_and_have_the_edits_sites():
    edit = LowRankEdit({0: torch.eye(HIDDEN)[:3], 2: torch.eye(HIDDEN)[:2]}, 0.5, edit_bias=True, sites="both")
    off = (4, 0, 31)
    first, second = draw_controls(edit, 2, 7, off)
    for control in (first, second):
        assert (control.strength, control.edit_bias, control.sites) == (0.5, True, "both")
        for layer, basis in control.bases.items():
            assert basis.shape == edit.bases[layer].shape and not basis[:, list(off)].any()
            assert torch.allclose(basis @ basis.T, torch.eye(len(basis)), atol=1e-6)
            assert basis.abs().max() < 0.9 and (basis != 0).any(0).sum() == HIDDEN - len(off)
    assert not torch.allclose(first.bases[0], second.bases[0], atol=0.1)
    assert draw_controls(edit, 1, 7)[0].bases[0][:, list(off)].all()
    with pytest.raises(InputError, match=f"lie off {HIDDEN - 1} of {HIDDEN} dimensions"):
        draw_controls(edit, 1, 0, range(HIDDEN - 1))


def test_a_matched_control_moves_neutral_text_as_far_as_the_edit(evaluation: Evaluation):
    drift, (plain, matched) = evaluation["drift"].effect, evaluation["drift"].effect.controls
    assert len(evaluation.matches) == len(matched.draws) == 3
    for match in evaluation.matches:
        assert match.reached and match.wanted == pytest.approx(drift.after.mean, rel=1e-4)
    assert matched.draws == pytest.approx([drift.after.mean] * 3, rel=0.02)
    assert max(abs(draw / drift.after.mean - 1) for draw in plain.draws) > 0.15


def test_a_matched_control_keeps_off_the_massive_dimensions_of_the_study(bench: Workbench, study: Study, plan):
    massive = replace(study.sinks, dimensions=(3, 7))
    reading = replace(plan, scorers=("drift",), control="both")
    edit = bench.edit(study, EDIT)
    materials = prepare(bench.model, reading)
    drawn, matches = make_controls(bench.model, replace(study, sinks=massive), edit, reading, materials)
    assert len(drawn) == 6 and len(matches) == 3
    for place, control in enumerate(drawn):
        for basis in control.bases.values():
            assert basis[:, [3, 7]].any() == (place < 3)
    found = evaluate(bench.model, replace(study, sinks=massive), EDIT, reading)
    assert found.off == (3, 7) and "random subspaces off 2 massive dimensions" in describe_matches(found)


def test_a_control_can_be_plain_matched_or_both(bench: Workbench, study: Study, plan, evaluation: Evaluation):
    for kind in ("plain", "matched"):
        found = evaluate(bench.model, study, EDIT, replace(plan, scorers=("drift",), control=kind))
        (control,) = found["drift"].effect.controls
        assert control.kind == kind and bool(found.matches) is (kind == "matched")
        both = next(each for each in evaluation["drift"].effect.controls if each.kind == kind)
        assert control.draws == pytest.approx(both.draws, rel=1e-4)
        assert found.items["drift"][found.rows_of(kind)].shape == (3, 6)
    with pytest.raises(InputError, match="plain, matched or both, not “none”"):
        EvaluationPlan(control="none")


def test_control_directions_have_no_place_of_their_own():
    # Over many draws the mean projection of a uniform rank-1 subspace is 1 / hidden in every direction.
    edit = LowRankEdit({0: torch.eye(HIDDEN)[:1]})
    mean = torch.stack([control.bases[0][0].square() for control in draw_controls(edit, 2000, 0)]).mean(0)
    assert torch.allclose(mean, torch.full((HIDDEN,), 1 / HIDDEN), atol=0.005)


def test_lines_are_read_one_by_one_and_running_text_in_windows(bench: Workbench, folder: Path):
    source = str(folder / "neutral.txt")
    lines = read_text(TextSpec(source), folder)
    assert not lines.running and lines.lines == SENTENCES[:6]
    assert len(cut_spans(bench.model, lines, 1024, 512)) == 6
    running = read_text(TextSpec(source, layout="text"), folder)
    ids = bench.model.tokenizer((folder / "neutral.txt").read_text().rstrip("\n"))["input_ids"]
    spans = cut_spans(bench.model, running, 1024, 512)
    assert sum(span.scored for span in spans) == len(ids) - 1
    assert max(len(span.ids) for span in spans) == CONTEXT
    assert read_text(TextSpec(source, limit=2), folder).lines == SENTENCES[:2]


def test_neutral_text_comes_from_the_column_of_a_table(folder: Path, tmp_path: Path):
    table = tmp_path / "table.jsonl"
    table.write_text('{"body": "One sentence."}\n{"body": "Another one."}\n', encoding="utf-8")
    assert read_text(TextSpec(str(table), column="body"), folder).lines == ("One sentence.", "Another one.")


def test_hub_text_is_one_running_text_and_hub_prompts_are_the_challenging_ones(monkeypatch, tmp_path: Path):
    asked = []

    def open_table(source, subset=None, split="train"):
        asked.append((source, subset, split))
        cells = (
            [{"text": ""}, {"text": " = Title = \n"}, {"text": "Some words.\n"}]
            if "wiki" in source
            else [
                {"prompt": {"text": "So he said"}, "challenging": True},
                {"prompt": {"text": "A walk"}, "challenging": False},
                {"prompt": {"text": "You are"}, "challenging": True},
            ]
        )
        rows = [Row(number, entry) for number, entry in enumerate(cells, start=1)]
        return Table(source, tuple(cells[0]), "row", 3, lambda needed: iter(rows))

    monkeypatch.setattr("detox_engine.data.texts.open_table", open_table)
    text = read_text(TextSpec("Salesforce/wikitext", "wikitext-2-raw-v1"), tmp_path)
    assert text.running and text.joint.join(text.lines) == "\n\n = Title = \n\n\nSome words.\n"
    assert read_any_prompts("allenai/real-toxicity-prompts", tmp_path, None) == ("So he said", "You are")
    assert asked == [
        ("Salesforce/wikitext", "wikitext-2-raw-v1", "test"), ("allenai/real-toxicity-prompts", None, "train")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"controls": 0}, "beside its control"),
        ({"resamples": 10}, "100 resamples"),
        ({"limit_prompts": 0}, "1 prompt"),
    ],
)
def test_plans_out_of_range_get_one_sentence(settings: dict, says: str):
    with pytest.raises(InputError, match=says):
        EvaluationPlan(**settings)


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"layout": "pages"}, "auto, lines or text"), ({"window": 1}, "2 tokens"), ({"stride": 0}, "stride"),
     ({"limit": 0}, "1 line")],
)  # fmt: skip
def test_texts_out_of_range_get_one_sentence(settings: dict, says: str):
    with pytest.raises(InputError, match=says):
        TextSpec(**settings)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("nowhere.txt", None, "nowhere.txt"),
        ("empty.txt", b"\n \n", "holds no text"),
        ("latin.txt", b"caf\xe9 au lait\n", "line 1"),
        ("other.jsonl", b'{"body": "x"}\n', "column of"),
        ("number.jsonl", b'{"text": "fine"}\n{"text": 3}\n', "line 2"),
    ],
)
def test_unusable_neutral_text_names_file_and_line(tmp_path: Path, name: str, content: bytes | None, says: str):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=says) as refused:
        read_text(TextSpec(str(tmp_path / name)), tmp_path)
    assert name in str(refused.value) and str(refused.value).count(". ") == 0


def test_text_without_two_tokens_is_refused(bench: Workbench, tmp_path: Path):
    (tmp_path / "short.txt").write_text("e\n", encoding="utf-8")
    with pytest.raises(InputError, match="two tokens"):
        cut_spans(bench.model, read_text(TextSpec(str(tmp_path / "short.txt")), tmp_path), 64, 32)


def test_edit_that_changes_nothing_is_refused_before_anything_is_measured(bench, study, plan, monkeypatch):
    monkeypatch.setattr("detox_engine.scoring.evaluation.Trial", lambda *_: pytest.fail("something was measured"))
    with pytest.raises(InputError, match="changes nothing"):
        evaluate(bench.model, study, EditPlan((1,), 1, 0.0), plan)


def test_evaluation_without_writing_needs_no_prompts(bench: Workbench, study: Study, plan: EvaluationPlan):
    reading = replace(plan, scorers=("perplexity",), prompts="/nowhere/prompts.txt")
    found = evaluate(bench.model, study, EDIT, reading)
    assert found.prompts == () and list(found.items) == ["perplexity"] and found.items["perplexity"].shape == (8, 6)
    with pytest.raises(InputError, match="prompts.txt"):
        prepare(bench.model, replace(plan, prompts="/nowhere/prompts.txt"))


def test_stopped_evaluation_leaves_the_model_as_it_was(bench: Workbench, study: Study, plan: EvaluationPlan):
    first = hash_parameters(bench.model.network)
    hooks = [len(module._forward_hooks) for module in bench.model.network.modules()]
    stages = []

    def stop(stage: str, done: int, total: int) -> None:
        stages.append(stage)
        if stage == "Reading neutral text" and done:
            raise Cancelled

    with pytest.raises(Cancelled):
        evaluate(bench.model, study, EDIT, plan, stop)
    assert "continuations" in stages and hash_parameters(bench.model.network) == first
    assert [len(module._forward_hooks) for module in bench.model.network.modules()] == hooks


def test_an_evaluation_that_is_stopped_goes_on(bench, study, plan, evaluation, tmp_path, monkeypatch):
    """Stopped at every kind of work, it has at last made each piece once, and is what it would have been."""
    monkeypatch.setattr("detox_engine.scoring.trial.ROWS_AT_ONCE", 16)  # a prompt at a time
    monkeypatch.setattr("detox_engine.scoring.trial.TOKENS_AT_ONCE", 1)  # a span at a time
    # Not suppression, which reads the hundreds of spans of its bundled probes in the same way.
    plan = replace(plan, scorers=tuple(choice for choice in plan.scorers if choice.name != "suppression"))
    written, generate = [], trial.generate

    def note(model, prompts, *more):
        written.extend(prompts)
        return generate(model, prompts, *more)

    monkeypatch.setattr(trial, "generate", note)
    stops, steps = [("continuations", 2), ("Reading neutral text", 4), ("Reading continuations", 1)], []

    def stop(stage: str, done: int, total: int) -> None:
        steps.append((stage, done, total))
        if stops and stage == stops[0][0] and done >= stops[0][1]:
            del stops[0]
            raise Cancelled

    while stops:
        with pytest.raises(Cancelled):
            evaluate(bench.model, study, EDIT, plan, stop, None, tmp_path)
    assert list(tmp_path.rglob("*.json"))
    found = evaluate(bench.model, study, EDIT, plan, stop, None, tmp_path)
    prompts = read_any_prompts(plan.prompts, Path(), None)
    # The one that was being written when it was stopped is begun anew.
    assert sorted(written) == sorted((*prompts, prompts[1]))
    assert {(stage, total) for stage, _, total in steps if stage in ("continuations", "Reading neutral text")} == {
        ("continuations", 4), ("Reading neutral text", 6)
    }  # fmt: skip
    assert len(found.scores) > 6
    for score in found.scores:
        whole = evaluation[score.name]
        assert score.effect.after.mean == pytest.approx(whole.effect.after.mean, rel=1e-4), score.name
        assert score.effect.difference.high == pytest.approx(whole.effect.difference.high, rel=1e-3, abs=1e-6)
    for one, other in zip(found.prompts, evaluation.prompts, strict=True):
        assert [each.texts for each in one.comparisons] == [each.texts for each in other.comparisons]
    assert not list(tmp_path.rglob("*.json")), "what is whole needs no pieces"


def test_pieces_of_another_question_or_that_are_broken_are_made_anew(bench, study, plan, tmp_path):
    reading = replace(plan, scorers=("perplexity",), control="plain", controls=1)

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "Reading neutral text" and done:
            raise Cancelled

    for edit in (EDIT, replace(EDIT, strength=0.5)):
        with pytest.raises(Cancelled):
            evaluate(bench.model, study, edit, reading, stop, None, tmp_path)
    kept = Pieces(tmp_path / "here")
    assert kept.find_or_make("one", tuple[float, ...], lambda: (1.0, math.inf)) == (1.0, math.inf)
    assert kept.find_or_make("one", tuple[float, ...], lambda: (2.0,)) == (1.0, math.inf)
    (tmp_path / "here" / "one.json").write_text('["idle"]')
    assert kept.find_or_make("one", tuple[float, ...], lambda: (2.0,)) == (2.0,)
    full = Pieces(tmp_path / "here" / "one.json")
    assert full.find_or_make("two", int, lambda: 3) == 3, "a disk that takes nothing costs only the going on"


class OnlyRude:
    """Whether a text holds a word; fails where it is given nothing to read."""

    name, sentence = "rude", "Whether it is rude."

    def score(self, texts):
        assert all(text.strip() for text in texts)
        return [float("idiot" in text) for text in texts]


def say(text: str) -> Continuation:
    return Continuation(text, (text,), (1,), (0.5,))


def trial_of(*prompts) -> Trial:
    """A trial in which these were written: for each prompt its samples, each before and after."""
    trial = Trial(open_tiny("gpt2"), (None, None), ["a"] * len(prompts), SamplingPlan(samples=len(prompts[0])), {})
    trial.continuations = [[[say(text) for text in sample] for sample in prompt] for prompt in prompts]
    return trial


def test_empty_continuations_are_left_out_of_toxicity():
    trial = trial_of(
        [("an idiot", ""), ("fine", "fine")],
        [("an idiot", " "), ("an idiot", "")],
        [("fine", "an idiot"), ("", "fine")],
    )
    measured = {each.name: each.measure(trial) for each in toxicity_scorers(OnlyRude(), 2)}
    assert measured["rude"].totals.tolist() == [[0.5, 1.0, 0.0], [0.0, 0.0, 0.5]]
    assert measured["rude"].counts.tolist() == [[1, 1, 1], [1, 0, 1]]
    assert measured["rude_expected_maximum"].totals.tolist() == [[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    assert measured["rude_probability"].counts.tolist() == [[1, 1, 1], [1, 0, 1]]
    assert measured["rude"].scores.tolist() == [0.5, 0.25]


def test_empty_continuations_are_counted_and_said(bench, study, plan, monkeypatch):
    from detox_engine.scoring import trial

    generate = trial.generate

    def silent(model, prompts, edits, *more):
        """Everything after the edit is empty, and one continuation before it."""
        written = generate(model, prompts, edits, *more)
        return [
            [[say("") if edit == 1 or place == 0 else side for edit, side in enumerate(sample)] for sample in prompt]
            for place, prompt in enumerate(written)
        ]

    monkeypatch.setattr(trial, "generate", silent)
    found = evaluate(bench.model, study, EDIT, replace(plan, scorers=("profanity",), limit_prompts=4))
    assert found.empty == {"before": 2, "after": 8, "of": 8}
    assert found["profanity"].effect.before.n == 3 and np.isnan(found["profanity"].effect.after.mean)
    assert np.isnan(found.prompts[1].after) and found.prompts[1].before >= 0
    civil = replace(found.prompts[1], before=0.0, after=0.9)
    assert (civil.fate, found.prompts[1].fate) == ("worse", "stayed fine")
    assert describe_empty(**found.empty).startswith("2 of 8 continuations before the edit and 8 after it are empty")
    assert describe_empty(0, 0, 8) == ""
    told = record_evaluation(found)
    assert told["empty"] == found.empty and json.loads(write_json(told))["prompts"][1]["toxicity_after"] is None


def test_a_prompt_that_no_continuation_is_toxic_after_has_a_toxicity_of_nothing(bench, study, plan, monkeypatch):
    monkeypatch.setattr(ProfanityScorer, "score", lambda self, texts: [0.0] * len(texts))
    found = evaluate(bench.model, study, EDIT, replace(plan, scorers=("profanity",)))
    assert {(outcome.before, outcome.after) for outcome in found.prompts} == {(0.0, 0.0)}
