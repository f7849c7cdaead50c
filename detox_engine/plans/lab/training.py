"""How a model is trained on pairs by Direct Preference Optimization (Rafailov et al. 2023, arXiv 2305.18290)."""

from __future__ import annotations

from dataclasses import dataclass

from detox_engine.errors import InputError
from detox_engine.plans.option import numbers, option


@dataclass(frozen=True)
class TrainingPlan:
    """DPO by a LoRA on every linear module of the blocks; the civil text is preferred to the toxic one."""

    learning_rates: tuple[float, ...] = option(
        (1e-4, 3e-4, 1e-3),
        "Learning rates that DPO tries, such as 1e-4,1e-3; the one with the lowest loss on held-out pairs is taken.",
        "--learning-rates",
        form=numbers(float, "learning rates"),
    )
    steps: int = option(40, "Steps of DPO at each learning rate, at most.", "--dpo-steps", low=1, high=10_000)
    batch: int = option(8, "Pairs in a step of DPO.", "--dpo-batch", low=1, high=1024)
    beta: float = option(
        0.1, "DPO's β: how much a step away from the unedited model has to gain.", "--beta", low=1e-3, high=10.0
    )
    lora_rank: int = option(16, "Rank of the LoRA that DPO trains.", "--lora-rank", low=1, high=1024)
    smoothing: float = option(
        0.1,
        "The share of flipped labels that robust DPO reckons with, 0 to 0.49.",
        "--label-smoothing",
        low=0.0,
        high=0.49,
    )
    seed: int = option(0, "Seed of DPO: of its LoRA, its order of pairs, and those held out.", "--dpo-seed", low=0)

    def __post_init__(self) -> None:
        if not self.learning_rates or any(not 0 < rate < 1 for rate in self.learning_rates):
            raise InputError("DPO needs a learning rate between 0 and 1, such as 0.0003.")
        if min(self.steps, self.batch, self.lora_rank) < 1:
            raise InputError("DPO takes 1 step or more, with 1 pair or more, of rank 1 or more.")
        if not 0 < self.beta <= 10:
            raise InputError(f"DPO's β lies above 0 and at most at 10, not at {self.beta:g}.")
        if not 0 <= self.smoothing < 0.5:
            raise InputError(
                f"Robust DPO reckons with a share of flipped labels from 0 to below 0.5, not {self.smoothing:g}."
            )
