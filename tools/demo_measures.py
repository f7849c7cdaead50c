"""The measurements behind the demo model's card; every number comes out of the engine itself."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from detox_engine.data.columns import Pair
from detox_engine.data.pairs import read_pairs
from detox_engine.edit.in_pass import edited
from detox_engine.edit.low_rank import LowRankEdit, make_edit
from detox_engine.forward.compare import generate
from detox_engine.forward.embed import embed_pairs
from detox_engine.forward.embedded_pairs import Embeddings
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.plans.sources import ModelSpec, PairSpec
from detox_engine.reading.lens import read_tokens
from detox_engine.scoring.scorers.profanity import ProfanityScorer
from detox_engine.study.methods import fit_subspaces
from detox_engine.study.subspace import ToxicSubspace, decompose
from detox_engine.workbench import Workbench

KEEP = 8
CHUNK = 8
"""How many edits share one run of the prompts; bounds the memory."""


@dataclass(frozen=True)
class Figure:
    """A mean and its 95 % bootstrap interval."""

    value: float
    low: float
    high: float
    n: int


@dataclass
class Bench:
    """The model, the texts to measure on, and the embeddings of all pairs."""

    workbench: Workbench
    pairs: tuple[Pair, ...]
    hostile: list[str]
    plain: list[str]
    civil: list[str]
    sampling: SamplingPlan
    embeddings: Embeddings

    @property
    def layers(self) -> int:
        return self.workbench.model.anatomy.layers

    def embed(self, pairs: Sequence[Pair]) -> Embeddings:
        return embed_pairs(self.workbench.model, pairs)

    def fit(self, embeddings: Embeddings | None = None) -> tuple[ToxicSubspace, ...]:
        chosen = embeddings or self.embeddings
        return fit_subspaces(chosen.toxic, chosen.civil, KEEP)


def open_bench(model: Path, data: Path, sampling: SamplingPlan, limit: int | None = None) -> Bench:
    workbench = Workbench.load(ModelSpec(name=str(model)))
    pairs = read_pairs(PairSpec(source=str(data / "pairs.jsonl")), data / "pairs.jsonl").pairs[:limit]
    texts = [
        (data / f"{name}.txt").read_text("utf-8").splitlines()[:limit]
        for name in ("hostile_prompts", "plain_prompts", "civil_scenes")
    ]
    return Bench(workbench, pairs, *texts, sampling, embed_pairs(workbench.model, pairs))


def score_toxicity(bench: Bench, prompts: Sequence[str], edits: Sequence[LowRankEdit | None]) -> np.ndarray:
    """Toxicity of the continuations, `[edits, prompts]`; all edits draw with the same luck."""
    score = ProfanityScorer().score
    rows = []
    for start in range(0, len(edits), CHUNK):
        chunk = edits[start : start + CHUNK]
        written = generate(bench.workbench.model, prompts, chunk, bench.sampling)
        rows += [score([sample[0][k].text for sample in written]) for k in range(len(chunk))]
    return np.array(rows)


@torch.inference_mode()
def score_perplexity(bench: Bench, edit: LowRankEdit | None) -> np.ndarray:
    """Of every civil scene its summed negative log-likelihood and its number of predicted tokens, `[2, scenes]`."""
    model, parts = bench.workbench.model, []
    for start in range(0, len(bench.civil), 40):
        texts = bench.civil[start : start + 40]
        batch = model.tokenizer(
            texts, padding=True, padding_side="right", truncation=True, max_length=model.context, return_tensors="pt"
        )
        ids, mask = batch["input_ids"], batch["attention_mask"]
        with edited(bench.workbench.model.anatomy, [edit] * len(texts)):
            logits = model.network(input_ids=ids, attention_mask=mask, use_cache=False).logits.float()
        losses = torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none")
        real = mask[:, 1:]
        parts.append(torch.stack([(losses * real).sum(1), real.sum(1).float()]).numpy())
    return np.concatenate(parts, axis=1)


def bootstrap(statistic: Callable[..., float], *columns: np.ndarray, draws: int = 2000, seed: int = 0) -> Figure:
    """`statistic` of the columns, with the interval over resampled last axes; columns are resampled together."""
    generator = np.random.default_rng(seed)
    count = columns[0].shape[-1]
    values = []
    for _ in range(draws):
        chosen = generator.integers(0, count, count)
        values.append(statistic(*(column[..., chosen] for column in columns)))
    low, high = np.quantile(values, (0.025, 0.975))
    return Figure(float(statistic(*columns)), float(low), float(high), count)


def ratio_of_means(before: np.ndarray, after: np.ndarray) -> float:
    return float(after.mean() / before.mean())


def ratio_of_perplexities(before: np.ndarray, after: np.ndarray) -> float:
    return math.exp(after[0].sum() / after[1].sum() - before[0].sum() / before[1].sum())


def random_edits(bench: Bench, plan: EditPlan, draws: int) -> list[LowRankEdit]:
    """Edits with the same layers and rank along directions that mean nothing."""
    edits = []
    for seed in range(draws):
        generator = torch.Generator().manual_seed(seed)
        bases = {
            layer: torch.linalg.qr(
                torch.randn(bench.workbench.model.anatomy.hidden, plan.rank, generator=generator)
            ).Q.T
            for layer in plan.layers
        }
        edits.append(LowRankEdit({layer: basis.contiguous() for layer, basis in bases.items()}))
    return edits


def share_of_rude_tokens(
    bench: Bench, subspaces: Sequence[ToxicSubspace], layers: Sequence[int], rude: frozenset[str]
) -> dict[int, float]:
    """For each layer: how many of the ten tokens at the toxic pole of its first direction are rude words."""
    shares = {}
    for layer in layers:
        reading = read_tokens(subspaces[layer].basis[:1], bench.workbench.model, 10, "product")
        words = [score.token.strip("·").lower() for score in reading[0].toxic_pole]
        shares[layer] = sum(word in rude for word in words) / len(words)
    return shares


def uncentred(embeddings: Embeddings, plan: EditPlan) -> LowRankEdit:
    """The edit from plain differences, without step 3 of the method."""
    bases = {
        layer: decompose(embeddings.toxic[layer].double() - embeddings.civil[layer].double(), plan.rank)[1].float()
        for layer in plan.layers
    }
    return LowRankEdit(bases)


def edit_from_few(bench: Bench, plan: EditPlan, count: int, seed: int) -> LowRankEdit:
    chosen = random.Random(seed).sample(range(len(bench.pairs)), min(count, len(bench.pairs)))
    few = replace(bench.embeddings, toxic=bench.embeddings.toxic[:, chosen], civil=bench.embeddings.civil[:, chosen])
    return make_edit(bench.fit(few), plan)


def edit_from_flipped(bench: Bench, plan: EditPlan, seed: int) -> LowRankEdit:
    """The edit from the same pairs, half of them with toxic and civil exchanged."""
    flipped = random.Random(seed).sample(range(len(bench.pairs)), len(bench.pairs) // 2)
    toxic, civil = bench.embeddings.toxic.clone(), bench.embeddings.civil.clone()
    toxic[:, flipped], civil[:, flipped] = bench.embeddings.civil[:, flipped], bench.embeddings.toxic[:, flipped]
    return make_edit(bench.fit(replace(bench.embeddings, toxic=toxic, civil=civil)), plan)


def weights_size(model: Path) -> float:
    """Megabytes (10^6 bytes) of the weights on disk."""
    return sum(file.stat().st_size for file in model.glob("*.safetensors")) / 1e6


def read_defaults(data: Path) -> tuple[str, int]:
    defaults = json.loads((data / "defaults.json").read_text("utf-8"))
    return defaults["layers"], defaults["rank"]
