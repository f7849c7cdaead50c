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

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

FIRST = ("tests/browser/", "tests/test_wheel.py", "tests/test_demo_model.py", "tests/pages/test_map.py")
"""Where the longest tests are, longest first: a browser, and processes of their own."""
UMAP = ("tests/reading/test_map.py", "tests/reading/test_umap_process.py")
"""Files that share a worker because UMAP takes long to import."""


def pytest_xdist_auto_num_workers() -> int:
    """A worker for each core that this run may use, and one more: the one that has the browser often waits for it."""
    return cpu_count() + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        # Folders with a group of their own have said so by now: the hooks of deeper folders run first.
        if item.get_closest_marker("xdist_group") is None:
            file = item.nodeid.partition("::")[0]
            item.add_marker(pytest.mark.xdist_group("umap" if file in UMAP else file))
    items.sort(key=lambda item: next((place for place, path in enumerate(FIRST) if item.nodeid.startswith(path)), 99))
