"""What the dashboard keeps: its process after many fits and comparisons, each in a session of its own."""

import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.side_by_side import Figure, resident_bytes

ROOT = Path(__file__).parents[1]
SETTLED = 10
"""Sessions after which models, words and caches are there."""
SESSIONS = 100


def measure(quick: bool) -> list[Figure]:
    sessions = 3 * SETTLED if quick else SESSIONS
    with tempfile.TemporaryDirectory() as cache:
        command = (sys.executable, "-m", "benchmarks.memory", str(sessions))
        environment = os.environ | {"XDG_CACHE_HOME": cache, "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    megabytes = json.loads(done.stdout.splitlines()[-1])
    # Some tens of megabytes come and go with what happens to be collected: means of ten tell what stays.
    growth = statistics.mean(megabytes[-10:]) / statistics.mean(megabytes[SETTLED : SETTLED + 10]) - 1
    name = f"memory after {sessions} fits and comparisons in fresh sessions / after {SETTLED}, less 1"
    return [Figure(name, growth, "", 0.05, 0.02, {"megabytes": megabytes})]


def visit(number: int) -> None:
    """One session: pairs that nobody has fitted yet are fitted, and prompts continued before and after the edit."""
    from streamlit.testing.v1 import AppTest

    session = AppTest.from_file(str(ROOT / "pages" / "navigation.py"), default_timeout=300)
    for name, value in {"limit": 40, "seed": number, "suggest": 0, "layers": "4-7"}.items():
        session.query_params[name] = str(value)
    session.run()
    session.button(key="fit").click().run()
    wait_for_jobs(session)
    session.switch_page("compare/page.py").run()
    session.button(key="write").click().run()
    wait_for_jobs(session)
    if session.exception:
        raise RuntimeError(session.exception[0].message)


def wait_for_jobs(session) -> None:
    while any(job.running for job in session.session_state["jobs"].values()):
        time.sleep(0.1)
    session.run()


def main(sessions: int) -> None:
    """Print the resident megabytes after each session, as JSON."""
    from pages.navigation import PICKS
    from ui.session.view import hold

    hold(PICKS)
    found = []
    for number in range(sessions):
        visit(number)
        gc.collect()
        found.append(round(resident_bytes() / 2**20))
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]))
