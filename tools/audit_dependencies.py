"""Hold requirements.lock against the advisories of the Python Packaging Advisory Database, with pip-audit.

`make audit` installs pip-audit into a place of its own and runs this. It says how many packages were looked up: where
the database cannot be reached, or an index of one's own serves packages that it does not know, that may be none.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LOCK = Path(__file__).parents[1] / "requirements.lock"


def tell(packages: Sequence[dict[str, Any]]) -> tuple[int, str]:
    """Exit code and what is to be said, of the packages of pip-audit's report."""
    skipped = [each for each in packages if "skip_reason" in each]
    known = [(each, flaw) for each in packages for flaw in each.get("vulns", ())]
    looked_up = len(packages) - len(skipped)
    lines = []
    for each, flaw in known:
        mended = ", ".join(flaw["fix_versions"]) or "no version yet"
        lines.append(f"{each['name']} {each['version']}: {flaw['id']}, mended in {mended}")
    if not looked_up:
        lines.append(
            "Nothing was audited: the database of advisories knows none of these packages, or is out of reach."
        )
    else:
        lines.append(f"{looked_up} of {len(packages)} packages were looked up, with {len(known)} known flaws.")
    return (1 if known else 0), "\n".join(lines)


def main() -> int:
    command = (sys.executable, "-m", "pip_audit", "-r", str(LOCK), "--no-deps", "--disable-pip")
    options = ("--format", "json", "--progress-spinner", "off", "--timeout", "15")
    done = subprocess.run((*command, *options), capture_output=True, text=True)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        told = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        print(f"Nothing was audited: pip-audit could not reach the database of advisories ({told[:300]}).")
        return 0
    code, told = tell(packages)
    print(told)
    return code


if __name__ == "__main__":
    sys.exit(main())
