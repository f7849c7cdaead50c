"""The container is what its Dockerfile says, as far as that can be told without building it."""

import json
import re
import shlex
import shutil
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml
from streamlit import config

from tools.lock_dependencies import LOCK, read_requirements

ROOT = Path(__file__).parents[1]
HEALTH = "/_stcore/health"
"""Where Streamlit answers whether it runs; the dashboard's own journeys ask there too."""


def read_steps() -> list[tuple[str, str]]:
    """The Dockerfile's instructions with what follows them, on one line each."""
    lines = [line for line in (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines() if line[:1] != "#"]
    whole = "\n".join(lines).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in whole.splitlines() if line.strip()]


STEPS = read_steps()
COPIED = [source for name, told in STEPS if name == "COPY" for source in told.split()[:-1]]
START = json.loads(next(told for name, told in STEPS if name == "CMD"))
OPTIONS = dict(option.removeprefix("--").split("=", 1) for option in START[3:])


def find_steps(name: str) -> list[str]:
    return [told for step, told in STEPS if step == name]


def find_page() -> dict:
    """What the Hub reads of the Space."""
    text = (ROOT / "deploy" / "space" / "README.md").read_text(encoding="utf-8")
    return yaml.safe_load(text.split("---\n")[1])


def is_left_out(path: str) -> bool:
    """Whether the builder does not get a top-level path: the last pattern that fits it decides."""
    out = False
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").split("\n"):
        if line and line[0] != "#" and fnmatch(path, line.removeprefix("!")):
            out = line[0] != "!"
    return out


def test_it_copies_what_is_there_and_the_builder_gets_it():
    assert [source for source in COPIED if not (ROOT / source).exists() or is_left_out(source)] == []


def test_it_copies_all_that_a_wheel_has():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["only-include"], *wheel["force-include"], project["project"]["readme"], "pyproject.toml"}
    assert needed <= set(COPIED)


@pytest.mark.parametrize("path", [".venv", ".git", "tests", "build", "docs", "studies", ".env"])
def test_the_builder_does_not_get(path):
    assert is_left_out(path)


def test_it_installs_the_locked_versions_and_pytorch_for_cpus_first():
    installs = [shlex.split(told) for told in find_steps("RUN") if told.startswith("pip install")]
    assert installs[0][-1] == "torch" and "--no-deps" in installs[0]
    assert installs[0][installs[0].index("--index-url") + 1].endswith("/whl/cpu")
    assert " -r requirements.txt " in " ".join(installs[1])
    assert all(f"-c {LOCK.name}" in " ".join(words) for words in installs[:2])
    assert "torch" in {each.name for each in read_requirements(LOCK)}
    assert find_steps("FROM") == ["python:3.11-slim"]


def test_it_serves_others_with_options_that_streamlit_knows():
    assert START[:3] == ["streamlit", "run", "app.py"] and shutil.which(START[0], path=Path(sys.executable).parent)
    known = config.get_config_options()
    assert OPTIONS and [option for option in OPTIONS if option not in known] == []
    assert OPTIONS["server.address"] == "0.0.0.0"


def test_every_port_is_the_same():
    asked = re.findall(rf":(\d+){HEALTH}\b", *find_steps("HEALTHCHECK"))
    assert [OPTIONS["server.port"]] == find_steps("EXPOSE") == asked
    assert find_page()["app_port"] == int(OPTIONS["server.port"])


def test_it_runs_as_a_user_who_is_not_root_and_owns_the_cache():
    [user], [made] = find_steps("USER"), [told for told in find_steps("RUN") if told.startswith("useradd")]
    assert user not in ("root", "0") and made.split()[-1] == user and "--uid 1000" in made
    [kept] = find_steps("ENV")
    assert f"XDG_CACHE_HOME=/home/{user}/.cache" in kept.split()
    # What is fitted while it is built is that user's, and found by the server.
    names = [name for name, _ in STEPS]
    after = STEPS[names.index("USER") :]
    assert any(name == "RUN" and "ui.session.kept_study" in told for name, told in after)
    assert all(name != "COPY" for name, _ in after)


def test_the_hub_knows_the_space():
    page = find_page()
    assert page["sdk"] == "docker" and page["license"] == "mit"
    assert page["title"] and len(page["short_description"]) <= 60


def test_the_commands_that_push_it_take_all_that_is_copied():
    text = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8").replace("\\\n", " ")
    [archived] = re.findall(r"^git archive HEAD (.*) \| tar", text, re.MULTILINE)
    # The Space's own page stands in for the README.
    assert {*archived.split(), "README.md"} == {*COPIED, "Dockerfile", ".dockerignore"}
