"""The plan of the house holds: what may import what, how much a room holds, what stays light, what docs say of it."""

import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[1]
MODULES = 11
"""As many modules as a folder may hold: more are two rooms."""
FOLDERS = sorted({file.parent for part in ("detox_engine", "ui", "pages") for file in (ROOT / part).rglob("*.py")})
HEAVY = {"torch", "transformers", "pandas", "streamlit"}
LIGHT = ("detox_engine.plans", "detox_engine.scoring.scorers", "detox_engine.study.methods", "ui.words")
"""Packages that declare and describe: a help text and a first page do not wait for what computes."""
IMPORT_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.iter_modules(getattr(package, "__path__", ())):
    importlib.import_module(f"{package.__name__}.{module.name}")
print(*sys.modules)
"""


def test_imports_point_down(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    broken = lint_imports(config_filenames=("pyproject.toml",), no_cache=True, no_logo=True)
    assert not broken, capsys.readouterr().out


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_a_room_holds_what_a_reader_can_look_over(folder):
    modules = [file.name for file in folder.glob("*.py") if not file.name.startswith("__")]
    assert len(modules) <= MODULES, modules


@pytest.mark.parametrize("package", LIGHT)
def test_what_declares_is_imported_without_what_computes(package):
    told = subprocess.run([sys.executable, "-c", IMPORT_ALL, package], cwd=ROOT, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert not HEAVY & set(told.stdout.split())


def test_the_plan_names_every_room():
    plan = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert [folder.name for folder in FOLDERS if f"{folder.name}/" not in plan] == []
