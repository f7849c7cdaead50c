"""Two workers of a cluster beside one, on the same pairs; each has one core."""

import json
import statistics
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.inputs import make_model, make_pairs
from benchmarks.side_by_side import Figure, median_ratio, time_sides
from detox_engine.cluster.crew import Crew, open_crew
from detox_engine.data.stream import open_pairs
from detox_engine.model.load import OpenModel, load_model
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.shared.cluster import LOCAL, ClusterPlan
from detox_engine.plans.sources import ModelSpec, PairSpec
from detox_engine.study.fit import fit_pairs


def save_model(shape: str, folder: Path) -> OpenModel:
    """A model of that shape where workers find it."""
    made = make_model(shape)
    made.network.save_pretrained(folder)
    made.tokenizer.save_pretrained(folder)
    return load_model(ModelSpec(str(folder), device="cpu"))


def fit_with(crew: Crew, workers: int, model: OpenModel, file: Path) -> None:
    members, crew.members = crew.members, crew.members[:workers]
    try:
        spec = PairSpec(str(file))
        fit_pairs(model, FitPlan(spec, keep=8), open_pairs(spec, file), crew=crew)
    finally:
        crew.members = members


def benchmark_workers(shape: str, pairs: int, rounds: int) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="detox-benchmark-") as place:
        file = Path(place) / "pairs.jsonl"
        rows = ({"toxic": pair.toxic, "civil": pair.civil} for pair in make_pairs(pairs))
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        model = save_model(shape, Path(place) / "model")
        with open_crew(ClusterPlan(LOCAL, 2), model) as crew:
            sides = {f"{count}": partial(fit_with, crew, count, model, file) for count in (2, 1)}
            seconds = time_sides(sides, rounds)
    name = f"{pairs} pairs by two workers / by one, {shape}"
    speed = Figure(f"pairs a second by two workers, {shape}", pairs / statistics.median(seconds["2"]), "")
    return [Figure(name, median_ratio(seconds, "2", "1"), "×", 0.75, 0.6, seconds), speed]


def measure(quick: bool) -> list[Figure]:
    return benchmark_workers("gpt2", 32, 1) if quick else benchmark_workers("gpt2", 128, 2)
