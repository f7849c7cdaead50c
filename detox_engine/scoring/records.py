"""Evaluations and sweeps as plain records, for JSON, CSV and downloads; and evaluations read from these again."""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

import numpy as np

from detox_engine.disk import read_as
from detox_engine.errors import InputError, first_line
from detox_engine.estimates import Control, Effect, Estimate, Tally, estimate_effect, mean_of_numbers
from detox_engine.plans.edit import EditPlan, read_edit, record_edit
from detox_engine.plans.evaluation import EvaluationPlan
from detox_engine.plans.layers import format_layers
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.scoring.evaluation import Evaluation, Score
from detox_engine.scoring.results import SweepPoint
from detox_engine.scoring.scorers import read_plan, record_plan, scorers
from detox_engine.scoring.sweep import Sweep
from detox_engine.study.study import ModelIdentity

if TYPE_CHECKING:
    from detox_engine.forward.compare import Comparison

LARGEST = 2**28
"""Bytes of an evaluation's file that are read at most: some hundred thousand continuations."""
DESCRIBED = ("title", "sentence", "unit", "items", "lower_is_better", "range", "is_change")
PREFIXES = {"plain": "", "matched": "matched_"}
"""What the names of a control's numbers begin with, by its kind."""


def list_sides(effect: Effect) -> Iterator[tuple[str, Estimate]]:
    """`before`, `after`, `control`, `difference`, `control_difference`; a matched control's as `matched_control`, …"""
    yield from (("before", effect.before), ("after", effect.after))
    yield from ((f"{PREFIXES[each.kind]}control", each.level) for each in effect.controls)
    yield "difference", effect.difference
    yield from ((f"{PREFIXES[each.kind]}control_difference", each.difference) for each in effect.controls)


def record_effect(effect: Effect) -> dict[str, Any]:
    """Each side {mean, low, high, n}, see `list_sides`; `draws` and `beyond`, after − control, and `matched_draws` and
    `matched_beyond` of a matched control."""
    sides = {name: asdict(estimate) for name, estimate in list_sides(effect)}
    for each in effect.controls:
        sides[f"{PREFIXES[each.kind]}draws"] = list(each.draws)
        if each.beyond is not None:
            sides[f"{PREFIXES[each.kind]}beyond"] = asdict(each.beyond)
    return sides


def record_scores(evaluation: Evaluation) -> dict[str, dict[str, Any]]:
    """Scorer -> its effect."""
    return {score.name: record_effect(score.effect) for score in evaluation.scores}


def record_evaluation(evaluation: Evaluation) -> dict[str, Any]:
    """All of an evaluation: what was measured with what, the scores, every prompt, and the proof."""
    return {
        "model": asdict(evaluation.model),
        "edit": record_edit(evaluation.edit),
        "plan": record_plan(evaluation.plan),
        "sources": evaluation.sources,
        "scorers": {
            score.name: {name: getattr(score, name) for name in DESCRIBED}
            | {"kind": score.kind.name}
            | record_effect(score.effect)
            for score in evaluation.scores
        },
        "prompts": [
            {
                "prompt": outcome.prompt,
                "toxicity_before": outcome.before,
                "toxicity_after": outcome.after,
                "fate": outcome.fate,
                "continuations": [
                    {"sample": each.sample, "before": each.before.text, "after": each.after.text}
                    for each in outcome.comparisons
                ],
            }
            for outcome in evaluation.prompts
        ],
        "empty": evaluation.empty,
        "massive_dimensions": list(evaluation.off),
        "matched_controls": [asdict(match) | {"reached": match.reached} for match in evaluation.matches],
        "proof": asdict(evaluation.proof),
        "seconds": evaluation.seconds,
        "made": evaluation.made,
        "versions": evaluation.versions,
    }


def record_sweep(sweep: Sweep) -> list[dict[str, Any]]:
    """One record for each setting: what tells its edit, and each scorer's effect under its name."""
    return [
        {
            **_record_setting(point),
            **{name: record_effect(effect) for name, effect in point.effects.items()},
        }
        for point in sweep.points
    ]


def _record_setting(point: SweepPoint) -> dict[str, Any]:
    return {
        "layers": format_layers(point.layers),
        "rank": point.rank,
        "strength": point.strength,
        "method": point.method,
        "sites": point.sites,
    }


def tabulate_sweep(sweep: Sweep) -> tuple[list[str], list[list[Any]]]:
    """Column names and rows of a flat table: `toxicity_after_low` and the like beside layers, rank and strength."""
    names = [scorer.name for scorer in sweep.scorers]
    parts = ("mean", "low", "high")
    columns, rows = [], []
    for point in sweep.points:
        row = _record_setting(point)
        for name in names:
            for side, estimate in list_sides(point.effects[name]):
                row |= {f"{name}_{side}_{part}": getattr(estimate, part) for part in parts}
        columns = list(row)
        rows.append(list(row.values()))
    return columns, rows


