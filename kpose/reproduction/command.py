"""``kpose reproduce``: one of the paper's tables."""

import importlib
import sys
from collections.abc import Sequence

__all__ = ["main"]

# Each module has `main(args) -> exit code` and a docstring whose first line says what the table is.
TABLES = {
    "table1": "kpose.reproduction.table1_command",
    "table2": "kpose.reproduction.table2_command",
}


def main(args: Sequence[str] | None = None) -> int:
    """Reproduce a table.

    Args:
        args: Name of the table and its arguments; those of the process when None.

    Returns:
        0; 2 if the arguments are wrong and 1 if the table cannot be made; one line says why.

    Raises:
        SystemExit: If the arguments ask for help.
    """
    given = list(sys.argv[1:] if args is None else args)
    if given and given[0] in TABLES:
        code: int = importlib.import_module(TABLES[given[0]]).main(given[1:])
        return code
    usage = f"usage: kpose reproduce {{{','.join(TABLES)}}} ...\n"
    if given and given[0] in ("-h", "--help"):
        sys.stdout.write(f"{usage}\n{__doc__}\n`kpose reproduce <table> --help` names the arguments of each.\n")
        return 0
    what = f"got {given[0]!r}" if given else "got none"
    sys.stderr.write(f"kpose reproduce needs one of the tables {', '.join(TABLES)}; {what}. Name one.\n")
    return 2
