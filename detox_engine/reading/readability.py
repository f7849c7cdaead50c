"""Whether a study's directions read as words at all: a finding about its pairs, with its number and its control."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from detox_engine.errors import Progress, ignore_progress
from detox_engine.model.load import OpenModel
from detox_engine.reading.causal import read_causally, run_clean
from detox_engine.reading.lens import FEWEST_READ
from detox_engine.study.findings import LEAST_PAIRS, PROBED, Finding
from detox_engine.study.study import Study

KIND = "readability"


def judge_readability(model: OpenModel, study: Study, progress: Progress = ignore_progress) -> Study:
    """The study, with a finding where its first directions, removed, change no words beyond chance.

    Read causally are the first directions of `PROBED` layers, evenly over the upper half; chance is the control of each
    of them, see `read_causally`. Of too few pairs nothing is said.

    Raises:
        InputError: the study is of another model, or its prompts cannot be read (see `run_clean`).
    """
    study.require_fit(model)
    others = tuple(finding for finding in study.findings if finding.kind != KIND)
    if study.pair_count < LEAST_PAIRS:
        return replace(study, findings=others)
    layers = sorted({round(float(layer)) for layer in np.linspace(study.layers // 2, study.layers - 1, PROBED)})
    clean = run_clean(model, layers, progress=progress)
    readings = [
        read_causally(model, clean, layer, study.subspaces[layer].basis[:1], 0, study.massive_dimensions, progress)[0]
        for layer in layers
    ]
    if any(reading.is_readable for reading in readings):
        return replace(study, findings=others)
    most, looked_at = max(reading.read for reading in readings), readings[0].tokens
    *lower, last = map(str, layers)
    where = f"layers {', '.join(lower)} and {last}" if lower else f"layer {last}"
    sentence = (
        f"Without the first directions of {where}, {most} of {looked_at:,} likely words become more or less probable "
        f"than chance explains, where {FEWEST_READ} make a direction readable: see on Directions in which texts they "
        "light up, or use pairs that differ in toxicity more than in anything else."
    )
    return replace(study, findings=(*others, Finding(KIND, float(most), sentence)))
