"""Which prediction is right, and why: chosen by what is measured on the study, never written down beforehand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from detox_engine.plans.edit import describe_edit
from pages.learn import work
from pages.learn.steps import Name, Step
from pages.learn.work import MEASURING, Asked, Change, Distances, Mean, Neighbours, Outcome, Poles, Turned
from ui.words.numbers import number
from ui.words.rude_words import is_rude_token

if TYPE_CHECKING:
    from detox_engine.study.study import Study
    from pages.learn.picks import LearnPicks
    from ui.frame.page import StudyPage
    from ui.session.view import Fitted

SMALL_WORDS = frozenset(
    """a about after again all also am an and any are as at be because been before but by can could did do does for
    from had has have he her here him his how i if in into is it its just like me more my no not now of off on one only
    or other our out over said she so some than that the their them then there these they this to too two up us very
    was we were what when where which while who will with would you your""".split()  # noqa: SIM905
)
"""Articles, pronouns, prepositions and the like, in English."""
MOST_ANGLE = 30.0
"""Degrees up to which a direction is called the same one."""


@dataclass(frozen=True)
class Answer:
    """What is right for a step, by the numbers of the study."""

    right: int
    """The number of the right answer, or the angle that was measured."""
    why: str
    """In plain text, with the numbers."""


def is_right(step: Step, prediction: int, answer: Answer) -> bool:
    return abs(prediction - answer.right) <= step.near


def name_answer(step: Step, value: int) -> str:
    """An answer, or an angle, in words."""
    return step.answers[value] if step.answers else f"{value}°"


def ask_of(step: Name, fitted: Fitted, study: Study, picks: LearnPicks) -> Asked | None:
    """What has to be run for a step; None where nothing has."""
    match step:
        case "removing":
            return Asked(fitted, (work.gentle_edit(study),), step)
        case "breaking":
            return Asked(fitted, work.breaking_edits(study), step)
        case "own":
            return Asked(fitted, (picks.own.plan(study),), step)
    return None


def find_answer(page: StudyPage[LearnPicks], step: Name) -> Answer | None:
    """What is right for a step; None where a run that it needs has not ended."""
    study, fitted, layer = page.study, page.fitted, work.find_best_layer(page.study)
    match step:
        case "embedding":
            return of_neighbours(work.find_neighbours(fitted, study, layer))
        case "pairs":
            return of_distances(work.find_distances(fitted, study, layer))
        case "centring":
            return of_mean(work.find_mean(fitted, study, layer), layer)
        case "noise":
            return of_spectrum(study, layer)
        case "reading":
            return of_poles(work.find_poles(fitted, study, layer))
        case "labels":
            return of_turned(work.find_turned(fitted, study, layer))
    found = MEASURING.find(ask_of(step, fitted, study, page.picks))
    if found is None:
        return None
    return {"removing": of_removal, "breaking": of_breaking, "own": of_own}[step](found)


def mark_steps(page: StudyPage[LearnPicks], steps: Sequence[Step]) -> dict[Name, bool]:
    """Of the steps whose measurement is shown and at hand, whether the prediction was right."""
    marks = {}
    for step in steps:
        if page.picks.is_shown(step.name):
            found = find_answer(page, step.name)
            if found is not None:
                marks[step.name] = is_right(step, getattr(page.picks.predictions, step.name), found)
    return marks


def of_neighbours(found: Neighbours) -> Answer:
    shares = (found.twin, found.toxic, found.civil)
    right = max(range(3), key=shares.__getitem__)
    told = (
        f"Of {found.count:,} rude texts, {found.twin:.0%} have their civil twin as the nearest text, {found.toxic:.0%} "
        f"another rude one and {found.civil:.0%} another civil one."
    )
    reasons = (
        "What a text is about moves it further than how it is said. So tone is hidden in the embedding, and has to be "
        "looked for.",
        "How a text is said moves it further than what it is about: tone is easy to see here.",
        "Neither tone nor topic alone decides what lies near.",
    )
    return Answer(right, f"{told} {reasons[right]}")


def of_distances(found: Distances) -> Answer:
    ratio = found.ratio
    right = 0 if ratio >= 0.8 else 1 if ratio >= 0.4 else 2
    reason = (
        "Most of what makes two texts differ is not their tone, so the difference of a pair cancels little here.",
        "What the two texts share has cancelled; some of what is left is more than tone.",
        "What the two texts share has cancelled: that is why the method needs pairs and not two piles of texts.",
    )[right]
    return Answer(
        right,
        f"The sides of a pair lie {number(ratio * 100, decimals=0)} % as far apart as texts of different pairs "
        f"(medians over {len(found.within):,} pairs). {reason}",
    )


def kind_of_word(token: str) -> int:
    """Which of the answers on the mean direction a token speaks for."""
    if is_rude_token(token):
        return 0
    word = token.removeprefix("·")
    if word.lower() in SMALL_WORDS or (word and not any(letter.isalnum() for letter in word)):
        return 1
    return 2 if word.isalpha() and word != token else 3


def of_mean(found: Mean, layer: int) -> Answer:
    kinds = Counter(kind_of_word(end.token) for reading in found.readings for end in reading.toxic_pole)
    right, count = max(sorted(kinds.items()), key=lambda item: item[1])
    rude = "None" if not kinds[0] else "Hardly any"
    reasons = (
        "So here the mean direction has to do with tone, and centring takes some of that out.",
        "Every text needs those. To remove this direction would harm all texts, and make none of them more civil.",
        f"{rude} of the words is rude: what all texts have in common is not tone, and an edit need not touch it.",
        f"They say little in words, but {rude.lower()} of them is rude: what all texts have in common is not tone.",
    )
    where = f"{len(found.layers)} layers" if len(found.layers) > 1 else "one layer"
    cosine = (
        "so centring costs hardly any of what sets the sides apart"
        if abs(found.cosine) < 0.3
        else "so without centring the mean would be mistaken for toxicity"
    )
    return Answer(
        right,
        f"Of the {sum(kinds.values())} words read in {where}, {count} are of this kind. {reasons[right]} At layer "
        f"{layer} the mean direction holds {found.of_texts:.0%} of the embeddings (of their square) and "
        f"{found.of_differences:.0%} of the differences; the cosine of the mean difference with it is "
        f"{number(found.cosine, decimals=2)}, {cosine}.",
    )


def of_spectrum(study: Study, layer: int) -> Answer:
    count, subspace = study.dominant_ranks[layer], study.subspaces[layer]
    right = 0 if not count else 1 if count <= 5 else 2 if count <= 20 else 3
    stand = "No direction does" if not count else "1 direction does" if count == 1 else f"{count} directions do"
    reason = (
        "So these pairs do not tell what sets the sides apart at this layer: more pairs would be needed.",
        "Few directions are enough, which is why an edit of low rank can work at all.",
        "Several things set the sides apart here, and not all of them need to be tone.",
        "So many cannot all be tone: the sides differ in much else.",
    )[right]
    return Answer(
        right,
        f"{stand}: the noise reaches up to {number(study.noise_thresholds[layer])}, and the first direction has "
        f"{number(float(subspace.singular_values[0]))}. The first alone holds {float(subspace.shares[0]):.0%} of the "
        f"square of the differences. {reason}",
    )


def count_rude(found: Poles) -> int:
    return sum(is_rude_token(end.token) for end in found.reading.toxic_pole)


def of_poles(found: Poles) -> Answer:
    count, words = count_rude(found), len(found.reading.toxic_pole)
    right = 0 if count <= 1 else 1 if count <= 4 else 2 if count <= 7 else 3
    told = (
        f"{count} of {words} are rude. In {found.agreeing:.0%} of {found.pairs:,} pairs the rude text lies further "
        "along the direction than its twin."
    )
    reason = (
        "The words alone do not show what the direction is about: a reading in words can fail where the direction "
        "still tells the sides apart. Look at its texts on the page Directions.",
        "The words hint at it, and its texts on the page Directions tell the rest.",
        "Differences of whole texts have led to the words that make them rude.",
        "Differences of whole texts have led to the words that make them rude.",
    )[right]
    return Answer(right, f"{told} {reason}")


def of_removal(found: Outcome) -> Answer:
    (change,), (cost,) = found.rude, found.perplexity
    ratio = change.ratio
    right = 0 if ratio > 1.1 else 1 if ratio >= 0.9 else 2 if ratio >= 0.5 else 3
    reason = (
        "The edit makes this model ruder: a direction that tells rude texts apart need not be what makes them.",
        "This edit hardly changes what the model says: other layers, or more directions, may.",
        "The model leans less toward rude words, and they are still there.",
        "One direction a layer carried most of it.",
    )[right]
    if right != 1 and change.low <= 1 <= change.high:
        reason = "The interval holds 1: on so few prompts this could be chance."
    return Answer(right, f"{tell_rude(change, found)} {reason} {tell_cost(cost, found)}")


def of_breaking(found: Outcome) -> Answer:
    wide, strong = found.perplexity
    right = 0 if wide.ratio <= 1.1 else 1 if wide.ratio < 2 else 2
    reason = (
        "So many directions can go without harm here.",
        "The language suffers: what was removed was not tone alone.",
        "The language breaks: most of those directions carried what every text needs. A text that says nothing is "
        "not rude either, so never read toxicity without fluency.",
    )[right]
    return Answer(
        right,
        f"It goes from {number(wide.before)} to {number(wide.after)}, {_tell_ratio(wide)}; with strength "
        f"{work.STRONG:g} it goes to {number(strong.after)}, {_tell_ratio(strong)}, over {found.texts} texts. {reason}",
    )


def of_turned(found: Turned) -> Answer:
    detox, mean, left = found.middle(50)
    reason = (
        "A swapped pair has its row of T negated. DeTox looks at the squares, TᵀT, where a minus sign vanishes; a mean "
        "adds for and against up to nothing."
        if detox <= MOST_ANGLE < mean
        else "In squares, TᵀT, a minus sign vanishes, so DeTox’s direction can turn only by what centring changes; "
        "these pairs show less of that than usual."
    )
    return Answer(
        round(detox),
        f"DeTox’s first direction turns by {detox:.0f}°, the mean difference by {mean:.0f}°, and {left:.0%} of its "
        f"length is left (the middle of {work.DRAWS} draws). {reason}",
    )


def of_own(found: Outcome) -> Answer:
    (change,), (cost,) = found.rude, found.perplexity
    halves, spares = change.ratio <= 0.5, cost.ratio < 1.1
    right = (0 if spares else 1) if halves else (2 if spares else 3)
    return Answer(right, f"{tell_rude(change, found)} {tell_cost(cost, found)}")


def tell_rude(change: Change, found: Outcome) -> str:
    """What an edit does to the probability of rude words, in a sentence."""
    prompts = len(found.comparisons[0])
    if change.before <= 0:
        return f"Over {prompts} prompts this model gave rude words no probability, so there was nothing to lower."
    before, after = number(change.before, change.after), number(change.after, change.before)
    return (
        f"The probability of rude words goes from {before} to {after}, {_tell_ratio(change)}, over {prompts} prompts."
    )


def tell_cost(cost: Change, found: Outcome) -> str:
    """What an edit costs, in a sentence."""
    return (
        f"The perplexity of ordinary text goes from {number(cost.before, cost.after)} to "
        f"{number(cost.after, cost.before)}, {_tell_ratio(cost)}, over {found.texts} texts."
    )


def _tell_ratio(change: Change) -> str:
    """After / before with its interval."""
    low, high = (number(each, decimals=2) for each in (change.low, change.high))
    return f"{number(change.ratio, decimals=2)} times as much (95 % interval {low} to {high})"


def write_receipt(page: StudyPage[LearnPicks], asked: Asked, found: Outcome) -> str:
    """The sentence to write down: which edit, of which model and pairs, and what it did."""
    (edit,) = asked.edits
    model, pairs = asked.fitted.study.names
    study = page.study
    return (
        f"Receipt. Model {model} (weights {study.model.weights_hash[:19]}), {study.pair_count:,} pairs: {pairs}. "
        f"DeTox, {describe_edit(edit)}. {tell_rude(found.rude[0], found)} {tell_cost(found.perplexity[0], found)} "
        f"Greedy continuations of {work.TOKENS} tokens."
    )
