"""`python -m audit.report PATH`: writes the report of a sweep, a run or a checkpoint and prints where it is."""

import argparse
import sys
from pathlib import Path

from audit.errors import AuditError
from audit.report import write_report


def main(argv: list[str] | None = None) -> int:
    """Entry point.

    Args:
        argv: Arguments; the command line's by default.

    Returns:
        Exit code: 2 after an error of the user's.
    """
    parser = argparse.ArgumentParser(prog="python -m audit.report", description=__doc__)
    parser.add_argument("path", type=Path, metavar="PATH", help="a sweep, a run, a checkpoint or an audit folder")
    arguments = parser.parse_args(argv)
    try:
        print(write_report(arguments.path))
    except AuditError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
