"""Robust DPO: DPO whose loss reckons with flipped labels (Chowdhury et al. 2024, arXiv 2403.00409)."""

from __future__ import annotations

from dataclasses import replace

from detox_engine.lab.baseline import BaselineKind, Made, Setup

MOST = 0.45
"""A share of flipped labels at which its loss, which divides by 1 − 2 × the share, still has a size."""


def make(setup: Setup) -> Made:
    """Where labels were flipped on purpose it is told the share: nobody knows it so well outside a laboratory."""
    from detox_engine.lab.dpo import record_training, train_or_load

    share = min(MOST, setup.flipped or setup.training.smoothing)
    plan = replace(setup.training, smoothing=0.0)
    found = train_or_load(setup.model, setup.pairs, plan, robust=share, folder=setup.folder, progress=setup.progress)
    return Made(found.adapter, record_training(found) | {"label_smoothing": share})


BASELINE = BaselineKind(
    name="robust-dpo",
    title="Robust DPO",
    sentence="DPO with a loss that reckons with flipped labels",
    make=make,
    packages=("trl", "peft"),
    learns=True,
    place=4,
)
