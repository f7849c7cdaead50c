"""What methods are held against: each is made of a study, or says in a sentence why it cannot be."""

import json
from dataclasses import replace

import pytest
import torch

from detox_engine.edit.change import Adapter, Instruction, Penalty
from detox_engine.errors import InputError
from detox_engine.forward.compare import generate
from detox_engine.forward.likelihood import Span, read_likelihoods
from detox_engine.lab import contestants
from detox_engine.lab.baseline import Setup
from detox_engine.lab.baselines import baselines, list_contestants, make_baseline
from detox_engine.lab.baselines.banned_words import BannedWordsOptions, find_same_words
from detox_engine.lab.bench import list_bench, record_bench, run_bench
from detox_engine.lab.contestants import Draw, make_from_draw
from detox_engine.lab.curves import (
    choose_methods,
    list_centring,
    list_settings,
    load_curve,
    measure_curve,
    record_curve,
)
from detox_engine.lab.effort import estimate_bench, estimate_curve, estimate_link, measured
from detox_engine.lab.equal_cost import match_costs
from detox_engine.lab.kept import keep_record, load_record
from detox_engine.model.load import OpenModel
from detox_engine.model.tokens import show_token
from detox_engine.plans.choice import Choice
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.lab.experiments import BenchPlan, CentringPlan, LabelNoisePlan, LinkPlan, SampleSizePlan
from detox_engine.plans.lab.training import TrainingPlan
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.study.subspace import principal_angles
from detox_engine.workbench import Workbench
from tests.models import SENTENCES
from tests.planted import open_planted, planted_pairs, write_pairs

TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
BRIEF = TrainingPlan(learning_rates=(3e-3,), steps=6, lora_rank=2)


@pytest.fixture(scope="module")
def model() -> OpenModel:
    return open_planted()


@pytest.fixture(scope="module")
def study(model, tmp_path_factory):
    spec = write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.jsonl", planted_pairs(40))
    return Workbench(model).fit(FitPlan(spec, keep=4))


def setup(model, study, **changed) -> Setup:
    return Setup(model, study, EditPlan((0, 1), 2), study.pairs, training=BRIEF, **changed)


def make(name, model, study, **changed):
    return make_baseline(Choice(name), setup(model, study, **changed))


def test_banned_words_are_those_of_the_pole_in_every_spelling_and_are_never_written(model, study):
    made = make("banned-words", model, study)
    assert isinstance(made.change, Penalty) and made.facts["tokens"] == len(made.change.tokens)
    words = {show_token(model.tokenizer, token).strip("· ").lower() for token in made.change.tokens}
    assert find_same_words(model.tokenizer, made.change.tokens) == made.change.tokens
    others = set(range(len(model.tokenizer))) - set(made.change.tokens)
    assert not words & {show_token(model.tokenizer, token).strip("· ").lower() for token in others}
    plan = SamplingPlan(max_new_tokens=12, samples=2)
    free, held = (
        {token for row in generate(model, SENTENCES, [change], plan) for sample in row for token in sample[0].ids}
        for change in (None, made.change.at_strength(baselines()["banned-words"].shown_at))
    )
    assert free & set(made.change.tokens) and not held & set(made.change.tokens)


def test_prompt_only_puts_its_instruction_where_the_models_own_text_begins(model, study, monkeypatch):
    with pytest.raises(InputError, match="no chat template.*leave prompt-only out"):
        make("prompt-only", model, study)
    monkeypatch.setattr(model.tokenizer, "chat_template", TEMPLATE)
    made = make("prompt-only", model, study)
    assert isinstance(made.change, Instruction)
    told = model.tokenizer.decode(made.change.prefix)
    assert "never insult anybody" in told and told.endswith("<assistant>") and "TEXT" not in told
    monkeypatch.setattr(model.tokenizer, "chat_template", "{{ raise_exception('no system') }}")
    with pytest.raises(InputError, match="takes no instruction"):
        make("prompt-only", model, study)
    monkeypatch.setattr(model.tokenizer, "chat_template", "nothing")
    with pytest.raises(InputError, match="leaves out what the model itself says"):
        make("prompt-only", model, study)


