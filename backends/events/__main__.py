"""python -m backends.events --socket PATH"""

import os
import sys

from backends.events.app import EventsApplication


def main() -> None:
    os.umask(0o077)  # only the owner may connect to the socket
    app = EventsApplication()
    try:
        code = app.run()
    except OSError as error:
        sys.exit(f"backends.events cannot listen on {app.Args.socket or app.Args.listen}: {error}")
    sys.exit(code)


if __name__ == "__main__":
    main()
