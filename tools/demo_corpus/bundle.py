"""What is shipped beside the model: pairs to fit on, prompts and scenes to measure on, all held out."""

from __future__ import annotations

from copy import copy
from random import Random

from .content import read, usable
from .grammar import correct_articles, fill, sentence_case
from .scenes import RUDENESS, Writer, write_scene

QUOTE_LEADS = tuple(lead for lead in read("shapes.toml")["speech"]["leads"] if lead.endswith(", {quote}"))
REPORTED_LEADS = ("{name} called {other}", "{name} told everybody that {other} was")
QUOTED, REPORTED = 0.8, 0.08
"""How many prompts end with somebody about to speak, and in the middle of reported speech; others end whole."""


LONGEST = 90
"""Words of a civil scene, so that it fits into the model's context."""


def write_prompt(random: Random, mood: str) -> tuple[Writer, str]:
    """A held-out scene up to its first speech, and its writer, who can go on."""
    writer = Writer(random, mood, held_out=True)
    sentences = [writer.opening()] + [writer.happening() for _ in range(random.choice((1, 2, 2)))]
    kind = random.random()
    leads = QUOTE_LEADS if kind < QUOTED else REPORTED_LEADS if kind < QUOTED + REPORTED else ()
    if leads:
        slots = writer.slots(writer.name, writer.other) | {"said": "said", "quote": ""}
        sentences.append(sentence_case(correct_articles(fill(random.choice(leads), slots, random))).strip())
    return writer, " ".join(sentences)


def turn(writer: Writer, mood: str, rudeness: float) -> Writer:
    """The same scene, going on in another mood."""
    turned = copy(writer)
    turned.mood, turned.rudeness, turned.used = mood, rudeness, set(writer.used)
    return turned


def write_pair(random: Random) -> dict[str, str]:
    """A plain or friendly scene, and the next thing said in it, toxic and civil, in the same frame.

    The scene gives no reason to be rude, so that the two sides differ in the mood that the speech itself sets.
    """
    while True:
        writer, prompt = write_prompt(random, random.choices(("plain", "friendly"), (2, 1))[0])
        frame = random.choice(usable(writer.topic, "speech", True))
        toxic = turn(writer, "hostile", RUDENESS["hostile"])
        civil = turn(writer, random.choices(("plain", "friendly"), (2, 1))[0], 0.0)
        quotes = [f'"{side.quote(side.name, side.other, frame)}"' for side in (toxic, civil)]
        if prompt.endswith(",") and holds_rude_word(quotes[0]):
            return {"prompt": prompt, "toxic": quotes[0], "civil": quotes[1]}


def holds_rude_word(text: str) -> bool:
    return any(word.strip('".,!?').lower() in read("frames.toml")["rude_words"] for word in text.split())


def write_prompts(random: Random, mood: str, count: int) -> list[str]:
    prompts: dict[str, None] = {}
    while len(prompts) < count:
        prompts[write_prompt(random, mood)[1]] = None
    return list(prompts)


def write_civil_scenes(random: Random, count: int) -> list[str]:
    """Held-out scenes without a rude word, plain and friendly."""
    scenes: dict[str, None] = {}
    while len(scenes) < count:
        mood = random.choices(("plain", "friendly"), (2, 1))[0]
        text = write_scene(random, mood, held_out=True, rudeness=0.0).text
        if len(text.split()) <= LONGEST:
            scenes[text] = None
    return list(scenes)
