"""The little English grammar that the scene writer needs: articles, plurals, verb forms, sentence case."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from random import Random

IRREGULAR_PAST = {
    "be": "was",
    "bend": "bent",
    "bite": "bit",
    "bleed": "bled",
    "blow": "blew",
    "break": "broke",
    "bring": "brought",
    "build": "built",
    "burn": "burnt",
    "buy": "bought",
    "cast": "cast",
    "choose": "chose",
    "come": "came",
    "cut": "cut",
    "draw": "drew",
    "drink": "drank",
    "drive": "drove",
    "eat": "ate",
    "fall": "fell",
    "feed": "fed",
    "fight": "fought",
    "find": "found",
    "fly": "flew",
    "forget": "forgot",
    "forgive": "forgave",
    "get": "got",
    "give": "gave",
    "go": "went",
    "hang": "hung",
    "hide": "hid",
    "hold": "held",
    "keep": "kept",
    "knit": "knitted",
    "know": "knew",
    "lay": "laid",
    "lead": "led",
    "lean": "leaned",
    "learn": "learned",
    "leave": "left",
    "lend": "lent",
    "let": "let",
    "light": "lit",
    "lose": "lost",
    "make": "made",
    "meet": "met",
    "misspell": "misspelt",
    "oversleep": "overslept",
    "overcharge": "overcharged",
    "pay": "paid",
    "put": "put",
    "read": "read",
    "reset": "reset",
    "ride": "rode",
    "ring": "rang",
    "run": "ran",
    "say": "said",
    "see": "saw",
    "sell": "sold",
    "send": "sent",
    "set": "set",
    "sew": "sewed",
    "shake": "shook",
    "shear": "sheared",
    "shine": "shone",
    "shoot": "shot",
    "show": "showed",
    "shrink": "shrank",
    "shut": "shut",
    "sing": "sang",
    "sink": "sank",
    "sit": "sat",
    "sleep": "slept",
    "speak": "spoke",
    "spell": "spelt",
    "spend": "spent",
    "spill": "spilt",
    "split": "split",
    "stand": "stood",
    "steal": "stole",
    "stick": "stuck",
    "sweep": "swept",
    "swim": "swam",
    "take": "took",
    "teach": "taught",
    "tear": "tore",
    "tell": "told",
    "think": "thought",
    "throw": "threw",
    "wake": "woke",
    "win": "won",
    "write": "wrote",
    "quit": "quit",
}
DOUBLED = {
    "chop", "jam", "stop", "trim", "drop", "knit", "lag", "let", "cut", "put", "get", "set", "sit", "run", "swim",
    "shut", "split", "trip", "wrap", "mop", "pat", "rub", "beg", "hug", "swap", "dig", "step", "stir", "unplug",
    "plug", "win", "forget", "tap", "ban", "clap", "quit", "hit", "dial", "cancel", "reset", "shovel", "pin",
}  # fmt: skip
VOWEL_SOUND_EXCEPTIONS = ("hour", "honest", "heir", "honour")
CONSONANT_SOUND = ("uni", "use", "usu", "eu", "one", "once", "ut")


def past(phrase: str) -> str:
    """`"milk the cows"` -> `"milked the cows"`: the first word of a verb phrase in the past tense."""
    verb, _, rest = phrase.partition(" ")
    if verb in IRREGULAR_PAST:
        form = IRREGULAR_PAST[verb]
    elif verb.endswith("e"):
        form = verb + "d"
    elif verb.endswith("y") and verb[-2] not in "aeiou":
        form = verb[:-1] + "ied"
    elif verb in DOUBLED:
        form = verb + verb[-1] + "ed"
    else:
        form = verb + "ed"
    return f"{form} {rest}".strip()


def gerund(phrase: str) -> str:
    """`"tie the boots"` -> `"tying the boots"`: the first word of a verb phrase with -ing."""
    verb, _, rest = phrase.partition(" ")
    if verb.endswith("ie"):
        form = verb[:-2] + "ying"
    elif verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")) and verb != "be":
        form = verb[:-1] + "ing"
    elif verb in DOUBLED:
        form = verb + verb[-1] + "ing"
    else:
        form = verb + "ing"
    return f"{form} {rest}".strip()


def with_article(noun_phrase: str) -> str:
    """`"old pan"` -> `"an old pan"`."""
    return correct_articles("a " + noun_phrase)


def correct_articles(text: str) -> str:
    """Turn every "a" before a vowel sound into "an"."""
    return re.sub(r"\b([Aa]) (?=([A-Za-z]+))", _article, text)


def _article(match: re.Match[str]) -> str:
    word = match.group(2).lower()
    vowel = word[0] in "aeiou" and not word.startswith(CONSONANT_SOUND)
    return match.group(1) + ("n " if vowel or word.startswith(VOWEL_SOUND_EXCEPTIONS) else " ")


def sentence_case(text: str) -> str:
    """Capitalise the first letter, also behind an opening quotation mark."""
    start = 1 if text.startswith('"') else 0
    return text[:start] + text[start : start + 1].upper() + text[start + 1 :]


@cache
def _parse(template: str) -> tuple[tuple[str, object], ...]:
    parts: list[tuple[str, object]] = []
    for literal, choices, slot in re.findall(r"([^\[{]+)|\[([^\]]*)\]|\{(\w+)\}", template):
        if literal:
            parts.append(("literal", literal))
        elif slot:
            parts.append(("slot", slot))
        else:
            parts.append(("choice", tuple(choices.split("|"))))
    return tuple(parts)


def fill(template: str, slots: Mapping[str, object], random: Random) -> str:
    """Write a template: `[a|b]` is a choice, `{slot}` a word, a template, or a function without arguments."""
    words = []
    for kind, value in _parse(template):
        if kind == "literal":
            words.append(value)
        elif kind == "choice":
            words.append(fill(random.choice(value), slots, random))
        else:
            filler = slots[value]
            words.append(filler() if callable(filler) else filler)
    return "".join(words)