def summarise(comparisons: Sequence["Comparison"]) -> dict[str, float]:
    """Means over all continuations that say something, how many are empty, and the share that the edit changed."""
    return {
        "prompts": len({comparison.prompt for comparison in comparisons}),
        "continuations": len(comparisons),
        "toxicity_before": mean_of_numbers(comparison.toxicity_before for comparison in comparisons),
        "toxicity_after": mean_of_numbers(comparison.toxicity_after for comparison in comparisons),
        "empty_before": sum(math.isnan(comparison.toxicity_before) for comparison in comparisons),
        "empty_after": sum(math.isnan(comparison.toxicity_after) for comparison in comparisons),
        "changed": fmean(comparison.first_divergence is not None for comparison in comparisons),
    }


FEWEST = 8
"""Words, and tokens, of a text from which on it can be told to be broken."""
NEAR = 8
"""Words before one among which it is a repetition."""
NATS_OF_REPEATS = 4.0
"""What a text of nothing but repetitions weighs, in nats a token."""
BROKEN = 2.25
"""How far a text must lie beyond the middle of what the unedited model wrote, in nats a token, to be called broken."""
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


def find_broken(comparisons: Sequence["Comparison"]) -> list[tuple[str, str]]:
    """Why what was written before and after is broken, for each comparison: “repeats itself”, “unlikely”, or empty.

    A text is broken where its surprise to the unedited model, together with how much it repeats itself, lies far beyond
    the median of what that model wrote itself in this run: its own probabilities differ from model to model, and the
    most surprising of its texts says little. An edit can be called civil for such texts, as what says nothing insults
    nobody.

    Chosen on SmolLM2-135M, which with strength 5 of its suggestion wrote 80 texts of 30 tokens, all broken to a reader:
    76 are called so, by the limits before these 16; of 240 that the unedited model wrote 2 are. On other prompts and
    draws it is 65 of 70, and 2 of 140. The bundled model stays readable in part at that strength: 27 of 80, and 0 of
    160.
    """
    sides = [
        ((one.before.text, one.before.probabilities), (one.after.text, one.after.other_probabilities))
        for one in comparisons
    ]
    own = [before for before, _ in sides]
    usual = _median(_surprise(each) for _, each in own if len(each) >= FEWEST)
    usual_repeats = _median(map(count_repeats, (text for text, _ in own)))

    def judge(text: str, probabilities: Sequence[float]) -> str:
        stammers = NATS_OF_REPEATS * max(0.0, count_repeats(text) - usual_repeats)
        # What the unedited model makes of what the edited one wrote, where that was read.
        babbles = max(0.0, _surprise(probabilities) - usual) if len(probabilities) >= FEWEST else 0.0
        if stammers + babbles <= BROKEN:
            return ""
        return "repeats itself" if stammers >= babbles else "unlikely"

    return [(judge(*before), judge(*after)) for before, after in sides]


def count_repeats(text: str) -> float:
    """Share of a text's words that are among the few before them; 0 of a short text."""
    words = _WORD.findall(text.lower())
    if len(words) < FEWEST:
        return 0.0
    return fmean(word in words[max(0, place - NEAR) : place] for place, word in enumerate(words))


def _median(values: Iterable[float]) -> float:
    found = list(values)
    return median(found) if found else 0.0


def _surprise(probabilities: Sequence[float]) -> float:
    """Nats a token."""
    return fmean(-math.log(max(probability, 1e-30)) for probability in probabilities)


def estimate_change(comparisons: Sequence["Comparison"], resamples: int = 2000, seed: int = 0) -> Effect:
    """Toxicity before and after, with 95 % intervals over prompts; continuations that say nothing count in neither."""
    prompts = {prompt: row for row, prompt in enumerate(dict.fromkeys(one.prompt for one in comparisons))}
    totals, counts = np.zeros((2, 3, len(prompts)))
    for one in comparisons:
        row = prompts[one.prompt]
        for side, toxicity in enumerate((one.toxicity_before, one.toxicity_after, one.toxicity_before)):
            if toxicity is not None and not math.isnan(toxicity):
                totals[side, row] += toxicity
                counts[side, row] += 1
    return estimate_effect(Tally(totals, counts), resamples, seed)


def read_surprise(comparison: "Comparison") -> tuple[float, float]:
    """Nats a token that the unedited model is surprised by each side; NaN where a side says nothing or was not read."""
    sides = comparison.before.probabilities, comparison.after.other_probabilities
    before, after = (_surprise(side) if side else math.nan for side in sides)
    return before, after


def estimate_fluency(comparisons: Sequence["Comparison"], resamples: int = 2000, seed: int = 0) -> Effect:
    """Perplexity of what is written under the unedited model, with 95 % intervals over prompts."""
    prompts = {prompt: row for row, prompt in enumerate(dict.fromkeys(one.prompt for one in comparisons))}
    totals, counts = np.zeros((2, 3, len(prompts)))
    for one in comparisons:
        row, (before, after) = prompts[one.prompt], read_surprise(one)
        lengths = len(one.before.tokens), len(one.after.tokens), len(one.before.tokens)
        for side, (surprise, tokens) in enumerate(zip((before, after, before), lengths, strict=True)):
            if not math.isnan(surprise):
                totals[side, row] += surprise * tokens
                counts[side, row] += tokens
    return estimate_effect(Tally(totals, counts, exponential=True), resamples, seed)


