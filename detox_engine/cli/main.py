"""The `detox` command: the journey in a terminal, for people and, with `--json`, for programs.

A command is a function under `@asks(…)`, which gives it a flag for every option of the plans that it takes. It
raises InputError for what cannot be used, and `Journey` turns that into one sentence and exit code 2.
torch and what needs it are imported inside the commands, so that `detox --help` answers at once.
"""

import errno
import io
import signal
import subprocess
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from detox_engine.cli import output
from detox_engine.cli.commands import auto, evaluate, export, fit, lab, lens, map, sweep
from detox_engine.cli.commands.compare import compare
from detox_engine.cli.commands.directions import directions
from detox_engine.cli.commands.tune import tune
from detox_engine.data.bundled import APP
from detox_engine.errors import InputError


class Journey(TyperGroup):
    """Ends what cannot go on with one sentence on standard error: exit code 2, or 130 after Ctrl-C."""

    def invoke(self, ctx: typer.Context) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                # A terminal that cannot show a character gets its code, not a traceback.
                stream.reconfigure(errors="backslashreplace")
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except InputError as error:
            reason, code = str(error), 2
        except OSError as error:
            # Whoever reads the output may go, which is no fault.
            if error.strerror is None or error.errno == errno.EPIPE:
                raise
            reason, code = f"{error.filename or 'The output'} cannot be used: {error.strerror}.", 2
        except KeyboardInterrupt as stop:
            reason, code = "Stopped; nothing was left half-written.", 128 + getattr(stop, "signal", signal.SIGINT)
        output.print_note(reason)
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
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), output.end)
    app(prog_name="detox")


def start_app(
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port of the dashboard.")] = 8501,
) -> None:
    """Start the dashboard in the browser."""
    if not APP.is_file():
        raise InputError(f"The dashboard is missing (looked for {APP}): run from a whole copy of the repository.")
    command = [sys.executable, "-m", "streamlit", "run", str(APP), "--server.port", str(port)]
    with subprocess.Popen(command) as server:
        try:
            raise typer.Exit(server.wait())
        finally:
            server.terminate()


COMMANDS = (
    fit.fit,
    fit.extend,
    fit.check,
    directions,
    compare,
    evaluate.evaluate,
    sweep.sweep,
    tune,
    lens.lens,
    export.export,
    export.verify,
    export.push,
    export.report,
    auto.auto,
    auto.reproduce,
    lab.bench,
)
for command in COMMANDS:
    app.command()(command)
app.command(name="map")(map.show_map)
app.command(name="app")(start_app)
labs = typer.Typer(
    help="Experiments on the paper's claims, with the pairs and the model of a study.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)
labs.command(
    name="sample-size", help="Fit methods on fewer pairs, several draws of each number, and measure them at one cost."
)(lab.sample_size)
labs.command(
    name="label-noise", help="Fit methods on pairs of which a share is flipped, and measure them at one cost."
)(lab.label_noise)
labs.command(
    name="dpo-link", help="Measure how much of DPO's first step, and of later ones, lies inside the toxic subspace."
)(lab.dpo_link)
labs.command(name="centring", help="Fit DeTox with and without centring, and measure toxicity and perplexity.")(
    lab.centring
)
app.add_typer(labs, name="lab")