def test_as_published_is_a_fit_that_keeps_sinks(model, study):
    made = make("as-published", model, study)
    kept = Workbench(model).fit(replace(study.plan, sinks="keep"))
    for layer in (0, 1):
        own, asked = made.change.bases[layer], kept.subspaces[layer].basis[:2]
        assert float(principal_angles(own, asked).max()) < 0.01


@pytest.mark.parametrize("cost", ["kl", "perplexity"])
def test_whatever_can_be_done_by_halves_is_matched_within_five_percent(model, study, cost):
    changes = [make(name, model, study).change for name in ("banned-words", "as-published", "dpo")]
    spans = [Span(tuple(model.tokenizer(text)["input_ids"]), 6) for text in SENTENCES]
    before = read_likelihoods(model, spans, [None, *changes]).divergence.sum(1)[1:]
    assert before.max() > 1.5 * before.min()
    found = match_costs(model, spans, [*changes, Instruction((9, 10))], cost, 0.004)
    level = [each.kl if cost == "kl" else each.perplexity - 1 for each in found]
    for each, own in zip(found, level, strict=True):
        assert each.reached == (own == pytest.approx(0.004, rel=0.05))
    assert found[-1].strength == 1.0, "an instruction is given or not"
    assert cost == "perplexity" or all(each.reached for each in found[:3]), "a tiny model's perplexity may fall"


def test_a_bench_holds_all_that_can_be_made_and_says_what_cannot(model, study, measure, tmp_path):
    plan = BenchPlan(level=0.004, layers=(1,), rank=1, training=BRIEF, evaluation=measure)
    found = run_bench(model, study, plan, tmp_path / "lab")
    told = json.loads(json.dumps(record_bench(found)))
    assert set(told["methods"]) | set(told["left_out"]) == set(list_contestants())
    assert set(told["left_out"]) == {"prompt-only"}
    assert [each["cost"] for each in (told, *told["also"])] == ["kl", "perplexity"]
    assert set(told["as_made"]) == {"banned-words", "dpo"} and told["as_made"]["dpo"]["cost"]["strength"] == 1
    assert told["facts"]["dpo"]["runs"][0]["held_out"] and told["methods"]["dpo"]["edit"] is None
    assert all(row["seconds"] > 0 and row["memory"] >= 0 for row in told["methods"].values())
    assert told["methods"]["leace"]["edit"]["method"] == "leace"
    rows = list_bench(told)
    assert [row["at"] for row in rows].count("as made") == 2 and {row["method"] for row in rows} == set(told["methods"])
    assert rows[0]["mass_after_mean"] == told["methods"]["detox"]["scorers"]["mass"]["after"]["mean"]
    keep_record(tmp_path, "bench", record_bench(found))
    assert load_record(tmp_path, "bench") == told
    assert len(list((tmp_path / "lab").glob("dpo-*.safetensors"))) == 2


def test_a_record_of_nonsense_is_none(tmp_path):
    assert load_record(tmp_path, "bench") is None
    (tmp_path / "lab").mkdir()
    for content in ("no json", "[1]", '{"model": 1}'):
        (tmp_path / "lab" / "bench.json").write_text(content)
        assert load_record(tmp_path, "bench") is None


def test_a_bench_needs_directions_to_draw_random_ones_like(model, study, measure, monkeypatch):
    plan = BenchPlan(methods=(Choice("banned-words"),), evaluation=measure)
    with pytest.raises(InputError, match="needs a method that finds directions"):
        run_bench(model, study, plan)
    # It is said before anything is trained.
    monkeypatch.setattr("detox_engine.lab.dpo.train_or_load", lambda *given, **named: pytest.fail("it was trained"))
    with pytest.raises(InputError, match="needs a method that finds directions"):
        run_bench(model, study, replace(plan, methods=(Choice("dpo"),)))
    with pytest.raises(InputError, match="There is no method “magic”"):
        run_bench(model, study, replace(plan, methods=(Choice("magic"),)))


def test_a_curve_makes_a_baseline_with_the_options_that_it_was_asked_for_with(model, study, measure, tmp_path):
    file = tmp_path / "lab.jsonl"
    strengths = []
    for words in (1, 30):
        chosen = Choice("banned-words", BannedWordsOptions(words))
        plan = LabelNoisePlan(methods=(chosen,), flipped=(), layers=(1,), level=0.004, evaluation=measure)
        (point,) = measure_curve(model, study, plan, list_settings(study, plan), file)
        strengths.append(point.strength)
    assert len(load_curve(file)) == 2 and strengths[0] > 1.2 * strengths[1], "more words cost more"


