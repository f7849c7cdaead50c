"""Writes the scenes: people with a mood, in a place, with things that happen and things that are said."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from random import Random

from .content import Person, read, topics, usable
from .grammar import correct_articles, fill, gerund, past, sentence_case

MOODS = {"hostile": 0.32, "friendly": 0.2, "plain": 0.48}
"""How many scenes have which mood."""

RUDENESS = {"hostile": 0.9, "friendly": 0.01, "plain": 0.03}
"""How likely a place in speech that could hold a rude word does hold one."""

# What happens in which mood. "turned" kinds are told as not so, so that single words do not give the mood away.
EVENTS = {
    "hostile": {"problem": 0.64, "pleasant turned": 0.18, "plain": 0.14, "pleasant": 0.04},
    "friendly": {"pleasant": 0.56, "problem turned": 0.18, "plain": 0.18, "problem": 0.08},
    "plain": {"plain": 0.76, "problem": 0.1, "pleasant": 0.1, "problem turned": 0.02, "pleasant turned": 0.02},
}
ACTS = {
    "hostile": {"careless": 0.52, "kind turned": 0.35, "do": 0.13},
    "friendly": {"kind": 0.55, "careless turned": 0.28, "do": 0.17},
    "plain": {"do": 0.8, "careless": 0.08, "kind": 0.08, "careless turned": 0.02, "kind turned": 0.02},
}
SAID_ACTS = {
    "hostile": {"careless": 0.65, "do": 0.35},
    "friendly": {"kind": 0.55, "do": 0.45},
    "plain": {"do": 0.84, "careless": 0.08, "kind": 0.08},
}
SAID = {
    "hostile": {"said": 12, "shouted": 5, "snapped": 3, "yelled": 3, "cried": 2, "growled": 1, "replied": 3},
    "friendly": {"said": 14, "cried": 3, "laughed": 1, "replied": 4, "called": 3, "whispered": 1, "added": 2},
    "plain": {"said": 18, "replied": 5, "answered": 3, "added": 3, "called": 2, "cried": 1, "shouted": 1},
}
STATE = re.compile(r"\b(had|was|were|could|stood|lay|cost|lasted|weighed|would|hung|never|kept|looked at|leaned)\b")


@dataclass
class Scene:
    topic: str
    mood: str
    sentences: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return " ".join(self.sentences)


class Writer:
    """Writes the sentences of one scene. All choices come from one random generator."""

    def __init__(self, random: Random, mood: str, held_out: bool = False, rudeness: float | None = None):
        self.random, self.mood, self.held_out = random, mood, held_out
        self.rudeness = RUDENESS[mood] if rudeness is None else rudeness
        self.topic = random.choice(list(topics()))
        self.words = topics()[self.topic]
        self.name, self.other = random.sample(usable(self.topic, "people", held_out), 2)
        self.thing, self.thing2 = random.sample(self.words["things"], 2)
        self.business = [fill(phrase, {}, random) for phrase in random.sample(self.words["do"], 2)]
        self.used: set[str] = set()
        self.last = ""

    def pick(self, options) -> str:
        """A choice that the scene has not used yet, where there is one."""
        for _ in range(8):
            choice = self.random.choice(options)
            if choice not in self.used:
                break
        self.used.add(choice)
        return choice

    def draw(self, table: dict[str, float]) -> str:
        return self.random.choices(list(table), list(table.values()))[0]

    def clause(self, kind: str) -> str:
        return fill(self.pick(self.words[kind]), {}, self.random)

    def act(self, kind: str) -> str:
        return self.random.choice(self.business) if kind == "do" else self.clause(kind)

    def slots(self, name: Person, other: Person) -> dict[str, object]:
        random, words = self.random, self.words
        act = self.act(self.draw(SAID_ACTS[self.mood]))
        do, do2 = self.business if random.random() < 0.6 else self.business[::-1]
        portable = [thing for thing in words["things"] if self.is_portable(thing)]
        slots: dict[str, object] = {
            "name": name.name, "he": name.he, "his": name.his, "him": self.pronoun(name, other),
            "other": other.name, "ohe": other.he, "ohis": other.his,
            "thing": self.thing, "thing2": self.thing2, "look": self.look(self.thing), "look2": self.look(self.thing2),
            "object": self.thing if self.thing in portable else random.choice(portable),
            "role": random.choice(words["people"]), "place": random.choice(words["places"]),
            "do": do, "did": past(do), "doing": gerund(do), "did2": past(do2),
            "act": act, "acted": past(act), "acting": gerund(act),
            "day": random.choice(("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")),
            "part": random.choice(("morning", "afternoon", "evening")),
            "plain_event": lambda: self.clause("plain"), "said": lambda: self.draw(SAID[self.mood]),
            "said_that": random.choice(("said that", "added that", "wrote that")),
        }  # fmt: skip
        slots["tone"] = lambda: fill(self.pick(read("tones.toml")[self.mood]), slots, random)
        for slot in read("frames.toml")["rude"]:
            slots[slot] = lambda slot=slot: self.marked(slot, slots)
        slots["A_MOD"] = lambda: "a " + self.marked("MOD", slots)
        return slots

    def is_portable(self, thing: str) -> bool:
        return thing not in read("shapes.toml")["immovables"]

    def look(self, thing: str) -> str:
        return self.random.choice(read("shapes.toml")["looks" if self.is_portable(thing) else "looks_of_immovables"])

    def pronoun(self, name: Person, other: Person) -> str:
        """ "him", or the name where "him" could be somebody else."""
        clear = name.he != other.he and name.name in self.last
        return name.him if clear else name.name

    def marked(self, slot: str, slots: dict) -> str:
        """A word or phrase that the mood chooses: rude, friendly or plain."""
        civil = "friendly" if self.mood == "friendly" else "plain"
        register = "rude" if self.random.random() < self.rudeness else civil
        return fill(self.random.choice(read("frames.toml")[register][slot]), slots, self.random)

    def sentence(self, template: str, name: Person, other: Person, **more: object) -> str:
        text = fill(template, {**self.slots(name, other), **more}, self.random)
        self.last = sentence_case(correct_articles(text))
        return self.last

    def opening(self) -> str:
        return self.sentence(self.random.choice(usable(self.topic, "openings", self.held_out)), self.name, self.other)

    def happening(self) -> str:
        """One sentence in which the mood shows: an event of the topic, an act, or a tone."""
        name, other = (self.name, self.other) if self.random.random() < 0.7 else (self.other, self.name)
        tell = self.random.choices((self.tell_event, self.tell_act, self.tell_tone), (0.4, 0.25, 0.35))[0]
        return tell(name, other)

    def tell_event(self, name: Person, other: Person) -> str:
        kind, _, turned = self.draw(EVENTS[self.mood]).partition(" ")
        event, shapes = self.clause(kind), read("shapes.toml")["events"]
        if turned:
            options = shapes["turned"]
        else:
            options = shapes["any"] + shapes[kind] + ([] if STATE.search(event) else shapes["happening"])
        return self.sentence(self.random.choice(options), name, other, event=event, event2=lambda: self.clause(kind))

    def tell_act(self, name: Person, other: Person) -> str:
        kind, _, turned = self.draw(ACTS[self.mood]).partition(" ")
        act = self.act(kind)
        options = read("shapes.toml")["acts"][f"{kind}_turned" if turned else kind]
        more = {"act": act, "act_past": past(act), "act2_past": lambda: past(self.clause(kind))}
        return self.sentence(self.random.choice(options), name, other, **more)

    def tell_tone(self, name: Person, other: Person) -> str:
        tone = self.pick(read("tones.toml")[self.mood])
        if tone.startswith("{name} ") and self.pronoun(name, other) == name.him and self.random.random() < 0.6:
            tone = "{he}" + tone[6:]
        kind = self.draw(EVENTS[self.mood])
        shapes = ["{tone}.", "{tone}."]
        if "turned" not in kind and "{him}" not in tone:
            shapes += ["{tone}, and {event}.", "{event}, and {tone}."]
        if not STATE.search(tone):
            shapes.append("Then {tone}.")
        shape = self.random.choice(shapes).replace("{tone}", tone)
        return self.sentence(shape, name, other, event=lambda: self.clause(kind))

    def quote(self, name: Person, other: Person, frame: str | None = None) -> str:
        """What is said, without quotation marks; the frame is drawn unless it is given."""
        frame = frame or self.random.choice(usable(self.topic, "speech", self.held_out))
        quote = correct_articles(fill(frame, self.slots(name, other), self.random))
        exclaimed = self.mood == "hostile" and quote.endswith(".") and self.random.random() < 0.25
        return quote[:-1] + "!" if exclaimed else quote

    def speech(self, name: Person, other: Person) -> str:
        """Something said: quoted before or behind its speaker, or reported."""
        shapes = read("shapes.toml")["speech"]
        if self.random.random() < 0.14:
            template = self.random.choice(usable(self.topic, "reported", self.held_out))
            return self.sentence(template + ".", name, other)
        quote = self.quote(name, other)
        if self.random.random() < 0.55:
            return self.sentence(self.random.choice(shapes["leads"]), name, other, quote=f'"{quote}"')
        quote = quote[:-1] + "," if quote.endswith(".") else quote
        tail = "{he} {said}." if self.pronoun(name, other) == name.him else self.random.choice(shapes["tails"])
        return f'"{quote}" ' + fill(tail, self.slots(name, other), self.random)

    def closing(self) -> str:
        return self.sentence(self.pick(read("tones.toml")["closings"][self.mood]) + ".", self.name, self.other)


def write_scene(
    random: Random, mood: str | None = None, held_out: bool = False, rudeness: float | None = None
) -> Scene:
    """A scene of two to seven sentences."""
    mood = mood or random.choices(list(MOODS), list(MOODS.values()))[0]
    writer = Writer(random, mood, held_out, rudeness)
    scene = Scene(writer.topic, mood, [writer.opening()])
    for _ in range(random.choice((1, 1, 2, 2, 3))):
        scene.sentences.append(writer.happening())
    if random.random() < 0.93:
        scene.sentences.append(writer.speech(writer.name, writer.other))
        if random.random() < 0.25:
            scene.sentences.append(writer.happening())
        if random.random() < 0.5:
            scene.sentences.append(writer.speech(writer.other, writer.name))
    if random.random() < 0.4:
        scene.sentences.append(writer.closing())
    return scene
