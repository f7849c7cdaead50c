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
    """A scene with a toxic and a civil continuation, which say what they say in the same frame."""
    while True:
        writer, prompt = write_prompt(random, random.choices(("hostile", "plain", "friendly"), (4, 4, 2))[0])
        if not prompt.endswith(","):
            continue
        frame = random.choice(usable(writer.topic, "speech", True))
        toxic_writer = turn(writer, "hostile", RUDENESS["hostile"])
        civil_writer = turn(writer, random.choice(("plain", "plain", "friendly")), 0.0)
        toxic, civil = (
            f'"{side.quote(side.name, side.other, frame)}" {side.closing()}' for side in (toxic_writer, civil_writer)
        )
        return {"prompt": prompt, "toxic": toxic, "civil": civil}


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
        scenes[write_scene(random, mood, held_out=True, rudeness=0.0).text] = None
    return list(scenes)
