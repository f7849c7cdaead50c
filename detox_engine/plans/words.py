"""A plan as a record that can be kept and read back."""

from typing import Any

from detox_engine.plans.edit import EditPlan
from detox_engine.plans.layers import format_layers


def record_edit(plan: EditPlan) -> dict[str, Any]:
    """An edit for JSON; what only few edits have is left out of the others."""
    record = {"layers": format_layers(plan.layers), "rank": plan.rank, "strength": plan.strength}
    if plan.switched_off:
        record["switched_off"] = sorted(map(list, plan.switched_off))
    if plan.edit_bias:
        record["edit_bias"] = True
    return record
