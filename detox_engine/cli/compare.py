"""`detox compare`: what a model writes before and after an edit."""

from typing import Annotated

import typer

from detox_engine.cli import output
from detox_engine.cli.options import (
    Device,
    Dtype,
    Json,
    Layers,
    Rank,
    Strength,
    StudyFolder,
    StudyModel,
    SwitchedOff,
    load_study,
    load_workbench,
    option_of,
    plan_edit,
    read_prompts_for,
)
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.measure import SamplingPlan
from detox_engine.plans.sources import ModelSpec
from detox_engine.scoring.records import record_comparisons


def compare(
    study: StudyFolder,
    layers: Layers = None,
    rank: Rank = None,
    strength: Strength = EditPlan.strength,
    switch_off: SwitchedOff = None,
    prompt: Annotated[list[str] | None, typer.Option("--prompt", help="A prompt to continue; can be repeated.")] = None,
    prompts: Annotated[
        str | None,
        typer.Option("--prompts", help="The bundled prompts (bundled), a text file with one a line, or JSONL."),
    ] = None,
    limit_prompts: Annotated[
        int | None, typer.Option("--limit-prompts", min=1, help="Take only the first prompts, this many.")
    ] = None,
    max_new_tokens: Annotated[
        int, option_of(SamplingPlan, "max_new_tokens", "--max-new-tokens")
    ] = SamplingPlan.max_new_tokens,
    samples: Annotated[int, option_of(SamplingPlan, "samples", "--samples")] = SamplingPlan.samples,
    greedy: Annotated[bool, option_of(SamplingPlan, "greedy", "--greedy")] = SamplingPlan.greedy,
    temperature: Annotated[float, option_of(SamplingPlan, "temperature", "--temperature")] = SamplingPlan.temperature,
    top_p: Annotated[float, option_of(SamplingPlan, "top_p", "--top-p")] = SamplingPlan.top_p,
    seed: Annotated[int, option_of(SamplingPlan, "seed", "--seed")] = SamplingPlan.seed,
    model: StudyModel = None,
    device: Device = ModelSpec.device,
    dtype: Dtype = ModelSpec.dtype,
    as_json: Json = False,
) -> None:
    """Write continuations before and after the edit, with the same luck, and score both."""
    sampling = SamplingPlan(max_new_tokens, samples, greedy, temperature, top_p, seed)
    with output.progress_bars() as progress:
        fitted = load_study(study)
        plan = plan_edit(fitted, layers, rank, strength, switch_off)
        texts = read_prompts_for(model or fitted.model.name, prompt, prompts)[:limit_prompts]
        bench = load_workbench(fitted, model, device, dtype, progress)
        comparisons = bench.compare(fitted, plan, texts, sampling, progress, probabilities=False)
    cut = len({comparison.prompt for comparison in comparisons if comparison.cut})
    if cut:
        output.print_note(f"Prompts cut from the left, to fit into the model's context: {cut} of {len(texts)}.")
    if not as_json:
        output.show(output.plain(output.describe_edit(plan, suggested=layers is None and rank is None)))
        return output.show(output.comparison_table(comparisons))
    return output.print_json(record_comparisons(comparisons, plan, sampling))
