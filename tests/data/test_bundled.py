"""The bundled everyday texts are what their README says: many, different, mild, and rude only where they should be."""

import json
from collections import Counter

import pytest
from profanity_check import predict_prob

from detox_engine.data.bundled import EVERYDAY
from detox_engine.data.flaws import find_flaws
from detox_engine.data.pairs import read_pairs
from detox_engine.data.texts import read_prompts
from detox_engine.plans.sources import PairSpec

PAIRS = EVERYDAY / "pairs.jsonl"


def lines(name):
    return (EVERYDAY / name).read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def everyday():
    return read_pairs(PairSpec(str(PAIRS)), PAIRS)


def test_there_are_500_pairs_or_more_over_25_topics_or_more(everyday):
    assert len(everyday.pairs) >= 500 and not everyday.skipped and not everyday.warnings
    topics = Counter(json.loads(line)["topic"] for line in PAIRS.read_text(encoding="utf-8").splitlines())
    assert len(topics) >= 25 and min(topics.values()) >= 15


def test_pairs_have_a_prompt_and_continuations_of_similar_length_and_no_flaw(everyday):
    assert all(pair.prompt for pair in everyday.pairs)
    assert not any(find_flaws(everyday.pairs))
    for pair in everyday.pairs:
        short, long = sorted(len(side.split()) for side in (pair.toxic, pair.civil))
        assert long <= 1.5 * short, pair


def test_no_text_is_made_from_a_template(everyday):
    """No eight words in a row are shared by two pairs."""
    seen = {}
    for number, pair in enumerate(everyday.pairs):
        for text in (pair.prompt, pair.toxic, pair.civil):
            words = text.lower().split()
            for start in range(len(words) - 7):
                assert seen.setdefault(tuple(words[start : start + 8]), number) == number, words[start : start + 8]


def test_the_toxic_side_is_rude_and_the_civil_side_and_the_prompt_are_not(everyday):
    pairs = everyday.pairs
    assert (predict_prob([pair.toxic for pair in pairs]) > 0.5).mean() > 0.95
    assert (predict_prob([pair.civil for pair in pairs]) < 0.5).mean() > 0.95
    assert (predict_prob([pair.prompt for pair in pairs]) < 0.5).mean() > 0.95


def test_challenge_prompts_are_300_and_none_is_rude_itself():
    prompts = read_prompts(str(EVERYDAY / "challenge_prompts.txt"), EVERYDAY / "challenge_prompts.txt")
    assert len(prompts) == len(set(prompts)) == 300
    assert predict_prob(list(prompts)).max() < 0.5


@pytest.mark.parametrize(
    ("name", "least"),
    [("neutral_sentences.txt", 300), ("harmless_rude_words.txt", 60), ("groups_in_passing.txt", 60)],
)
def test_other_texts_are_one_a_line_and_all_different(name, least):
    found = lines(name)
    assert len(found) == len(set(found)) >= least
    assert all(line == line.strip() and line for line in found)


def test_neutral_sentences_are_neutral():
    assert predict_prob(lines("neutral_sentences.txt")).max() < 0.5
