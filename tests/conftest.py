"""What every test stands on: one thread a process, since the tests run side by side and their models are tiny.

A file's tests share a worker, so that its fixtures and what it imports are made once; the longest files go first, so
that none of them runs alone at the end.
"""

import os

# Before torch is imported: tiny products on many threads spend their time waiting for one another. A run that asks for
# another number has it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest  # noqa: E402
import torch  # noqa: E402
from joblib import cpu_count  # noqa: E402
from xdist.scheduler import LoadScopeScheduling  # noqa: E402

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

FIRST = ("tests/browser/", "tests/test_wheel.py", "tests/test_demo_model.py", "tests/pages/test_map.py")
"""Where the longest tests are, longest first: a browser, and processes of their own."""
SHARED = {
    "tests/browser/": "a server and a browser",
    "tests/reading/test_map.py": "UMAP, which takes long to import",
    "tests/reading/test_umap_process.py": "UMAP, which takes long to import",
}
"""Where tests are that share a worker beyond their file, and what they share there."""


class SharedWorkers(LoadScopeScheduling):
    """Sends a file's tests to one worker, and with them those of the files that share more."""

    def _split_scope(self, nodeid: str) -> str:
        shared = (what for place, what in SHARED.items() if nodeid.startswith(place))
        return next(shared, nodeid.partition("::")[0])


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> SharedWorkers:
    return SharedWorkers(config, log)


def pytest_xdist_auto_num_workers() -> int:
    """A worker for each core that this run may use, and one more: the one that has the browser often waits for it."""
    return cpu_count() + 1


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Where fewer cores than workers are, all others give way to the one with the browser, which is the last to end."""
    if os.environ.get("PYTEST_XDIST_WORKER") and not item.nodeid.startswith(FIRST[0]) and os.nice(0) == 0:
        os.nice(5)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: next((place for place, path in enumerate(FIRST) if item.nodeid.startswith(path)), 99))
