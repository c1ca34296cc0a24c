"""The command `gateway`, and python -m gateway."""

from __future__ import annotations

import os
import sys

from gateway.cli import requirements


def main() -> int:
    """Run the command line, unless the packages under it are not those that it is made for. Gives the exit
    code, EX_CONFIG for that."""
    _open_standard()
    try:
        unfit = requirements.unfit()
        if unfit:
            sys.stderr.write(unfit + "\n")
            return requirements.EXIT_CODE
        from gateway.cli import main as cli  # not before: what it imports may be what is missing

        return cli.main()
    except KeyboardInterrupt:  # while it imports, which takes half a second
        return 130


def _open_standard() -> None:
    """Open those of the standard streams that are closed (`>&-`, some supervisors) to nowhere.

    Else the next file or connection gets the number, and what is printed goes into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115


if __name__ == "__main__":
    sys.exit(main())