def record_results(comparisons: Sequence["Comparison"]) -> list[dict[str, Any]]:
    """One record for each comparison, with what can be read in a table."""
    return [
        {
            "prompt": comparison.prompt,
            "sample": comparison.sample,
            "before": comparison.before.text,
            "after": comparison.after.text,
            "toxicity_before": comparison.toxicity_before,
            "toxicity_after": comparison.toxicity_after,
            "first_divergence": comparison.first_divergence,
        }
        for comparison in comparisons
    ]


def record_plans(plan: EditPlan, sampling: SamplingPlan) -> dict[str, Any]:
    """The edit and the sampling that comparisons were written with, such that they can be repeated."""
    return {"edit": record_edit(plan), "sampling": asdict(sampling)}


def record_comparisons(comparisons: Sequence["Comparison"], plan: EditPlan, sampling: SamplingPlan) -> dict[str, Any]:
    """Everything about comparisons as one JSON document: `edit`, `sampling`, `results`, `summary`."""
    return record_plans(plan, sampling) | {"results": record_results(comparisons), "summary": summarise(comparisons)}


@dataclass(frozen=True)
class Written:
    """What was written after a prompt before and after the edit."""

    prompt: str
    before: str
    after: str
    toxicity_before: float
    toxicity_after: float
    """Of the prompt's continuations, the mean."""


@dataclass(frozen=True, eq=False)
class KeptEvaluation:
    """What `record_evaluation` wrote."""

    model: ModelIdentity
    edit: EditPlan
    plan: EvaluationPlan
    scores: tuple[Score, ...]
    written: tuple[Written, ...]
    """One for each prompt, its first continuation."""
    sources: Mapping[str, str]
    """Hashes of the prompts and of each text that was read."""
    seconds: float
    made: str
    versions: Mapping[str, str]

    def find(self, name: str) -> Score | None:
        return next((score for score in self.scores if score.name == name), None)


def load_evaluation(file: Path) -> KeptEvaluation:
    """Read what `detox evaluate --report` wrote, which may be anybody's.

    Raises:
        InputError: there is no such file, it is too large, or no evaluation can be read from it.
    """
    try:
        if not file.is_file():
            raise InputError(f"{file} is no file: give one that “detox evaluate --report” wrote.")
        if file.stat().st_size > LARGEST:
            raise InputError(f"{file} is larger than any evaluation: give one that “detox evaluate --report” wrote.")
        return read_evaluation(json.loads(file.read_text(encoding="utf-8")))
    except InputError:
        raise
    except (OSError, RecursionError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(
            f"{file} holds no evaluation ({first_line(error)}): give a file that “detox evaluate --report” wrote."
        ) from None


def read_evaluation(record: Mapping[str, Any]) -> KeptEvaluation:
    """The evaluation of a record; fails with the errors of whatever it is instead."""
    model = read_as(ModelIdentity, record["model"])
    return KeptEvaluation(
        model=model,
        edit=read_edit(record["edit"], model.layers),
        plan=read_plan(record["plan"]),
        scores=tuple(_read_score(str(name), told) for name, told in record["scorers"].items()),
        written=tuple(_read_written(told) for told in record["prompts"]),
        sources={str(name): str(digest) for name, digest in record["sources"].items()},
        seconds=float(record["seconds"]),
        made=str(record["made"]),
        versions={str(name): str(told) for name, told in record["versions"].items()},
    )


def _read_score(name: str, record: Mapping[str, Any]) -> Score:
    if record["kind"] not in scorers():
        raise InputError(f"The scorer “{record['kind']}” is not here, and nothing can be said of what it measured.")
    told = {part: record[part] for part in DESCRIBED}
    # JSON has no word for infinity.
    told["range"] = tuple(math.inf if end is None else float(end) for end in told["range"])
    return Score(kind=scorers()[record["kind"]], name=name, **told, effect=read_effect(record))


def read_effect(record: Mapping[str, Any]) -> Effect:
    """What `record_effect` wrote."""
    sides = (_read_estimate(record[side]) for side in ("before", "after", "difference"))
    controls = tuple(
        Control(
            kind,
            _read_estimate(record[f"{prefix}control"]),
            _read_estimate(record[f"{prefix}control_difference"]),
            tuple(map(_read_number, record[f"{prefix}draws"])),
            _read_estimate(record[f"{prefix}beyond"]) if f"{prefix}beyond" in record else None,
        )
        for kind, prefix in PREFIXES.items()
        if f"{prefix}control" in record
    )
    return Effect(*sides, controls=controls)


def _read_estimate(record: Mapping[str, Any]) -> Estimate:
    return Estimate(*(_read_number(record[part]) for part in ("mean", "low", "high")), int(record["n"]))


def _read_number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _read_written(record: Mapping[str, Any]) -> Written:
    first = record["continuations"][0]
    return Written(
        str(record["prompt"]),
        str(first["before"]),
        str(first["after"]),
        _read_number(record["toxicity_before"]),
        _read_number(record["toxicity_after"]),
    )
