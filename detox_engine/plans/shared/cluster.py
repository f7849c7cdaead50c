"""Who does the work: this process, or workers that share it by Ray."""

from __future__ import annotations

import re
from dataclasses import dataclass

from detox_engine.errors import InputError
from detox_engine.plans.option import option

LOCAL = "local"


@dataclass(frozen=True)
class ClusterPlan:
    """Where workers run, and how many."""

    cluster: str | None = option(
        None,
        "Share the work among workers that each load the model, by Ray: local starts it on this machine, and the "
        "address of one that runs, such as 10.0.0.1:6379, joins that.",
        "--cluster",
        usual="this process alone",
    )
    workers: int | None = option(
        None,
        "Workers of the cluster.",
        "--workers",
        low=1,
        usual="one for each GPU, or one for each machine where there is none",
    )

    def __post_init__(self) -> None:
        if self.cluster is None and self.workers is not None:
            raise InputError("Workers belong to a cluster: say where it is with --cluster, or leave --workers out.")
        if self.workers is not None and self.workers < 1:
            raise InputError(f"A cluster needs 1 worker or more, not {self.workers}.")
        if self.cluster not in (None, LOCAL) and not re.fullmatch(r"[^\s/]+:\d{1,5}", self.cluster):
            raise InputError(
                f"“{self.cluster}” is no cluster: write local, or the address of a running Ray with its port, such as "
                "10.0.0.1:6379."
            )
