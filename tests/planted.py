"""A tiny model in which one direction makes rude words probable, and pairs that show it."""

import copy
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import torch

from detox_engine.data.columns import Pair
from detox_engine.model.load import OpenModel
from detox_engine.plans.sources import ModelSpec, PairSpec
from detox_engine.study.study import Study
from detox_engine.study.subspace import ToxicSubspace
from tests.models import CONTEXT, HIDDEN, SENTENCES, fresh_model, tiny_tokenizer

RUDE, CIVIL = (" idiot", " crap"), (" train", " garden")
LAYER = 1
"""Whose MLP writes the planted direction."""


def planted_direction() -> torch.Tensor:
    """`[hidden]` unit vector."""
    return torch.nn.functional.normalize(torch.randn(HIDDEN, generator=torch.Generator().manual_seed(7)), dim=0)


def rude_tokens() -> tuple[int, ...]:
    """The ids that the planted direction makes probable: those with which the rude words begin."""
    tokenizer = tiny_tokenizer()
    return tuple(tokenizer(word)["input_ids"][0] for word in RUDE)


def open_planted() -> OpenModel:
    """A tiny Llama whose block `LAYER` writes the direction at every token, which its head turns into rude words.

    One inner unit of the MLP has its gate and its value along one line r, so that it is z · silu(z) ≥ 0, and it is
    written along the direction. Rude tokens also begin along it, so that texts that hold them lie there.
    """
    # The tokenizer is every test's; this one gets a padding token.
    network, tokenizer = fresh_model("llama", tie_word_embeddings=False), copy.deepcopy(tiny_tokenizer())
    direction = planted_direction()
    mlp = network.model.layers[LAYER].mlp
    with torch.no_grad():
        network.lm_head.weight.mul_(0.3)
        mlp.gate_proj.weight[0] = mlp.up_proj.weight[0] = (
            2 * torch.randn(HIDDEN, generator=torch.Generator().manual_seed(8)) / HIDDEN**0.5
        )
        mlp.down_proj.weight[:, 0] = 1.5 * direction
        for token in rude_tokens():
            network.model.embed_tokens.weight[token] += 4.0 * direction
            network.lm_head.weight[token] += 1.0 * direction
    tokenizer.pad_token = tokenizer.eos_token
    return OpenModel(ModelSpec("planted", device="cpu"), network, tokenizer, None, "sha256:planted", CONTEXT)


def planted_pairs(count: int = 200) -> list[Pair]:
    """A prompt that ends in a rude word or a civil one, then another word; the words of a pair vary."""
    generator = torch.Generator().manual_seed(9)
    words = [word for sentence in SENTENCES for word in sentence.split()]

    def draw() -> str:
        chosen = torch.randint(len(words), (6,), generator=generator)
        return " ".join(words[place] for place in chosen.tolist())

    return [Pair(f"{number} {draw()}", RUDE[number % 2], CIVIL[number % 2]) for number in range(count)]


def exchangeable_pairs(count: int = 200) -> list[Pair]:
    """Pairs whose sides are drawn alike, so that nothing tells them apart."""
    generator = torch.Generator().manual_seed(10)
    words = [word for sentence in SENTENCES for word in sentence.split()]

    def draw() -> str:
        chosen = torch.randint(len(words), (5,), generator=generator)
        return " " + " ".join(words[place] for place in chosen.tolist())

    return [Pair(f"{number}{draw()}", draw(), draw()) for number in range(count)]


def write_pairs(file: Path, pairs: list[Pair]) -> PairSpec:
    file.write_text("".join(json.dumps(asdict(pair)) + "\n" for pair in pairs), encoding="utf-8")
    return PairSpec(str(file))


def give_directions(study: Study, directions: Mapping[str, torch.Tensor]) -> Study:
    """The study with other directions of its methods beside DeTox: method -> `[layers, hidden]`."""
    like = study.subspaces[0]
    parts = like.singular_values, like.mean_direction, like.polarity[:1]
    others = {
        method: tuple(ToxicSubspace(row[None].clone(), *(part.clone() for part in parts)) for row in rows)
        for method, rows in directions.items()
    }
    return replace(study, others=others)
