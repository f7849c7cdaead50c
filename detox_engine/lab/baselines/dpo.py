"""DPO: a LoRA trained to prefer the civil text of each pair; see `lab.dpo`."""

from __future__ import annotations

from detox_engine.lab.baseline import BaselineKind, Made, Setup


def make(setup: Setup) -> Made:
    from detox_engine.lab.dpo import record_training, train_or_load

    found = train_or_load(setup.model, setup.pairs, setup.training, folder=setup.folder, progress=setup.progress)
    return Made(found.adapter, record_training(found))


BASELINE = BaselineKind(
    name="dpo",
    title="DPO",
    sentence="a LoRA trained by Direct Preference Optimization on the same pairs (needs the extra dpo)",
    make=make,
    packages=("trl", "peft"),
    learns=True,
    whole=True,
    place=3,
)
