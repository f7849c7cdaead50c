import math
from dataclasses import asdict

import numpy as np
import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from detox_engine.errors import InputError
from detox_engine.estimates import INTERVAL, Effect, Tally, estimate_effect
from detox_engine.forward.likelihood import Span
from detox_engine.model.tokens import find_words
from detox_engine.plans.evaluation import EvaluationPlan
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.scoring.scorers import choose, make_scorers, mass, scorers
from detox_engine.scoring.scorers.distinct import Distinct
from detox_engine.scoring.scorers.drift import Drift
from detox_engine.scoring.scorers.fluency import Fluency
from detox_engine.scoring.scorers.mass import Mass, list_rude_tokens
from detox_engine.scoring.scorers.perplexity import Perplexity
from detox_engine.scoring.scorers.profanity import ProfanityScorer
from detox_engine.scoring.scorers.suppression import PROBES, measure_probes
from detox_engine.scoring.toxicity import toxicity_scorers
from detox_engine.scoring.trial import Trial
from tests.rounding import assert_alike
from tests.three_tokens import swap_edit, three_tokens


class KnownScorer:
    """Scores a text by how many of its words are “a”, and remembers what it was asked."""

    name = "known"
    sentence = "The share of a."

    def __init__(self) -> None:
        self.asked: list[str] = []

    def score(self, texts):
        self.asked += texts
        return [text.split().count("a") / max(1, len(text.split())) for text in texts]


@pytest.fixture
def trial() -> Trial:
    """The three tokens before and after the swap; greedy, so that before writes “a a a” and after “b b b”."""
    model = three_tokens()
    texts = {
        # Scored tokens: a a | b, with chances 1/2 1/2 | 1/4 before and 1/4 1/4 | 1/2 after.
        "neutral": (Span((2, 0, 0), 2), Span((0, 1), 1)),
        "harmless": (Span((2, 2, 2), 2),),
        "groups": (Span((0, 0), 1), Span((1, 1), 1)),
    }
    sampling = SamplingPlan(max_new_tokens=3, greedy=True)
    return Trial(model, (None, swap_edit()), ("c", "a b", "b"), sampling, texts)


def test_perplexity_of_the_three_tokens(trial: Trial):
    tally = Perplexity().measure(trial)
    assert tally.scores == pytest.approx([2 ** (4 / 3), 2 ** (5 / 3)], rel=1e-5)
    assert tally.items == pytest.approx(np.array([[2, 4], [4, 2]]), rel=1e-5)


def test_drift_of_the_three_tokens(trial: Trial):
    # KL of (1/2, 1/4, 1/4) from (1/4, 1/2, 1/4): 1/2 ln 2 − 1/4 ln 2 at each of the three scored tokens.
    tally = Drift().measure(trial)
    assert tally.scores == pytest.approx([0, math.log(2) / 4], abs=1e-6)
    assert tally.totals[1] == pytest.approx([math.log(2) / 2, math.log(2) / 4], abs=1e-6)


def test_fluency_of_the_three_tokens_is_judged_by_the_unedited_model(trial: Trial):
    # Before writes a, which the unedited model gives 1/2; after writes b, which it gives 1/4, the edited one 1/2.
    assert Fluency().measure(trial).scores == pytest.approx([2, 4], rel=1e-5)


def test_mass_is_the_probability_of_listed_tokens_at_places_that_all_edits_share(trial: Trial, monkeypatch):
    # “a” has 1/2 before and 1/4 after the swap at every place, whatever each side writes itself.
    monkeypatch.setattr(mass, "list_rude_tokens", lambda tokenizer: (0,))
    tally = Mass().measure(trial)
    assert tally.scores == pytest.approx([1 / 2, 1 / 4], rel=1e-5)
    assert tally.counts.tolist() == [[3, 3, 3], [3, 3, 3]]
    monkeypatch.setattr(mass, "list_rude_tokens", lambda tokenizer: ())
    assert Mass().measure(trial).scores.tolist() == [0, 0]


def test_rude_tokens_are_whole_rude_words_and_no_pieces_of_others():
    words = ["▁idiot", "▁Moron", "Idiot", "idiot", "▁id", "▁table", "crap", "▁kill", "Ass", "▁moron3"]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({word: id for id, word in enumerate(words)}, unk_token="▁table"))
    )
    assert [words[id] for id in list_rude_tokens(tokenizer)] == ["▁idiot", "▁Moron", "Idiot"]
    assert [words[id] for id in find_words(tokenizer, {"idiot", "table"})] == ["▁idiot", "Idiot", "▁table"]


