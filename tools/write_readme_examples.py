"""Run the README's examples on the bundled model and write their real output into it.

    python tools/write_readme_examples.py [NAME…]

Whatever stands between `<!-- NAME -->` and `<!-- /NAME -->` is replaced: `shell` and `auto` by sessions on the command
line, `python` and `adapter` by a script and what it prints, `demo` by the table that `check_demo_model.py` wrote into
the model card, `benchmarks` by the figures of the last `make bench`. Without names, all of them.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
CARD = ROOT / "assets" / "demo" / "model" / "README.md"
BENCHMARKS = ROOT / "build" / "benchmarks.json"
COLUMNS = 100

COMMANDS = (
    "detox fit --model bundled --pairs bundled --out my_study",
    "detox check my_study",
    "detox directions my_study --layers 5-6 --rank 1 --top 5",
    "detox compare my_study --prompts bundled --limit-prompts 3",
    "detox export my_study --out my_edit",
    "detox verify my_edit --base bundled",
)

IN_ONE_GO = ("detox auto bundled --out shipped", "detox verify shipped --base bundled")

SCRIPT = """\
from detox_engine import FitPlan, ModelSpec, SamplingPlan, Workbench

bench = Workbench.load(ModelSpec("bundled"))
study = bench.fit_and_suggest(FitPlan())
plan = study.suggested_edit

first = bench.read(study, layers=[6], rank=1, top=6)[0]
print("toxic pole of layer 6:", *(score.token for score in first.reading.toxic_pole))

prompts = ["Omar waited three hours for the bus. Then Kate slammed the door on him. Omar turned to Kate and said,"]
for result in bench.compare(study, plan, prompts, SamplingPlan(samples=2, max_new_tokens=16)):
    print(f"before ({result.toxicity_before:.2f}):", result.before.text)
    print(f"after  ({result.toxicity_after:.2f}):", result.after.text)
"""

ADAPTER = """\
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base = "assets/demo/model"
tokenizer = AutoTokenizer.from_pretrained(base)
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype="float32"), "my_edit")
prompt = (
    "On Monday morning Amina went to measure the window. Then Bridget blamed Amina for the paint pot. "
    "In front of everyone, Amina said,"
)
ids = tokenizer(prompt, return_tensors="pt")
with model.disable_adapter():
    print("before:", tokenizer.decode(model.generate(**ids, max_new_tokens=16, do_sample=False)[0][len(ids[0]):]))
print("after: ", tokenizer.decode(model.generate(**ids, max_new_tokens=16, do_sample=False)[0][len(ids[0]):]))
"""


def run_commands(commands: Sequence[str] = COMMANDS) -> str:
    """The session as a terminal would show it, without progress bars, which are for terminals alone."""
    environment = os.environ | {"COLUMNS": str(COLUMNS), "NO_COLOR": "1"}
    detox = Path(sys.executable).with_name("detox")
    shown = []
    with tempfile.TemporaryDirectory() as folder:
        for command in commands:
            arguments = [str(detox), *command.split()[1:]]
            output = subprocess.run(
                arguments, cwd=folder, env=environment, check=True, capture_output=True, text=True
            ).stdout
            lines = [line.rstrip() for line in output.splitlines()]
            shown.append(f"$ {command}\n" + "\n".join(lines).strip("\n"))
    return "```console\n" + "\n\n".join(shown) + "\n```"


def run_script(script: str = SCRIPT) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(script, "README.md", "exec"), {})
    return f"```python\n{script}```\n\nprints\n\n```text\n{printed.getvalue().strip()}\n```"


def run_adapter() -> str:
    """The exported adapter, loaded from the places that the example names."""
    from detox_engine import FitPlan, ModelSpec, Workbench

    bench = Workbench.load(ModelSpec("bundled"))
    study = bench.fit_and_suggest(FitPlan())
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path("assets").symlink_to(ROOT / "assets")
        bench.export(study, study.suggested_edit, Path("my_edit"))
        return run_script(ADAPTER)


def show_figures() -> str:
    """The table of the model card, which `check_demo_model.py` wrote."""
    card = CARD.read_text(encoding="utf-8")
    return card.partition("<!-- figures -->")[2].partition("<!-- end of figures -->")[0].strip()


def show_benchmarks() -> str:
    """The figures of the last whole `make bench` that have a bound, and the machine that it ran on."""
    if not BENCHMARKS.is_file():
        sys.exit("There are no figures of a benchmark yet: run make bench first.")
    record = json.loads(BENCHMARKS.read_text(encoding="utf-8"))
    if record["quick"]:
        sys.exit("The last benchmark was a quick one, whose figures mean nothing: run make bench without --quick.")
    rows = [
        f"| {figure['name']} | {show_number(figure['value'], figure['unit'])} "
        f"| ≤ {show_number(figure['must'], figure['unit'])}{' **missed**' if figure['verdict'] == 'MISSED' else ''} |"
        for figure in record["figures"]
        if figure["must"] is not None
    ]
    head = f"Medians on {record['machine']}; `make bench` measures them anew.\n\n"
    return head + "| figure | measured | bound |\n| --- | --- | --- |\n" + "\n".join(rows)


def show_number(value: float, unit: str) -> str:
    if unit == "×":
        return f"{value:.2f} ×"
    return f"{value:.2g} {unit}".strip() if value < 10 else f"{value:,.0f} {unit}"


SECTIONS = {
    "shell": run_commands,
    "auto": partial(run_commands, IN_ONE_GO),
    "python": run_script,
    "adapter": run_adapter,
    "demo": show_figures,
    "benchmarks": show_benchmarks,
}


def main() -> None:
    names = sys.argv[1:] or list(SECTIONS)
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        sys.exit(f"The README has no part “{unknown[0]}” to write: name some of {', '.join(SECTIONS)}.")
    text = README.read_text(encoding="utf-8")
    for name in names:
        section = f"<!-- {name} -->\n{SECTIONS[name]()}\n<!-- /{name} -->"
        text, count = re.subn(f"<!-- {name} -->.*?<!-- /{name} -->", lambda match: section, text, flags=re.DOTALL)  # noqa: B023
        if count != 1:
            sys.exit(f"README.md needs one place between <!-- {name} --> and <!-- /{name} -->; it has {count}.")
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
