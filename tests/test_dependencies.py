"""Two machines install the same: the lock names every version that runs here, and an audit says what it looked up."""

import sys

import pytest
from packaging.requirements import Requirement

from tools.audit_dependencies import tell
from tools.lock_dependencies import LOCK, find_versions, write_lock


def test_the_lock_is_what_runs_here():
    if sys.version_info[:2] != (3, 11) or sys.platform != "linux":
        pytest.skip("the lock was written on Linux with Python 3.11, and other systems need other packages")
    assert LOCK.read_text(encoding="utf-8") == write_lock()


def test_dependencies_of_dependencies_are_locked():
    found = find_versions([Requirement("umap-learn")])
    assert {"numba", "llvmlite", "scipy", "threadpoolctl"} <= found.keys()
    assert "pytest" not in found


def test_an_audit_says_what_was_looked_up():
    package = {"name": "a", "version": "1", "vulns": []}
    skipped = {"name": "b", "version": "2", "skip_reason": "not found"}
    flaw = {"id": "PYSEC-1", "fix_versions": ["2"]}
    assert tell([skipped]) == (
        0,
        "Nothing was audited: the database of advisories knows none of these packages, or is out of reach.",
    )
    assert tell([package, skipped]) == (0, "1 of 2 packages were looked up, with 0 known flaws.")
    code, told = tell([package | {"vulns": [flaw]}])
    assert code == 1 and told.startswith("a 1: PYSEC-1, mended in 2\n")
