"""The command `gateway`, and python -m gateway."""

from __future__ import annotations

import sys

from gateway import requirements


def main() -> int:
    """Run the command line, unless the packages under it are not those that it is made for. Gives the exit
    code, EX_CONFIG for that."""
    try:
        unfit = requirements.unfit()
        if unfit:
            sys.stderr.write(unfit + "\n")
            return requirements.EXIT_CODE
        from gateway import cli  # not before: what it imports may be what is missing

        return cli.main()
    except KeyboardInterrupt:  # while it imports, which takes half a second
        return 130


if __name__ == "__main__":
    sys.exit(main())
