"""Hold a cluster's memory against the number of pairs: fit many generated pairs with two workers, and watch.

    .venv/bin/python -m tools.soak_cluster --pairs 200000

Prints the resident memory of this process and of each worker, in megabytes, as the pairs go by, and at the end how much
more each holds over the second half of the way than over the first.
"""

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.inputs import make_text, make_tokenizer
from detox_engine.cluster.crew import open_crew
from detox_engine.data.stream import open_pairs
from detox_engine.model.load import load_model
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.shared.cluster import LOCAL, ClusterPlan
from detox_engine.plans.sources import ModelSpec, PairSpec
from detox_engine.study.fit import fit_study

TOKENS = 6
"""Of a text: what grows with pairs is looked for, not with their length."""
PAGE = 4096


def write_model(folder: Path) -> Path:
    """A Llama of three layers and 32 dimensions with random weights."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    sizes = {"hidden_size": 32, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 4}
    network = AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=len(tokenizer), **sizes))
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_pairs(file: Path, count: int) -> Path:
    generator = torch.Generator().manual_seed(0)
    with file.open("w", encoding="utf-8") as lines:
        for number in range(count):
            sides = (f"w{number % 20_000} {make_text(TOKENS - 1, generator)}" for _ in range(2))
            lines.write(json.dumps(dict(zip(("toxic", "civil"), sides, strict=True))) + "\n")
    return file


def read_megabytes(process: int | str) -> float:
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * PAGE / 2**20


def run(
    pairs: Annotated[int, typer.Option("--pairs", help="Pairs to generate and fit.")] = 200_000,
    workers: Annotated[int, typer.Option("--workers", help="Workers of the cluster.")] = 2,
) -> None:
    """Fit generated pairs by workers and print what memory they hold."""
    with tempfile.TemporaryDirectory(prefix="detox-soak-") as place:
        folder = Path(place)
        file = write_pairs(folder / "pairs.jsonl", pairs)
        model = load_model(ModelSpec(str(write_model(folder / "model")), device="cpu"))
        spec = PairSpec(str(file))
        held: list[list[float]] = []
        with open_crew(ClusterPlan(LOCAL, workers), model) as crew:
            begin, shown = time.perf_counter(), 0

            def watch(stage: str, done: int, total: int) -> None:
                nonlocal shown
                if stage != "Embedding texts" or done < shown:
                    return
                shown = done + 2 * pairs // 40
                held.append([read_megabytes(process) for process in ("self", *crew.processes)])
                told = "  ".join(f"{each:6.0f}" for each in held[-1])
                print(
                    f"{done // 2:>9,} pairs  {time.perf_counter() - begin:6.0f} s  driver and workers, MB: {told}",
                    flush=True,
                )

            study = fit_study(model, FitPlan(spec, keep=4), watch, open_pairs(spec, file), crew=crew)
    spent = time.perf_counter() - begin
    assert study.pair_count == pairs == int(study.moments[0].count)
    first, second = held[len(held) // 8 : len(held) // 2], held[len(held) // 2 :]
    growth = [statistics.mean(late) - statistics.mean(early) for early, late in zip(zip(*first), zip(*second))]  # noqa: B905
    print(f"{pairs:,} pairs, {study.tokens:,} tokens in {spent:.0f} s, each pair counted once.")
    print("Second half less first, MB, driver and workers:", ", ".join(f"{each:+.1f}" for each in growth))


if __name__ == "__main__":
    typer.run(run)
