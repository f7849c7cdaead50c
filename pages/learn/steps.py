"""The nine steps of the lesson in words: what is said, what is asked, and what can be predicted.

What is right is not here: `answers.py` chooses it by what is measured on the study at hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Name = Literal["embedding", "pairs", "centring", "noise", "reading", "removing", "breaking", "labels", "own"]
NAMES: tuple[Name, ...] = get_args(Name)


@dataclass(frozen=True)
class Step:
    """One step; its sentences hold gaps such as `{layer}`, which the study fills."""

    name: Name
    title: str
    said: str
    question: str
    answers: tuple[str, ...] = ()
    """What can be predicted; none where the prediction is an angle."""
    near: int = 0
    """How far from what is measured a prediction is still right, in degrees."""
    formula: str = ""
    """What stands in the place of the picture until something is measured."""
    symbols: str = ""
    """What the formula's letters stand for."""

    @property
    def number(self) -> int:
        """From 1."""
        return NAMES.index(self.name) + 1


STEPS = (
    Step(
        "embedding",
        "What an embedding is",
        "At every layer the model turns a text into a list of numbers, here {hidden} of them. This list is the text’s "
        "embedding: a point in a space of {hidden} dimensions. Texts that the model takes for alike lie near each "
        "other.",
        "Take a rude text at layer {layer}. Which text lies nearest to it, most often?",
        (
            "Its civil twin: the same text, said civilly",
            "Another rude text",
            "Another civil text",
        ),
    ),
    Step(
        "pairs",
        "Pairs, and what their difference cancels",
        "A pair is one text said rudely and said civilly. Subtract the civil embedding from the rude one: what both "
        "share, such as the topic, cancels. What is left is the difference of the pair.",
        "How long is the difference of a pair, beside the distance from a rude text to a civil one of another pair?",
        (
            "About as long: 80 % of it or more",
            "Shorter: from 40 % to 80 % of it",
            "Much shorter: less than 40 % of it",
        ),
    ),
    Step(
        "centring",
        "What centring takes out",
        "All texts have something in common, and the mean direction points there. DeTox takes it out of every "
        "difference before it looks for anything: that is centring. An edit then leaves alone what every text needs.",
        "Which words point furthest along the mean direction, over the layers?",
        (
            "Rude words",
            "Commas, articles and other small words",
            "Names and other whole words",
            "Pieces of words and signs",
        ),
        formula=r"T \leftarrow T - (T\mu)\,\mu^{\top}",
        symbols="T: the differences, a row for each pair. μ: the mean direction, of length 1.",
    ),
    Step(
        "noise",
        "Singular values, and noise",
        "Put all differences into one table, a row for each of {pairs} pairs. Its singular values say how much of the "
        "table lies along one direction, then along the next. Noise has singular values too: only what rises above "
        "the noise band tells us something.",
        "How many of the {directions} directions of layer {layer} rise above the noise?",
        ("None", "1 to 5", "6 to 20", "More than 20"),
        formula=r"T = U\,S\,V^{\top}",
        symbols="T: the centred differences, a row for each pair. S: the singular values. V: their directions.",
    ),
    Step(
        "reading",
        "Reading a direction",
        "A direction can be read: ask of every word how far its own vector points the same way, and list the words "
        "that do so most. The end at which the rude texts lie is called the toxic pole. The method was told no word, "
        "only which text of a pair is the rude one.",
        "Of the {words} words at the toxic pole of the first direction of layer {layer}, how many are rude?",
        ("None or 1", "2 to 4", "5 to 7", "8 or more"),
        formula=r"\text{score}_t = \cos(v,\, w_t)",
        symbols="v: the direction. w: the vector with which the model says the word t.",
    ),
    Step(
        "removing",
        "Removing it",
        "The edit takes the first direction out of what the MLPs of {edited} write. Nothing is trained. The model "
        "now continues the same prompts as it is and with the edit.",
        "How probable are rude words with the edit, at the places where the model writes without it?",
        (
            "More probable than before",
            "As probable as before, within 10 %",
            "Less probable, but more than half is left",
            "Less than half is left",
        ),
        formula=r"W \leftarrow W - W\,v\,v^{\top}",
        symbols="W: the weights with which an MLP writes, a row for each of its neurons. v: the direction.",
    ),
    Step(
        "breaking",
        "What breaks",
        "More is not better. Now {wide} of every layer go, and in another edit the first one goes at strength 4: taken "
        "out four times over. Perplexity tells what that costs: among how many words the model is as good as "
        "undecided when it reads ordinary text. Lower is more fluent.",
        "With {wide} of every layer removed, the perplexity of ordinary text …",
        (
            "stays where it is: at most 10 % more",
            "rises, to less than double",
            "doubles or more",
        ),
        formula=r"\text{perplexity} = \exp\Bigl(-\tfrac1n \sum_i \log p(t_i \mid t_{<i})\Bigr)",
        symbols="p: the probability of each token of a text, given those before it. n: how many tokens there are.",
    ),
    Step(
        "labels",
        "Noise in the labels",
        "Suppose that in half of the pairs somebody swapped rude and civil: the labels then say nothing at all. Two "
        "methods look for the direction all the same: the mean of all differences, and DeTox. An angle of 0° means "
        "that a method finds what it found with the right labels, 90° that it finds something unrelated.",
        "With half of the labels swapped, by how many degrees does DeTox’s first direction turn?",
        near=10,
        formula=r"T \to D\,T,\quad D = \operatorname{diag}(\pm 1)",
        symbols="T: the differences, a row for each pair. A pair whose sides are swapped has its row times −1.",
    ),
    Step(
        "own",
        "An edit of your own",
        "Choose which layers are edited, how many directions go and how much of them. Say what it will do before you "
        "measure it. What is measured is written on a receipt: one sentence that anyone can check.",
        "What will your edit do to rude words, and to the perplexity of ordinary text?",
        (
            "Halve rude words, and cost less than 10 % of perplexity",
            "Halve rude words, but cost 10 % or more",
            "Not halve rude words, and cost less than 10 %",
            "Not halve rude words, and cost 10 % or more",
        ),
    ),
)
QUIZ = len(STEPS) + 1
"""The place after the last step, where the closing questions are."""
