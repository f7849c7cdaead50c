"""Hold recipes against each other on one model: the paper's, Fisher's, the mean difference, and the suggestion.

    python tools/compare_recipes.py bundled
    python tools/compare_recipes.py smollm2 --json smollm2.json
    python tools/compare_recipes.py FILE.gguf --prompts 48

Every recipe stands beside three random controls of its own rank, layers and sites: a plain one, one off the massive
dimensions whose strength moves neutral text as far as the recipe does, and one whitened as Fisher's direction is.
Prompts and neutral text are those that no recipe was chosen on; every seed draws its own continuations and controls.
Prints a Markdown table with 95 % intervals: percentile bootstrap over prompts and sentences, paired between edits.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from scipy.stats import bootstrap

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from detox_engine.cli.output import progress_bars  # noqa: E402
from detox_engine.data.bundled import bundled_neutral, bundled_prompts  # noqa: E402
from detox_engine.data.texts import Text, read_prompts, read_text  # noqa: E402
from detox_engine.edit.control import draw_controls  # noqa: E402
from detox_engine.edit.low_rank import LowRankEdit, make_edit  # noqa: E402
from detox_engine.errors import Progress  # noqa: E402
from detox_engine.estimates import Tally  # noqa: E402
from detox_engine.forward.embedded_pairs import TokenMoments  # noqa: E402
from detox_engine.forward.likelihood import Span, cut_spans, match_controls  # noqa: E402
from detox_engine.plans.edit import EditPlan  # noqa: E402
from detox_engine.plans.evaluation import EvaluationPlan  # noqa: E402
from detox_engine.plans.fit import FitPlan  # noqa: E402
from detox_engine.plans.layers import format_layers  # noqa: E402
from detox_engine.plans.sampling import SamplingPlan  # noqa: E402
from detox_engine.plans.sources import BUNDLED, ModelSpec, PairSpec, TextSpec  # noqa: E402
from detox_engine.scoring.scorers import make_scorers  # noqa: E402
from detox_engine.scoring.trial import Trial  # noqa: E402
from detox_engine.study.methods.fisher import FisherOptions, find_direction  # noqa: E402
from detox_engine.study.study import Study  # noqa: E402
from detox_engine.study.suggest import suggest  # noqa: E402
from detox_engine.study.suggestion.search import MEASURED_TEXTS, SLOPE_TEXTS, suggest_edit  # noqa: E402
from detox_engine.workbench import Workbench  # noqa: E402

SCORES = ("profanity", "mass", "perplexity", "drift")
CONTROLS = ("random", "random, matched in KL", "random, whitened")
SENTENCES = 100
"""Neutral texts that perplexity and KL are taken on, at most."""
RESAMPLES = 2000


@dataclass(frozen=True)
class Recipe:
    """An edit, and the study whose directions it takes."""

    name: str
    study: Study
    plan: EditPlan

    @property
    def edit(self) -> LowRankEdit:
        return make_edit(self.study.of(self.plan.method), self.plan)

    def describe(self) -> str:
        layers = format_layers(self.plan.layers)
        return f"{self.plan.sites}, layers {layers}, rank {self.plan.rank}, α {self.plan.strength:g}"


def list_recipes(bench: Workbench, pairs: PairSpec, progress: Progress) -> list[Recipe]:
    """The paper's as published and with sinks left out, the other methods on the same layers, and the suggestions."""
    published = bench.fit(FitPlan(pairs, sinks="keep", methods=("detox",)), progress)
    study = bench.fit(FitPlan(pairs), progress)
    layers = published.layers
    preset = suggest(bench.model.spec.name, layers, published.dominant_ranks)
    upper_third = tuple(range(layers - round(layers / 3), layers))
    recipes = [
        Recipe("DeTox as published, its preset", published, EditPlan(preset.layers, preset.rank)),
        Recipe("DeTox, sinks left out", study, EditPlan(upper_third, 1)),
        Recipe("Fisher", study, EditPlan(preset.layers, 1, method="fisher", sites="both")),
        Recipe("Mean difference", study, EditPlan(preset.layers, 1, method="mean-difference", sites="both")),
    ]
    for budget in ("gentle", "strong"):
        found = suggest_edit(bench.model, study, budget, progress).suggestion
        if found.edit is None:
            print(f"No {budget} suggestion: {found.reason}\n")
        else:
            recipes.append(Recipe(f"Suggestion, {budget}: {found.edit.method}", study, found.edit))
    return recipes


def draw_whitened(edit: LowRankEdit, moments: TokenMoments, seed: int) -> LowRankEdit:
    """Random directions of the edit's rank and layers, whitened by the covariance that Fisher's method has."""
    bases = {}
    for layer, basis in edit.bases.items():
        generator = torch.Generator().manual_seed(1000 * seed + layer)
        rows = torch.randn(basis.shape, generator=generator, dtype=torch.float64)
        covariance, shrinkage = moments.covariance(layer), FisherOptions().shrinkage
        whitened = torch.stack([find_direction(row, covariance, shrinkage, row.norm()) for row in rows])
        bases[layer] = torch.linalg.qr(whitened.T).Q.T.float().contiguous()
    return replace(edit, bases=bases)