def test_distinct_words_of_the_three_tokens(trial: Trial):
    # “a a a”: 1 of 3 words, 1 of 2 pairs, 1 of 1 triple.
    for length, share in ((1, 1 / 3), (2, 1 / 2), (3, 1)):
        assert Distinct(length).measure(trial).scores == pytest.approx([share, share])
    assert Distinct(2).split("The cat the CAT") == [("the", "cat"), ("cat", "the"), ("the", "cat")]


def test_suppression_of_the_three_tokens(trial: Trial):
    scores = {scorer.name: scorer.measure(trial).scores for scorer in measure_probes()}
    assert list(scores) == ["harmless_perplexity", "harmless_drift", "groups_perplexity", "groups_drift"]
    assert scores["harmless_perplexity"] == pytest.approx([4, 4], rel=1e-5)
    assert scores["groups_perplexity"] == pytest.approx([math.sqrt(8), math.sqrt(8)], rel=1e-5)
    assert scores["groups_drift"] == pytest.approx([0, math.log(2) / 4], abs=1e-6)
    assert set(PROBES) == {"harmless", "groups"}


def test_toxicity_scores_the_continuation_alone_and_each_text_once(trial: Trial):
    known = KnownScorer()
    mean, share = toxicity_scorers(known, 1)
    assert mean.measure(trial).scores.tolist() == [1, 0] and share.measure(trial).scores.tolist() == [1, 0]
    assert sorted(known.asked) == [" a a a", " b b b"]


def test_statistics_over_samples_are_those_of_real_toxicity_prompts():
    # Two prompts with four samples each, scores by hand; the second edit makes everything 0.5.
    scores = np.array([[[0.1, 0.6, 0.4, 0.5], [0.2, 0.4, 0.3, 0.1]], [[0.5] * 4, [0.5] * 4]])
    by_hand = {
        "known": [(1.6 / 4 + 1.0 / 4) / 2, 0.5],
        "known_above_half": [(2 / 4 + 0) / 2, 1],
        "known_expected_maximum": [(0.6 + 0.4) / 2, 0.5],
        "known_probability": [1 / 2, 1],
    }
    statistics = toxicity_scorers(KnownScorer(), 4)
    assert [scorer.name for scorer in statistics] == list(by_hand)
    for scorer in statistics:
        assert scorer.reduce(scores).mean(1) == pytest.approx(by_hand[scorer.name])
    assert len(toxicity_scorers(KnownScorer(), 1)) == 2


def test_profanity_tells_insults_from_thanks():
    low, high, empty = ProfanityScorer().score(["Thank you for the lovely soup.", "You pathetic idiot, shut up.", ""])
    assert low < 0.2 and high > 0.8 and 0 <= empty <= 1


def test_every_scorer_describes_itself(monkeypatch):
    monkeypatch.setattr("detox_engine.scoring.text_classifier.load_classifier", lambda *_: KnownScorer())
    monkeypatch.setattr("detox_engine.scoring.scorers.capability.require_harness", lambda: None)
    made = make_scorers(EvaluationPlan(scorers=tuple(scorers()), sampling=SamplingPlan(samples=2)))
    names = [scorer.name for scorer in made]
    assert len(set(names)) == len(names) == 4 + 4 + 1 + 1 + 1 + 1 + 3 + 4 + 7
    for scorer in made:
        low, high = scorer.range
        assert scorer.kind is scorers()[scorer.kind.name] and scorer.unit != "score"
        assert scorer.sentence.endswith(".") and scorer.title and low < high
        assert not set("<>*`[]") & set(scorer.title + scorer.sentence)
        higher = scorer.name.startswith(("distinct", "capability"))
        assert scorer.lower_is_better is not higher


@pytest.mark.parametrize(
    ("names", "says"), [(("politeness",), "no scorer “politeness”: choose among profanity"), ((), "needs a scorer")]
)
def test_an_unknown_scorer_is_refused_with_the_ones_that_there_are(names: tuple[str, ...], says: str):
    with pytest.raises(InputError, match=says):
        choose(EvaluationPlan(scorers=names))


def effect_of(tally: Tally, resamples: int = 4000, seed: int = 0) -> Effect:
    return estimate_effect(tally, resamples, seed)


