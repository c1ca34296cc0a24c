"""The command line: gateway init | up | serve | check | routes | explain | token | schema |
keys | revoke | documents | config | revisions | diff | apply | rollback | edit | confirm | audit | nodes |
reload | console.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from gateway.cli import console, process_config
from gateway.cli.parser import parser
from gateway.config.ports import ConfigRefused
from gateway.core.errors import GatewayError
from gateway.core.routing.problems import Problems


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; `gateway --help` lists them. argv: without the program's name;
    None for that of the process."""
    try:
        try:
            code = _run_command(argv)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # here, where a broken pipe can still be reported
    except BrokenPipeError:
        console.discard_output()
        return console.BROKEN_PIPE
    except KeyboardInterrupt:
        return console.INTERRUPTED
    return console.BROKEN_PIPE if console.out.broken and not code else code


def _run_command(argv: Sequence[str] | None) -> int:
    if any("\0" in word for word in argv or ()):
        console.fail("an argument holds a NUL, which no path and no text of a command can")
        return 1
    arguments = parser().parse_args(argv)
    try:
        arguments.config = getattr(arguments, "config", None) or process_config.find()
        return int(arguments.run(arguments))
    except BrokenPipeError:
        raise
    except Problems as found:
        console.problems(arguments.config, found.items)
    except ConfigRefused as refused:
        console.problems(console.short(refused.path), refused.problems)
    except OSError as error:
        console.fail(console.system_error(error))
    except (ValueError, GatewayError) as error:
        console.fail(str(error))
    return 1


if __name__ == "__main__":
    sys.exit(main())
