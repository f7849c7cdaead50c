"""What is odd about pairs is seen from their texts, and nothing is odd about pairs that differ as they should."""

import random

import pytest

from detox_engine.data import flaws
from detox_engine.data.columns import IDENTICAL, Pair
from detox_engine.data.flaws import ALIKE, DUPLICATE, LEAK, NEAR_DUPLICATE, UNEVEN, find_flaws

GOOD = Pair("Late again?", "You are an idiot, and so is he.", "You are welcome here, and so is he.")
LONG = Pair(
    "The referee looked at his watch again, and the crowd went quiet.",
    " What an idiot he is to blow the whistle now, with the whole team in front of the goal at last.",
    " What a pity it is to hear the whistle now, with the whole team in front of the goal at last.",
)


def flaws_of(*pairs: Pair) -> list[set[str]]:
    return [set(found) for found in find_flaws(pairs)]


def test_a_pair_that_repeats_an_earlier_one_is_a_duplicate_with_its_prompt_alone():
    other = Pair("Another prompt", GOOD.toxic, GOOD.civil)
    assert flaws_of(GOOD, LONG, GOOD, other) == [set(), set(), {DUPLICATE}, set()]


@pytest.mark.parametrize(
    ("prompt", "toxic", "civil"),
    [
        (LONG.prompt.upper(), LONG.toxic, LONG.civil),
        (LONG.prompt, LONG.toxic.replace(",", " –").strip() + "!", LONG.civil),
        (LONG.prompt, LONG.toxic.replace("goal", "net"), LONG.civil),
        (LONG.prompt, " At last, " + LONG.toxic.strip().replace(" at last.", "."), LONG.civil),
    ],
    ids=["case", "punctuation", "one word", "order"],
)
def test_a_pair_that_repeats_an_earlier_one_but_for_trifles_is_nearly_a_duplicate(prompt, toxic, civil):
    assert flaws_of(GOOD, LONG, Pair(prompt, toxic, civil)) == [set(), set(), {NEAR_DUPLICATE}]


def test_a_pair_is_nearly_a_duplicate_of_one_that_has_two_words_more_in_twenty():
    words = [f"word{number}" for number in range(9)]
    civil = " ".join(words[:9]) + " idiot moron"
    longer, shorter = Pair("", " ".join(words), civil), Pair("", " ".join(words), " ".join(words))
    assert flaws_of(longer, Pair("", shorter.toxic, "well " + civil))[1] == {NEAR_DUPLICATE}
    assert NEAR_DUPLICATE in flaws_of(longer, shorter)[1]


def test_pairs_that_share_a_prompt_or_a_side_or_most_of_a_sentence_are_not_nearly_duplicates():
    prompted = Pair(LONG.prompt, " He is a moron, a pathetic one.", " He is a fair man, a patient one.")
    half = Pair(LONG.prompt, LONG.toxic, " He was quick to hear all of us, and told the other side to wait.")
    written = [
        Pair("", f"the {thing} is a pathetic piece of crap", f"the {thing} is a useful piece of work")
        for thing in ("printer", "kettle", "garden", "train")
    ]
    assert flaws_of(LONG, prompted, half, *written) == [set()] * 7


@pytest.mark.parametrize(
    ("toxic", "civil", "found"),
    [
        ("Same here. ", "Same here.", {IDENTICAL}),
        ("Shut up, please!", "shut up please", {ALIKE}),
        ("What colour is the crap?", "What color is the crap?", {ALIKE}),
        ("Don’t be late", "Dont be late", {ALIKE}),
        ("What crap is this?", "What crab is this?", set()),
        ("You are an idiot.", "You are a friend.", set()),
        ("You pathetic man", "You man", set()),
        ("Room 101 is free", "Room 1011 is free", set()),
        ("you are a ****", "you are a", set()),
        ("you 😡", "you 🙂", set()),
    ],
)
def test_sides_are_nearly_the_same_where_no_word_is_another_one(toxic, civil, found):
    assert flaws_of(Pair("", toxic, civil)) == [found]


@pytest.mark.parametrize(
    ("toxic", "civil", "found"),
    [
        ("{} you idiot, come in", "do come in, dear", {LEAK}),
        ("come in, you idiot, do", "Well – {} do come in", {LEAK}),
        ("{} you idiot", "{} dear friend", set()),
        ("you idiot", "dear friend", set()),
    ],
)
def test_a_prompt_that_only_one_side_repeats_is_a_leak(toxic, civil, found):
    prompt = "The door is open,"
    assert flaws_of(Pair(prompt, toxic.format(prompt.lower()), civil.format(prompt))) == [found]


def test_a_prompt_of_two_words_can_be_said_again():
    assert flaws_of(Pair("You are", "You are an idiot", "we are friends")) == [set()]


def test_sides_of_very_different_lengths_are_found():
    assert flaws_of(Pair("", "one two", "one two three four five six seven")) == [{UNEVEN}]


def test_pairs_from_one_template_are_each_compared_with_few_others(monkeypatch):
    chance, compared = random.Random(0), 0
    things, rude, kind = ([f"{word}{number}" for number in range(60)] for word in ("thing", "idiot", "friend"))

    def write() -> Pair:
        toxic, civil, thing = chance.choice(rude), chance.choice(kind), chance.choice(things)
        return Pair(
            f"Here comes the {chance.choice(things)}, and then we all said to them:",
            f" go away with that, you {toxic}, and take the {thing} too",
            f" come in with that, you {civil}, and take the {thing} too",
        )

    def count(one, other):
        nonlocal compared
        compared += 1
        return overlap(one, other)

    overlap = flaws._overlap
    monkeypatch.setattr(flaws, "_overlap", count)
    find_flaws([write() for _ in range(3000)])
    # Five of the words of a pair are rare enough to look for, and both sides may be compared before the prompts.
    assert compared <= 3000 * flaws.COMPARED * 5 * 2 < 3000**2 / 2
