"""The closing questions: about the method, so that their answers hold for every model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """A question with four answers, of which one is right."""

    asked: str
    answers: tuple[str, str, str, str]
    right: int
    why: str


QUESTIONS = (
    Question(
        "What is the embedding of a text at a layer?",
        (
            "The text with its rude words marked",
            "A list of numbers that the layer makes of the text, the mean over its tokens",
            "The probability that the text is rude",
            "The weights of the layer",
        ),
        1,
        "It is a point in as many dimensions as the model has numbers for each token; what two texts have in common "
        "shows in how near their points are.",
    ),
    Question(
        "Why does the method take pairs, and not one pile of rude texts and one of civil texts?",
        (
            "Pairs need less memory",
            "A model can only read two texts at a time",
            "The difference of a pair cancels what both texts share, such as the topic",
            "With pairs no labels are needed",
        ),
        2,
        "Two piles also differ in topics, names and lengths. Within a pair these are alike, and the difference cancels "
        "them.",
    ),
    Question(
        "What does centring do?",
        (
            "It takes the mean direction, which all texts share, out of every difference",
            "It makes all texts equally long",
            "It takes rude words out of the vocabulary",
            "It puts the best layer in the middle",
        ),
        0,
        "Along the mean direction lies what every text needs. An edit that removed it would harm all texts.",
    ),
    Question(
        "A singular value of the table of differences is large. What does that say?",
        (
            "The model is certain of its next word",
            "The first pair is the most toxic one",
            "The edit will be cheap",
            "Much of what the differences hold lies along its direction",
        ),
        3,
        "The square of a singular value, as a share of all squares, is the share of the differences that lies along "
        "its direction. Whether that is toxicity has to be looked at.",
    ),
    Question(
        "Why is there a noise band in the picture of singular values?",
        (
            "Because models make sounds",
            "Because differences that are pure chance have singular values too",
            "Because rude texts are louder",
            "Because the smallest singular values are negative",
        ),
        1,
        "A direction that does not rise above what chance gives cannot be told from chance. More pairs, or less noise, "
        "lift it out.",
    ),
    Question(
        "The toxic pole of a direction lists an insult. What has been shown?",
        (
            "That the insult’s vector points along that direction",
            "That the model will write this insult next",
            "That the pairs hold this very insult",
            "That the direction does nothing but insults",
        ),
        0,
        "A reading says where a direction points. What the model does with it shows only when it is removed and the "
        "model is run.",
    ),
    Question(
        "How does the edit change the model?",
        (
            "It trains the model on civil texts",
            "It bars rude words from being written",
            "It subtracts from some weights what they write along a few directions",
            "It puts an instruction in front of every prompt",
        ),
        2,
        "W ← W − W VᵀV: a projection. It takes no training, can be saved as a small adapter, and is undone by leaving "
        "it away.",
    ),
    Question(
        "After an edit no text is rude any more, and perplexity is a hundred times what it was. What is that?",
        (
            "A success: toxicity is what counts",
            "A broken model: it says nothing any more, rude or not",
            "A sign that the rank was too low",
            "A fault of the measurement, since perplexity must fall with toxicity",
        ),
        1,
        "Word salad is not rude. Toxicity is never to be read without fluency, nor without what random directions of "
        "the same cost do.",
    ),
    Question(
        "Some pairs have rude and civil swapped by mistake. Why does DeTox’s subspace hardly change?",
        (
            "It notices swapped pairs and leaves them out",
            "It asks the model which text is the rude one",
            "It uses only the longest pairs",
            "Swapping turns the sign of a row, and the squares that it decomposes, TᵀT, do not see signs",
        ),
        3,
        "What is lost is which end of a direction is the toxic one, and a projection does not need to know. A mean "
        "adds the rows up, so swapped ones cancel right ones.",
    ),
    Question(
        "Which sentence about an edit can another person check?",
        (
            "The model is safe now",
            "The edit removes toxicity",
            "This edit of this model lowers this score from a to b, and costs c, on these prompts and texts",
            "Users will be happier",
        ),
        2,
        "A receipt names the model, the edit, what was measured, on what, and the cost beside the gain.",
    ),
)


def count_right(given: Sequence[int | None]) -> int:
    """How many of the answers are right."""
    return sum(answer == question.right for answer, question in zip(given, QUESTIONS, strict=True))


def describe_score(right: int) -> str:
    """What a score says."""
    count = len(QUESTIONS)
    if right == count:
        return "All of them: you could give this lesson."
    if right >= 0.7 * count:
        return "Well understood. Read once more what stands beside the others."
    return "Go back to the steps that the questions below speak of, and look at what was measured there."
