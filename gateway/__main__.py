"""The command `gateway`, and `python -m gateway`. `main` is public; see gateway.cli for all that is."""

from __future__ import annotations

import os
import signal
import sys


def main() -> int:
    """Run the command line. Returns the exit code: EX_CONFIG (78) when an installed package has a version
    that the gateway does not support."""
    serves = sys.argv[1:2] in (["up"], ["serve"])
    if serves:
        # Before the imports, which take a second: they would end it. Delivered when the event loop runs.
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGHUP, signal.SIGUSR1))
    _open_standard()
    try:
        from gateway.cli import requirements
        from gateway.cli.config import LIGHT

        light = sys.argv[1:2] and sys.argv[1] in (*LIGHT, "--version")
        light = light or not {"-h", "--help"}.isdisjoint(sys.argv)  # these use none of the packages
        mismatch = requirements.fatal_mismatch(() if light else requirements.NEEDS, by_version=not serves)
        if mismatch:
            sys.stderr.write(mismatch + "\n")
            return requirements.EXIT_CODE
        from gateway.cli import main as cli  # only now: commands import the packages that were checked

        return cli.main()
    except KeyboardInterrupt:  # while it imports
        return 130


def _open_standard() -> None:
    """Open the standard streams that are closed (`>&-`, some supervisors) to /dev/null.

    Otherwise the next file or connection would get the number, and everything printed would be written to it.
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
