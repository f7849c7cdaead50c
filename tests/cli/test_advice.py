"""What a sentence advises is there, and doing it is not refused again."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from detox_engine.cli import main
from tests.cli.test_cli import home, run  # noqa: F401  (a fixture)
from tests.models import CONTEXT, LAYERS, save_tiny_model

ROOT = Path(__file__).parents[2]
OTHERS = """
    --enable-lora --global --head --help --index-url --lora --lora-modules --lora-scaled --merge --model_args --no-deps
    --server.port
"""
"""Flags of other programs that our sentences name."""


def spoken() -> Iterator[tuple[str, str]]:
    """Every sentence in the engine and the dashboard, with its place; what makes flags, and no sentence, left out."""
    for part in ("detox_engine", "ui", "pages"):
        for file in sorted(set((ROOT / part).rglob("*.py")) - {ROOT / "detox_engine" / "plans" / "option.py"}):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
                    yield f"{file.relative_to(ROOT)}:{node.lineno}", node.value


def test_every_flag_and_command_that_a_text_names_is_there():
    commands = get_command(main.app).commands
    flags = {
        flag for each in commands.values() for param in each.params for flag in (*param.opts, *param.secondary_opts)
    }
    for place, text in spoken():
        for flag in re.findall(r"(?<![\w-])--[a-z][\w.-]*[a-z]\b(?!:)", text):
            assert flag in flags or flag in OTHERS.split(), (place, flag)
        for command in re.findall(r"“detox ([a-z]+)", text):
            assert command in commands, (place, command)


@pytest.fixture(scope="module")
def other_model(tmp_path_factory) -> Path:
    return save_tiny_model("gptj", tmp_path_factory.mktemp("other") / "model")


EDIT = ("--layers", "1", "--rank", 1)
FEW = ("--max-new-tokens", 2, "--limit-prompts", 2, "--controls", 2, "--resamples", 100)
TEXTS = ("--prompts", "{home}/prompts.txt", "--neutral", "{home}/prompts.txt")
FIT = ("fit", "--model", "{home}/model", "--no-suggest", "--pairs")
STUDY = "{home}/study"
ADVICE = {
    "layers within the model": (
        ("directions", STUDY, "--layers", 99, "--measure", "product"),
        f"its layers are 0-{LAYERS - 1}",
        ("directions", STUDY, "--layers", LAYERS - 1, "--measure", "product"),
    ),
    "layers in one of the ways": (
        ("directions", STUDY, "--layers", "one", "--measure", "product"),
        "write 4-7, 3, all or 2,5-7",
        ("directions", STUDY, "--layers", "0,1-2", "--measure", "product"),
    ),
    "a rank that was kept": (
        ("compare", STUDY, "--layers", "1", "--rank", 9, "--prompt", "a"),
        "choose a rank of 1 to 4",
        ("compare", STUDY, "--layers", "1", "--rank", 4, "--prompt", "a", "--max-new-tokens", 2),
    ),
    "one of two flags": (
        ("lens", STUDY, "--layers", 1, "--text", "a", "--rank", 1, "--direction", 0),
        "Choose one of --rank",
        ("lens", STUDY, "--layers", 1, "--text", "an idiot", "--direction", 0),
    ),
    "a direction that was kept": (
        ("lens", STUDY, "--layers", 1, "--text", "a", "--direction", 9),
        "choose one of 0-3",
        ("lens", STUDY, "--layers", 1, "--text", "an idiot", "--direction", 3),
    ),
    "fewer new tokens": (
        ("compare", STUDY, *EDIT, "--prompt", "The", "--max-new-tokens", CONTEXT),
        f"ask for {CONTEXT - 1} or fewer",
        ("compare", STUDY, *EDIT, "--prompt", "The", "--max-new-tokens", CONTEXT - 1, "--greedy"),
    ),
    "prompts in one way": (
        ("compare", STUDY, *EDIT),
        "--prompt TEXT, --prompts FILE or --prompts bundled",
        ("compare", STUDY, *EDIT, "--prompts", "{home}/prompts.txt", "--max-new-tokens", 2),
    ),
    "json or csv": (
        ("map", STUDY, "--layer", 1, "--json", "--csv"),
        "Choose one of --json and --csv",
        ("map", STUDY, "--layer", 1, "--csv"),
    ),
    "PCA": (
        ("map", STUDY, "--layer", 1, "--method", "tsne"),
        "is not one of 'pca', 'umap'",
        ("map", STUDY, "--layer", 1, "--method", "pca"),
    ),
    "the CPU": (
        ("compare", STUDY, *EDIT, "--prompt", "a", "--device", "cuda:7"),
        "use auto or cpu",
        ("compare", STUDY, *EDIT, "--prompt", "a", "--device", "cpu", "--max-new-tokens", 2),
    ),
    "a number format": (
        ("compare", STUDY, *EDIT, "--prompt", "a", "--dtype", "int4"),
        "write auto, float32, bfloat16, float16",
        ("compare", STUDY, *EDIT, "--prompt", "a", "--dtype", "bfloat16", "--max-new-tokens", 2),
    ),
    "the model of the study": (
        ("compare", STUDY, *EDIT, "--prompt", "a", "--model", "{other}"),
        "name the study's own model, or fit a new study",
        ("compare", STUDY, *EDIT, "--prompt", "a", "--model", "{home}/model", "--max-new-tokens", 2),
    ),
    "a suggestion": (
        ("check", STUDY),
        "fit it again, with --suggest",
        ("fit", "--model", "{home}/model", "--pairs", "{home}/pairs.jsonl", "--out", "suggested", "--suggest"),
    ),
    "leave the biases alone": (
        ("export", STUDY, *EDIT, "--edit-bias", "--out", "biased"),
        "leave the biases alone (--no-edit-bias)",
        ("export", STUDY, *EDIT, "--no-edit-bias", "--out", "unbiased"),
    ),
    "take the whole model": (
        ("export", STUDY, *EDIT, "--edit-bias", "--out", "biased"),
        "take the whole model (--as model)",
        ("export", STUDY, *EDIT, "--edit-bias", "--as", "model", "--out", "whole"),
    ),
    "another folder": (
        ("export", STUDY, *EDIT, "--out", "{home}/study"),
        "choose another folder",
        ("export", STUDY, *EDIT, "--out", "another"),
    ),
    "the scorer by words": (
        ("evaluate", STUDY, *EDIT, *FEW, *TEXTS, "--scorers", "classifier", "--classifier", "./none"),
        "check the path of the classifier",
        ("evaluate", STUDY, *EDIT, *FEW, *TEXTS, "--scorers", "profanity"),
    ),
    "enough resamples": (
        ("evaluate", STUDY, *EDIT, *FEW, *TEXTS, "--scorers", "profanity", "--resamples", 5),
        "needs 100 resamples or more",
        ("evaluate", STUDY, *EDIT, *FEW, *TEXTS, "--scorers", "profanity", "--resamples", 100),
    ),
    "a known scorer": (
        ("evaluate", STUDY, *EDIT, *FEW, *TEXTS, "--scorers", "kindness"),
        "perplexity",
        ("evaluate", STUDY, *EDIT, *FEW, *TEXTS, "--scorers", "perplexity"),
    ),
    "layers in order": (
        ("sweep", STUDY, *FEW, *TEXTS, "--ranks", "1", "--starts", "2", "--ends", "1"),
        "swap them",
        ("sweep", STUDY, *FEW, *TEXTS, "--ranks", "1", "--starts", "1", "--ends", "2", "--scorers", "profanity"),
    ),
    "two pairs": (
        (*FIT, "{home}/pairs.jsonl", "--limit", 1, "--out", "fitted"),
        "2",
        (*FIT, "{home}/pairs.jsonl", "--limit", 2, "--out", "fitted"),
    ),
    "which column is which": (
        (*FIT, "{place}/renamed.jsonl", "--out", "renamed"),
        "say which column is which",
        (*FIT, "{place}/renamed.jsonl", "--toxic-column", "bad", "--civil-column", "good", "--out", "renamed"),
    ),
    "raise the longest length": (
        (*FIT, "{home}/pairs.jsonl", "--max-length", 1, "--pooling", "continuation", "--out", "longer"),
        "raise the longest length",
        (*FIT, "{home}/pairs.jsonl", "--max-length", 100, "--pooling", "continuation", "--out", "longer"),
    ),
}
"""What is asked for, what the sentence advises, and what follows the advice."""


@pytest.mark.parametrize("name", ADVICE)
def test_advice_is_not_refused_again(home, other_model, tmp_path, monkeypatch, name):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    (tmp_path / "renamed.jsonl").write_text(
        "".join(f'{{"bad": "you idiot {count}", "good": "my friend {count}"}}\n' for count in range(6))
    )

    def ask(*words: object):
        return run(*(str(word).format(home=home, other=other_model, place=tmp_path) for word in words))

    asked, says, followed = ADVICE[name]
    refused = ask(*asked)
    assert refused.exit_code == 2 and says in refused.stderr, refused.output
    done = ask(*followed)
    assert done.exit_code == 0, done.output
