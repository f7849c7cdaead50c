"""When a record was computed, where, and with what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from detox_engine.lab.baselines import baselines
from pages.claims.records import Found, real, words
from ui.words.text import escape

SOURCES = {
    "here": "computed here, and kept beside the study",
    "shipped": "comes with the project, for this very model and these pairs",
    "running": "of a run that is not over",
}
COSTS = {"kl": "KL on neutral text, nats a token", "perplexity": "rise of perplexity, as a share"}


def provenance_html(found: Found) -> str:
    """A list of what a record rests on."""
    rows = "".join(f"<dt>{escape(head)}</dt><dd>{escape(told)}</dd>" for head, told in list_facts(found))
    return f'<dl class="provenance">{rows}</dl>'


def list_facts(found: Found) -> Iterator[tuple[str, str]]:
    record = found.record
    yield "This record", SOURCES[found.source]
    yield "Computed", words(record["made"]).replace("T", " ").replace("+00:00", " UTC")
    yield "Model", f"{words(record['model']['name'])}, weights {words(record['model']['weights_hash'])[7:23]}…"
    count = record.get("pair_count", record.get("pairs"))
    pairs = [] if count is None else [f"{real(count):,.0f}"]
    if "pairs_hash" in record:
        pairs.append(f"hash {words(record['pairs_hash'])[7:23]}…")
    if pairs:
        yield "Pairs", ", ".join(pairs)
    if "cost" in record:
        yield "Cost of all", f"{COSTS[record['cost']]}: {real(record['wanted']):g}"
    if "evaluation" in record:
        yield "Measured with", _tell_evaluation(record["evaluation"])
    training = _find_training(record)
    if training:
        yield "DPO", _tell_training(training)
    yield "Seeds", ", ".join(f"{name} {value}" for name, value in _list_seeds(record, training))
    if record.get("seconds") is not None:
        yield "It took", f"{real(record['seconds']):,.0f} s"
    yield "Versions", ", ".join(f"{words(name)} {words(version)}" for name, version in record["versions"].items())


def _find_training(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """How DPO was trained for a record; nothing where it was not, though the plan says how it would have been."""
    if "along_training" in record:
        # The link trains at a rate of its own, up to the last step that it looks at.
        plan, along = record["plan"], record["along_training"]
        if not along:
            return {}
        own = {"learning_rates": (plan["learning_rate"],), "steps": along[-1]["step"], "seed": plan["seed"]}
        return plan["training"] | own
    compared = record["methods"] if "methods" in record else [point["method"] for point in record["points"]]
    trained = {name for name, kind in baselines().items() if kind.packages}
    return record["training"] if trained & {*compared} else {}


def _tell_evaluation(plan: Mapping[str, Any]) -> str:
    limit = plan["limit_prompts"]
    prompts = "all prompts" if limit is None else f"the first {real(limit):,.0f} prompts"
    return (
        f"{', '.join(map(words, plan['scorers']))}; {prompts} of {words(plan['prompts'])}, "
        f"{real(plan['sampling']['max_new_tokens']):.0f} tokens each"
    )


def _tell_training(plan: Mapping[str, Any]) -> str:
    rates = ", ".join(f"{real(rate):g}" for rate in plan["learning_rates"])
    return (
        f"at most {real(plan['steps']):,.0f} steps of {real(plan['batch']):,.0f} pairs, learning rates {rates}, β "
        f"{real(plan['beta']):g}, a LoRA of rank {real(plan['lora_rank']):.0f}"
    )


def _list_seeds(record: Mapping[str, Any], training: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    places = {
        "draws": record.get("draw_seed", record.get("plan", {}).get("seed")),
        "training": training.get("seed"),
        "continuations": record.get("evaluation", {}).get("sampling", {}).get("seed"),
        "controls and intervals": record.get("evaluation", {}).get("seed"),
    }
    yield from ((name, f"{real(seed):.0f}") for name, seed in places.items() if seed is not None)
