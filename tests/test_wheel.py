"""The wheel is whole: installed away from the repository it has the model, the pairs and the dashboard."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SECONDS = 60
pytestmark = pytest.mark.xdist_group("wheel")


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder with nothing in it but what the wheel brings."""
    wheels, folder = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("installed")
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    build = (*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(ROOT))
    subprocess.run(build, check=True)
    subprocess.run((*pip, "install", "--no-deps", "--target", str(folder), *wheels.glob("*.whl")), check=True)
    return folder


@pytest.fixture
def away(installed, tmp_path) -> dict:
    """What a process gets that knows the installed package and not the repository."""
    own = {"PYTHONPATH": str(installed), "XDG_CACHE_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    return {"cwd": tmp_path, "env": os.environ | own}


def test_a_wheel_brings_one_package_with_the_whole_dashboard_in_it(installed):
    assert {path.name for path in installed.iterdir() if path.suffix != ".dist-info"} == {"detox_engine", "bin"}
    for part in ("app.py", ".streamlit", "pages", "ui", "assets"):
        assert list_files(installed / "detox_engine" / "dashboard", part) == list_files(ROOT, part), part


def list_files(folder: Path, part: str) -> set[Path]:
    paths = (folder / part, *(folder / part).rglob("*"))
    return {path.relative_to(folder) for path in paths if path.is_file() and path.suffix != ".pyc"}


def test_an_installed_fit_knows_the_bundled_model_and_pairs(away):
    command = (sys.executable, "-m", "detox_engine", "fit", "--limit", "8", "--no-suggest", "--out", "study")
    done = subprocess.run(command, **away, capture_output=True, text=True, timeout=2 * SECONDS)
    assert done.returncode == 0 and "8 pairs" in done.stdout, done.stderr
    assert (away["cwd"] / "study" / "study.json").is_file()


def test_an_installed_app_serves_the_dashboard(away, installed):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    away["env"] |= {"STREAMLIT_SERVER_HEADLESS": "true", "STREAMLIT_SERVER_SCRIPT_HEALTH_CHECK_ENABLED": "true"}
    command = (sys.executable, "-m", "detox_engine", "app", "--port", str(port))
    with (away["cwd"] / "log.txt").open("w") as log:
        process = subprocess.Popen(command, **away, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_until_healthy(port, process)
            assert "<title>" in read(port, "/")
            assert read(port, "/_stcore/script-health-check") == "ok"
        except OSError as error:
            pytest.fail(f"{error}: {(away['cwd'] / 'log.txt').read_text()}")
        finally:
            # The command and the server that it started.
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(20)


def wait_until_healthy(port: int, process: subprocess.Popen) -> None:
    end = time.monotonic() + SECONDS
    while True:
        try:
            return read(port, "/_stcore/health")
        except OSError:
            if time.monotonic() > end or process.poll() is not None:
                raise
            time.sleep(0.1)


def read(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=SECONDS) as answer:
        return answer.read().decode()
