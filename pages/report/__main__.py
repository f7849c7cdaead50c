"""`python -m pages.report STUDY TOLD OUT`: how the engine has a report drawn, which knows no chart."""

import sys
from pathlib import Path

from detox_engine.disk import write_whole
from detox_engine.errors import InputError


def main(study: str, told: str, out: str) -> int:
    from detox_engine.study.study import Study
    from pages.report.document import draw_report
    from pages.report.told import read_told

    try:
        write_whole(Path(out), draw_report(Study.load(Path(study)), read_told(Path(told))))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{out} cannot be written ({error.strerror}): name another file.", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
