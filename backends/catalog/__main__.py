"""Django's management commands, e.g. `python -m backends.catalog createsuperuser`."""

import os
import sys

from django.core.management import execute_from_command_line


def main() -> None:
    # The admin's settings know all applications, with the staff's accounts.
    os.environ["DJANGO_SETTINGS_MODULE"] = "backends.catalog.admin_settings"
    if sys.argv[1:2] == ["createsuperuser"]:
        import django

        django.setup()

        from backends.catalog.migrations import migrate

        migrate()  # on a fresh folder there is no table of accounts yet
    execute_from_command_line(["python -m backends.catalog", *sys.argv[1:]])


if __name__ == "__main__":
    main()