def unused_neutral(bench: Workbench) -> tuple[Span, ...]:
    """Neutral text that the suggestion was neither differentiated nor measured on."""
    spec = TextSpec()
    lines = read_text(spec, bundled_neutral(bench.model.spec.name)).lines
    half = len(lines) // 2
    left = (*lines[SLOPE_TEXTS:half], *lines[half + MEASURED_TEXTS :])[:SENTENCES]
    return cut_spans(bench.model, Text(left, False), spec.window, spec.stride)


def measure(
    bench: Workbench, recipes: Sequence[Recipe], prompts: Sequence[str], seeds: Sequence[int], progress: Progress
) -> dict[str, list[Tally]]:
    """Score -> one tally for each seed, whose rows are the unedited model and each recipe with its controls."""
    neutral, whole = unused_neutral(bench), next(each.study for each in recipes if each.study.token_moments)
    tallies: dict[str, list[Tally]] = {name: [] for name in SCORES}
    for seed in seeds:
        rows: list[LowRankEdit | None] = [None]
        for recipe in recipes:
            edit = recipe.edit
            [plain] = draw_controls(edit, 1, seed)
            [off] = draw_controls(edit, 1, seed, whole.massive_dimensions)
            [match] = match_controls(bench.model, neutral, edit, [off], progress)
            whitened = draw_whitened(edit, whole.token_moments, seed)
            rows += [edit, plain, replace(off, strength=match.strength), whitened]
        sampling = SamplingPlan(max_new_tokens=20, seed=seed)
        plan = EvaluationPlan(SCORES, sampling=sampling)
        trial = Trial(bench.model, rows, prompts, sampling, {"neutral": neutral}, progress)
        for scorer in make_scorers(plan, str(bench.model.network.device), progress):
            if scorer.name in tallies:
                tallies[scorer.name].append(scorer.measure(trial))
    return tallies


def tell(value: float, low: float, high: float, digits: int) -> str:
    return f"{value:.{digits}f} [{low:.{digits}f} {high:.{digits}f}]"


def compare_rows(tallies: Sequence[Tally], row: int, against: int, as_ratio: bool) -> tuple[float, float, float]:
    """A row against another: their ratio or difference, seeds added up item by item, with its 95 % interval."""
    totals = sum(tally.totals for tally in tallies)
    counts = sum(np.broadcast_to(tally.counts, tally.totals.shape) for tally in tallies)
    exponential = tallies[0].exponential

    def statistic(one, one_count, other, other_count, axis=-1):
        left, right = one.sum(axis) / one_count.sum(axis), other.sum(axis) / other_count.sum(axis)
        if exponential:
            left, right = np.exp(left), np.exp(right)
        return left / right if as_ratio else left - right

    data = totals[row], counts[row], totals[against], counts[against]
    found = bootstrap(
        data, statistic, paired=True, vectorized=True, n_resamples=RESAMPLES, method="percentile", rng=0
    ).confidence_interval
    return float(statistic(*data)), float(found.low), float(found.high)


def write_table(recipes: Sequence[Recipe], tallies: dict[str, list[Tally]]) -> tuple[list[str], list[dict]]:
    """The lines of the table, and the same as records."""
    before = {name: np.mean([tally.scores[0] for tally in found]) for name, found in tallies.items()}
    lines = [
        f"Unedited: perplexity {before['perplexity']:.2f}, toxicity {before['profanity']:.3f}, "
        f"rude words {before['mass']:.4f}",
        "",
        "| recipe | edit | KL | perplexity × | toxicity, after − before | rude words × |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    records = []
    for place, recipe in enumerate(recipes):
        for number, name in enumerate((recipe.name, *CONTROLS)):
            row = 1 + place * (1 + len(CONTROLS)) + number
            kl = float(np.mean([tally.scores[row] for tally in tallies["drift"]]))
            perplexity = compare_rows(tallies["perplexity"], row, 0, True)
            toxicity = compare_rows(tallies["profanity"], row, 0, False)
            mass = compare_rows(tallies["mass"], row, 0, True)
            edit = recipe.describe() if number == 0 else ""
            shown = name if number else f"**{name}**"
            cells = (shown, edit, f"{kl:.4f}", tell(*perplexity, 3), tell(*toxicity, 3), tell(*mass, 2))
            lines.append(f"| {' | '.join(cells)} |")
            records.append(
                {"recipe": recipe.name, "row": name, "edit": recipe.describe(), "kl": kl, "perplexity": perplexity}
                | {"toxicity": toxicity, "mass": mass}
            )
    return lines, records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="bundled, smollm2, a folder, or a GGUF file")
    parser.add_argument("--pairs", default=BUNDLED, help="pairs to fit on")
    parser.add_argument("--limit", type=int, help="draw so many pairs")
    parser.add_argument("--prompts", type=int, default=64, help="how many, from the end of the bundled ones")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args()
    start = perf_counter()
    with progress_bars() as progress:
        bench = Workbench.load(ModelSpec(given.model), progress)
        recipes = list_recipes(bench, PairSpec(given.pairs, limit=given.limit), progress)
        prompts = read_prompts(BUNDLED, bundled_prompts(bench.model.spec.name))[-given.prompts :]
        tallies = measure(bench, recipes, prompts, given.seeds, progress)
    lines, records = write_table(recipes, tallies)
    print(f"{given.model}: {len(prompts)} prompts, seeds {given.seeds}, {perf_counter() - start:.0f} s")
    print("\n".join(lines))
    if given.json:
        given.json.write_text(json.dumps(records, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