def test_flipped_pairs_are_what_is_trained_on_and_robust_dpo_is_told_their_share(model, study, monkeypatch):
    draw = Draw.of(study, 20, 0.25, 3)
    flipped = draw.pairs(study)
    assert sum(pair.toxic != study.pairs[row].toxic for pair, row in zip(flipped, draw.rows.tolist(), strict=True)) == 5
    toxic, _ = draw.embeddings(study)
    assert torch.equal(toxic[0, ~draw.flips], study.embeddings.toxic[0, draw.rows[~draw.flips]])
    seen = []

    def train(model, pairs, plan, robust=None, folder=None, progress=None):
        seen.append((list(pairs), plan.learning_rates, robust))
        best = type("Run", (), {"learning_rate": 0.123})
        return type("Training", (), {"best": best, "adapter": Adapter({})})

    monkeypatch.setattr("detox_engine.lab.dpo.train_or_load", train)
    monkeypatch.setattr("detox_engine.lab.dpo.record_training", lambda training: {})
    plan = LabelNoisePlan(training=replace(BRIEF, learning_rates=(0.1, 0.2)))
    make_from_draw(model, study, plan, Choice("robust-dpo"), draw)
    assert seen[-1] == (flipped, (0.123,), 0.25)
    make_from_draw(model, study, plan, Choice("dpo"), draw)
    assert seen[-1] == (flipped, (0.123,), None)
    make_from_draw(model, study, plan, Choice("dpo"), Draw.of(study, 40, 0.0, 3))
    assert seen[-1][1] == (0.1, 0.2), "on all pairs every rate is tried"
    make_from_draw(model, study, plan, Choice("robust-dpo"), Draw.of(study, 40, 0.6, 3))
    assert seen[-1][2] == 0.45


def test_centring_is_tried_at_every_rank_as_the_paper_edits_and_at_one_cost(model, study, measure):
    plan = CentringPlan(ranks=(1, 2, 99), layers=(1,), level=0.004, evaluation=measure)
    settings = list_centring(study, plan)
    assert [(each.method, each.rank, each.matched) for each in settings[:4]] == [
        ("detox", 1, False),
        ("detox", 1, True),
        ("uncentred", 1, False),
        ("uncentred", 1, True),
    ]
    assert {each.rank for each in settings} == {1, 2, 4}
    points = measure_curve(model, study, plan, settings[:4])
    assert points[0].strength == points[2].strength == 1.0 and points[1].kl == pytest.approx(0.004, rel=0.05)
    assert points[0].kl != points[2].kl
    told = record_curve(points, model, study, plan)
    assert [point["rank"] for point in told["points"]] == [1, 1, 1, 1]


def test_without_trl_the_claims_are_about_what_is_left(monkeypatch):
    assert [choice.name for choice in choose_methods(LabelNoisePlan())][-2:] == ["dpo", "robust-dpo"]
    monkeypatch.setattr(contestants, "find_spec", lambda name: None)
    assert [choice.name for choice in choose_methods(SampleSizePlan())] == ["detox", "mean-difference"]


def test_more_to_do_is_estimated_to_take_longer(study):
    few, many = (BenchPlan(methods=tuple(map(Choice, names))) for names in (("detox",), ("detox", "dpo")))
    assert 0 < estimate_bench(study, few) < estimate_bench(study, many)
    plan = CentringPlan()
    settings = list_centring(study, plan)
    assert 0 < estimate_curve(study, plan, settings[:2]) < estimate_curve(study, plan, settings)
    assert estimate_link(study, LinkPlan(at_steps=(0,))) < estimate_link(study, LinkPlan(at_steps=(10,)))
    assert estimate_link(replace(study, seconds={}), LinkPlan()) == 0


def test_memory_that_is_held_meanwhile_is_counted():
    with measured() as spent:
        held = torch.ones(30_000_000)
        del held
    with measured() as nothing:
        pass
    assert spent.memory > 60e6 + nothing.memory and spent.seconds > 0
