"""The `detox` command: the journey in a terminal, for people and, with `--json`, for programs.

A command is a function under `@app.command()`. Its options take their sentences and defaults from the plans in
`specs`; it raises InputError for what cannot be used, and `Journey` turns that into one sentence and exit code 2.
torch and what needs it are imported inside the commands, so that `detox --help` answers at once.
"""

import io
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from detox_engine import assess, explore, fits, tables
from detox_engine.comparisons import record_comparisons
from detox_engine.errors import InputError
from detox_engine.options import (
    SUGGESTION,
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
from detox_engine.specs import EditPlan, ModelSpec, SamplingPlan

APP = Path(__file__).parents[1] / "app.py"
DIRECTIONS_SHOWN = 3
SHOWN = f"{DIRECTIONS_SHOWN}, or all where fewer were kept"


class Journey(TyperGroup):
    """Ends what cannot go on with one sentence on standard error: exit code 2, or 130 after Ctrl-C."""

    def invoke(self, ctx: typer.Context) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                # A terminal that cannot show a character gets its code, not a traceback.
                stream.reconfigure(errors="backslashreplace")
        try:
            return super().invoke(ctx)
        except InputError as error:
            reason, code = str(error), 2
        except OSError as error:
            if error.filename is None or error.strerror is None:
                raise
            reason, code = f"{error.filename} cannot be used: {error.strerror}.", 2
        except KeyboardInterrupt:
            reason, code = "Stopped; nothing was left half-written.", 130
        tables.print_note(reason)
        raise typer.Exit(code)


app = typer.Typer(
    name="detox",
    cls=Journey,
    help="See and remove the toxic subspace of a language model (DeTox, arXiv 2405.13967).",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    app(prog_name="detox")


app.command()(fits.fit)
app.command()(fits.extend)


@app.command()
def directions(
    study: StudyFolder,
    layers: Annotated[
        str | None,
        typer.Option("--layers", help="Layers to read, such as 4-7, 3, all or 2,5-7.", show_default=SUGGESTION),
    ] = None,
    rank: Annotated[
        int | None,
        typer.Option("--rank", help="Directions to read in each layer, strongest first.", show_default=SHOWN),
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Tokens listed at each pole.")] = 10,
    measure: Annotated[
        Literal["product", "cosine"],
        typer.Option("--measure", help="How a token is scored: its product with the direction, or their cosine."),
    ] = "product",
    through_norm: Annotated[
        bool, typer.Option("--through-norm", help="Read the directions through the final normalisation's weight.")
    ] = False,
    model: StudyModel = None,
    device: Device = ModelSpec.device,
    dtype: Dtype = ModelSpec.dtype,
    as_json: Json = False,
) -> None:
    """Read the directions of a study: the tokens at their toxic and their civil pole."""
    with tables.progress_bars() as progress:
        fitted = load_study(study)
        plan = plan_edit(fitted, layers, min(DIRECTIONS_SHOWN, fitted.kept) if rank is None else rank)
        bench = load_workbench(fitted, model, device, dtype, progress)
        readings = bench.read(fitted, plan.layers, plan.rank, top, measure, through_norm)
    if not as_json:
        return tables.show(tables.directions_table(readings))
    return tables.print_json(
        [
            {
                "layer": entry.layer,
                "direction": entry.direction,
                "singular_value": entry.singular_value,
                "share": entry.share,
                "polarity": entry.polarity,
                "toxic_pole": [{"token": end.token, "score": end.score} for end in entry.reading.toxic_pole],
                "civil_pole": [{"token": end.token, "score": end.score} for end in entry.reading.civil_pole],
            }
            for entry in readings
        ]
    )


@app.command()
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
    with tables.progress_bars() as progress:
        fitted = load_study(study)
        plan = plan_edit(fitted, layers, rank, strength, switch_off)
        texts = read_prompts_for(model or fitted.model.name, prompt, prompts)[:limit_prompts]
        bench = load_workbench(fitted, model, device, dtype, progress)
        comparisons = bench.compare(fitted, plan, texts, sampling, progress, probabilities=False)
    cut = len({comparison.prompt for comparison in comparisons if comparison.cut})
    if cut:
        tables.print_note(f"Prompts cut from the left, to fit into the model's context: {cut} of {len(texts)}.")
    if not as_json:
        tables.show(tables.plain(tables.describe_edit(plan, suggested=layers is None and rank is None)))
        return tables.show(tables.comparison_table(comparisons))
    return tables.print_json(record_comparisons(comparisons, plan, sampling))


app.command()(assess.evaluate)
app.command()(assess.sweep)
app.command()(explore.lens)
app.command(name="map")(explore.show_map)


@app.command(name="app")
def start_app(
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port of the dashboard.")] = 8501,
) -> None:
    """Start the dashboard in the browser."""
    if not APP.is_file():
        raise InputError(f"The dashboard is missing (looked for {APP}): run from a whole copy of the repository.")
    command = [sys.executable, "-m", "streamlit", "run", str(APP), "--server.port", str(port)]
    raise typer.Exit(subprocess.run(command, check=False).returncode)
