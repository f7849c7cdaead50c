"""Write every version that this environment runs on to requirements.lock, those of dependencies' dependencies included.

`make app` and `make test` install within these versions, so that two machines install the same. Run it after a version
in requirements.txt or requirements-dev.txt was changed: `.venv/bin/python -m tools.lock_dependencies`.
"""

from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"
HEAD = (
    "# Every version, those of dependencies' dependencies too; written by tools/lock_dependencies.py.\n"
    "# pip install -r requirements.txt -c requirements.lock\n"
)


def read_requirements(file: Path) -> Iterator[Requirement]:
    for line in file.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith(("#", "-r")):
            yield Requirement(line)


def find_versions(wanted: Iterable[Requirement]) -> dict[str, str]:
    """Name -> installed version of what is wanted and of all that it needs here, by the metadata of each.

    Raises:
        PackageNotFoundError: something that is wanted is not installed.
    """
    found: dict[str, str] = {}
    waiting = [(each, extra) for each in wanted for extra in ("", *each.extras)]
    seen = set()
    while waiting:
        requirement, extra = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        package = distribution(name)
        # Without what tells builds of one version apart, such as +cpu.
        found[name] = Version(package.version).public
        for line in package.requires or ():
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                waiting += [(needed, own) for own in ("", *needed.extras)]
    return found


def write_lock() -> str:
    files = (ROOT / "requirements.txt", ROOT / "requirements-dev.txt")
    versions = find_versions(each for file in files for each in read_requirements(file))
    return HEAD + "".join(f"{name}=={version}\n" for name, version in sorted(versions.items()))


def main() -> None:
    try:
        LOCK.write_text(write_lock(), encoding="utf-8")
    except PackageNotFoundError as error:
        raise SystemExit(f"{error.name} is not installed: run “make test” first.") from None


if __name__ == "__main__":
    main()
