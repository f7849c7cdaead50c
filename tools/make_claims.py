"""Compute what the Claims page ships with: every lab on the bundled model and on SmolLM2-135M, as anyone can again.

    make claims

Each lab is the command that a person would type; a run that is stopped goes on where it was. SmolLM2 is measured on
fewer prompts and draws, and trained once, as its files say. The bundled model is too small for two threads to be of use
to it, so its labs run side by side, one to a core; the bench, which tells times and memory, runs alone.
"""

import argparse
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

from joblib import cpu_count

from detox_engine.data.bundled import CLAIMS
from detox_engine.lab.kept import LABS, ROOM, load_record
from detox_engine.lab.verdicts import judge_claims
from detox_engine.plans.sources import BUNDLED, SMOLLM2

ROOT = Path(__file__).parents[1]
WORK = ROOT / "build" / "claims"
SHIPPED = {BUNDLED: CLAIMS / "demo", SMOLLM2: CLAIMS / "smollm2"}
FEW = ("--limit-prompts", "30", "--dpo-steps", "25", "--learning-rates", "1e-3")
"""Of a real model on a CPU: training at each learning rate for each draw would take hours, so that of the bench's DPO,
which tried three, is taken."""
LABORATORIES = {
    BUNDLED: {
        "bench": ("bench",),
        "sample-size": ("lab", "sample-size"),
        "label-noise": ("lab", "label-noise"),
        "dpo-link": ("lab", "dpo-link"),
        "centring": ("lab", "centring"),
    },
    SMOLLM2: {
        "bench": ("bench", "--dpo-steps", "25", "--cost", "kl", "--limit-prompts", "30", "--controls", "2"),
        "sample-size": ("lab", "sample-size", *FEW, "--draws", "2", "--sizes", "10,50,200"),
        "label-noise": ("lab", "label-noise", *FEW, "--draws", "1", "--flipped", "0.25,0.5"),
        "dpo-link": (
            *("lab", "dpo-link", "--at-steps", "0,10,50", "--few", "5,20", "--draws", "2"),
            *("--learning-rates", "1e-3"),
        ),
        "centring": ("lab", "centring", "--ranks", "1,4", "--limit-prompts", "30"),
    },
}
"""Model -> lab -> the command that computes it, the study left out."""


ALONE = "bench"
LONGEST_FIRST = ("label-noise", "sample-size", "dpo-link", "centring")


def run(*words: str, threads: int | None = None) -> None:
    """One command, on as many threads; on all of them where None."""
    print("$ detox", *words, flush=True)
    command = [sys.executable, "-m", "detox_engine", *words]
    limits = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, env=os.environ | limits)


def compute(model: str, labs: list[str]) -> None:
    """The study of a model and its labs, and their records where the page finds them."""
    study = WORK / model
    if not (study / "study.json").is_file():
        run("fit", "--model", model, "--out", str(study))
    if model != BUNDLED:
        for lab in labs:
            compute_lab(model, lab)
        return
    if ALONE in labs:
        compute_lab(model, ALONE, threads=1)
    with ThreadPoolExecutor(cpu_count()) as cores:
        others = [lab for lab in LONGEST_FIRST if lab in labs]
        list(cores.map(lambda lab: compute_lab(model, lab, threads=1), others))


def compute_lab(model: str, lab: str, threads: int | None = None) -> None:
    """One lab of a study, and its record where the page finds it."""
    start = perf_counter()
    study, shipped = WORK / model, SHIPPED[model] / ROOM
    (*command,) = LABORATORIES[model][lab]
    place = 1 if command[0] == "bench" else 2
    run(*command[:place], str(study), *command[place:], "--json", threads=threads)
    print(f"{model}, {lab}: {perf_counter() - start:.0f} s", flush=True)
    shipped.mkdir(parents=True, exist_ok=True)
    shutil.copy(study / ROOM / f"{lab}.json", shipped / f"{lab}.json")


def show(model: str) -> None:
    """The verdicts of what is shipped for a model."""
    records = {lab: load_record(SHIPPED[model], lab) for lab in LABS}
    for claim in judge_claims(records):
        print(f"{model}, {claim.name}: {claim.verdict}. {claim.told}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", choices=LABORATORIES, action="append", help="Only this model.")
    parser.add_argument("--lab", choices=LABS, action="append", help="Only this lab.")
    parser.add_argument("--show", action="store_true", help="Compute nothing; print the verdicts of what is shipped.")
    asked = parser.parse_args()
    for model in asked.model or LABORATORIES:
        if not asked.show:
            compute(model, asked.lab or list(LABS))
        show(model)


if __name__ == "__main__":
    main()
