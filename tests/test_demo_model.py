"""The demo model's scripts: the corpus they write, and a small run of all of them from nothing."""

import json
import socket
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = ROOT / "tools"
DEMO = ROOT / "assets" / "demo"
sys.path.insert(0, str(TOOLS))

import check_demo_model  # noqa: E402
import train_demo_model  # noqa: E402
from demo_corpus.bundle import write_civil_scenes, write_pair, write_prompt  # noqa: E402
from demo_corpus.content import people, read, topics, usable  # noqa: E402
from demo_corpus.grammar import correct_articles, gerund, past  # noqa: E402
from demo_corpus.scenes import RUDENESS, write_scene  # noqa: E402

RUDE = frozenset(read("frames.toml")["rude_words"])
LITERAL = {"rubbish", "garbage", "shut", "stank"}
"""Rude words that text which is not rude may hold in their plain sense, as in "she slammed the door shut"."""


def words(text: str) -> set[str]:
    return {word.strip('".,!?:;').lower() for word in text.split()}


def test_grammar_inflects_verbs_and_articles():
    assert [past(verb) for verb in ("milk the cows", "stir it", "carry", "tie", "break the lamp")] == [
        "milked the cows", "stirred it", "carried", "tied", "broke the lamp",
    ]  # fmt: skip
    assert [gerund(verb) for verb in ("tie the boots", "dye", "run", "bake", "see")] == [
        "tying the boots", "dyeing", "running", "baking", "seeing",
    ]  # fmt: skip
    assert correct_articles("a idiot had a hour and a usual A apple") == "an idiot had an hour and a usual An apple"


def test_there_are_25_topics_or_more_and_thousands_of_words():
    random = Random(0)
    vocabulary = set().union(*(words(write_scene(random).text) for _ in range(3000)))
    assert len(topics()) >= 25
    assert len(vocabulary) >= 2500


def test_the_same_seed_writes_the_same_scenes():
    first, second = Random(5), Random(5)
    assert [write_scene(first).text for _ in range(50)] == [write_scene(second).text for _ in range(50)]


def test_insults_follow_the_mood():
    random = Random(1)
    share = {
        mood: sum(bool(words(write_scene(random, mood).text) & RUDE) for _ in range(600)) / 600 for mood in RUDENESS
    }
    assert share["hostile"] > 0.85
    assert share["plain"] < 0.12
    assert share["friendly"] < 0.05


@pytest.mark.parametrize("kind", ["people", "openings", "speech", "reported"])
def test_held_out_text_combines_with_a_topic_what_training_never_does(kind):
    for topic in topics():
        held, trained = set(usable(topic, kind, True)), set(usable(topic, kind, False))
        assert held and trained and not held & trained


def test_prompts_end_before_the_first_rude_word():
    random = Random(2)
    assert not any(words(write_prompt(random, "hostile")[1]) & RUDE - LITERAL for _ in range(300))
    assert not any(words(scene) & RUDE - LITERAL for scene in write_civil_scenes(random, 100))


def test_pairs_are_one_scene_with_a_toxic_and_a_civil_end():
    random = Random(3)
    pairs = [write_pair(random) for _ in range(200)]
    names = {person.name for person in people()}
    assert all(words(pair["toxic"]) & RUDE for pair in pairs)
    assert not any(words(pair["civil"]) & RUDE - LITERAL for pair in pairs)
    assert all(any(name in pair["prompt"] for name in names) for pair in pairs)


def run(script: str, *arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, str(TOOLS / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_a_small_run_makes_a_model_that_the_check_measures_and_fails(tmp_path, capsys, monkeypatch):
    """The scripts that write texts as processes; the two that import the model library in this one."""
    # A page test of this process leaves its page as the main module, which the training's processes would run first.
    monkeypatch.setitem(sys.modules, "__main__", train_demo_model)
    corpus, model = tmp_path / "corpus.jsonl", tmp_path / "model"
    run("make_demo_corpus.py", "--out", corpus, "--scenes", 400).check_returncode()
    run("make_demo_data.py", "--out", tmp_path, "--pairs", 40).check_returncode()
    small = ("--layers", 2, "--hidden", 32, "--inner", 64, "--heads", 2, "--vocab", 600)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    short = ("--steps", 101, "--batch", 8, "--workers", 2, "--port", port)
    train_demo_model.main(list(map(str, ("--corpus", corpus, "--out", model, *small, *short))))
    losses = json.loads((model / "training.json").read_text())["loss_by_100_steps"]
    assert losses[-1] < losses[0]
    capsys.readouterr()
    assert check_demo_model.main(["--data", str(tmp_path), "--choose", "--limit", "8"]) == 1
    said = capsys.readouterr().out
    assert "toxicity before" in said and "MISSED" in said
    report = json.loads((tmp_path / "figures.json").read_text())
    assert report["layers"] == json.loads((tmp_path / "defaults.json").read_text())["layers"]
    assert not report["musts_held"]["toxicity before"]