def test_effect_of_values_by_hand():
    totals = np.array([[1.0, 2, 3, 6], [0, 1, 2, 5], [1, 2, 3, 6], [3, 2, 3, 6]])
    effect = effect_of(Tally(totals, np.ones((4, 4))))
    assert (effect.before.mean, effect.after.mean, effect.control.level.mean) == (3, 2, 3.25)
    assert effect.control.draws == (3, 3.5) and effect.before.n == 4
    # Every item falls by exactly 1: paired, the difference is certain, however wide either side is.
    assert (effect.difference.mean, effect.difference.low, effect.difference.high) == (-1, -1, -1)
    assert effect.before.low < 2 and effect.before.high > 4
    assert effect.control.difference.mean == 0.25


def test_each_kind_of_control_is_estimated_from_its_own_draws():
    totals = np.random.default_rng(0).normal(size=(6, 20))
    counts = np.ones((6, 20))
    both = estimate_effect(Tally(totals, counts), 200, 0, ("plain", "matched"))
    assert [control.kind for control in both.controls] == ["plain", "matched"]
    for control, rows in zip(both.controls, ([0, 1, 2, 3], [0, 1, 4, 5]), strict=True):
        alone = estimate_effect(Tally(totals[rows], counts[rows]), 200, 0, (control.kind,))
        assert_alike(asdict(control), asdict(alone.control), within=1e-12)
        assert (alone.before, alone.after) == (both.before, both.after)


def test_interval_equals_a_plain_bootstrap_and_the_normal_one():
    values = np.random.default_rng(3).exponential(size=400)
    tally = Tally(np.tile(values, (3, 1)), np.ones((3, 400)))
    estimate = effect_of(tally).before
    generator = np.random.default_rng(8)
    plain = [generator.choice(values, 400).mean() for _ in range(4000)]
    assert (estimate.low, estimate.high) == pytest.approx(np.percentile(plain, INTERVAL), abs=0.02)
    wide = 1.96 * values.std() / 20
    assert (estimate.high - estimate.low) / 2 == pytest.approx(wide, rel=0.1)


def test_interval_covers_the_truth_19_times_in_20():
    generator = np.random.default_rng(5)
    hits = 0
    for seed in range(200):
        values = generator.normal(2.0, 1.0, 60)
        estimate = effect_of(Tally(np.tile(values, (3, 1)), np.ones((3, 60))), 500, seed).before
        hits += estimate.low <= 2.0 <= estimate.high
    assert 182 <= hits <= 199


def test_ratio_weighs_items_by_their_counts_and_leaves_out_what_counts_nothing():
    totals = np.array([[2.0, 12, 0], [2, 12, 0], [2, 12, 0]])
    counts = np.array([[1.0, 3, 0], [1, 3, 0], [1, 3, 0]])
    effect = effect_of(Tally(totals, counts))
    assert effect.before.mean == 3.5 and effect.before.n == 2 and effect.before.low >= 2 and effect.before.high <= 4
    assert math.isnan(Tally(totals, counts).items[0, 2])
    exponential = Tally(np.log([[2.0, 8], [2, 8], [2, 8]]), np.ones((3, 2)), exponential=True)
    assert effect_of(exponential).before.mean == pytest.approx(4)


def test_control_interval_spans_its_draws():
    totals = np.stack([np.zeros(50), np.zeros(50), *(np.full(50, level) for level in (0.1, 0.5, 0.9))])
    control = effect_of(Tally(totals, np.ones_like(totals))).control.level
    assert control.mean == pytest.approx(0.5) and control.low < 0.2 and control.high > 0.8


def test_the_same_seed_gives_the_same_interval_and_chunks_do_not_matter(monkeypatch):
    totals = np.random.default_rng(0).random((4, 30))
    tally = Tally(totals, np.ones_like(totals))
    first = effect_of(tally, 300, 1)
    assert effect_of(tally, 300, 1) == first != effect_of(tally, 300, 2)
    monkeypatch.setattr("detox_engine.estimates.WEIGHTS_AT_ONCE", 90)
    # Products of other sizes are summed in another order; these sums are in float64.
    assert_alike(asdict(effect_of(tally, 300, 1)), asdict(first), within=1e-12)


def test_nothing_counted_has_no_score_and_no_interval():
    effect = effect_of(Tally(np.zeros((3, 2)), np.zeros((3, 2))))
    assert effect.before.n == 0 and all(
        math.isnan(value) for value in (effect.before.mean, effect.before.low, effect.difference.high)
    )
