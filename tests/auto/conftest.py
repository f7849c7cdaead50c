"""A run on a tiny model in which one direction makes rude words probable, saved as others save theirs."""

import json
from pathlib import Path

import pytest
import torch

from detox_engine.auto import sets
from detox_engine.model.load import OpenModel, load_model
from detox_engine.plans.auto import AutoPlan
from detox_engine.plans.sources import ModelSpec, PairSpec, TextSpec
from detox_engine.scoring.scorers import mass
from detox_engine.study.fit import fit_study
from detox_engine.study.study import Study
from detox_engine.study.suggestion import search
from tests.models import HIDDEN, SENTENCES
from tests.planted import (
    give_directions,
    open_planted,
    planted_direction,
    planted_pairs,
    rude_tokens,
    write_pairs,
)


@pytest.fixture(scope="package", autouse=True)
def few_texts():
    """A tiny tokenizer makes many tokens of a neutral sentence, and few sentences are enough here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "SLOPE_TEXTS", 8)
        patch.setattr(search, "MEASURED_TEXTS", 8)
        patch.setattr(sets, "CHOOSING", 20)
        patch.setattr(mass, "list_rude_tokens", lambda tokenizer: rude_tokens())
        yield


@pytest.fixture(scope="package")
def planted(tmp_path_factory) -> tuple[ModelSpec, AutoPlan]:
    """The model's spec, and a plan with pairs, prompts and texts of its own."""
    folder = tmp_path_factory.mktemp("planted")
    opened = open_planted()
    opened.network.save_pretrained(folder / "model")
    opened.tokenizer.save_pretrained(folder / "model")
    words = [word for sentence in SENTENCES for word in sentence.split()]
    prompts = [f"{number} {words[number % len(words)]} {words[(7 * number) % len(words)]}" for number in range(60)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    (folder / "neutral.txt").write_text("\n".join(SENTENCES))
    pairs: PairSpec = write_pairs(folder / "pairs.jsonl", planted_pairs(400))
    plan = AutoPlan(pairs, str(folder / "prompts.jsonl"), TextSpec(str(folder / "neutral.txt")), cost="strong")
    return ModelSpec(str(folder / "model"), device="cpu"), plan


@pytest.fixture(scope="package")
def model(planted) -> OpenModel:
    return load_model(planted[0])


def fit_planted(model: OpenModel, *given, **more) -> Study:
    """A fit in which one method finds the planted direction and another a random one: so few texts would not do."""
    fitted = fit_study(model, *given, **more)
    noise = torch.randn(fitted.layers, HIDDEN, generator=torch.Generator().manual_seed(3))
    planted = planted_direction().expand(fitted.layers, HIDDEN)
    return give_directions(fitted, {"fisher": planted, "mean-difference": torch.nn.functional.normalize(noise, dim=1)})


def name_files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}
