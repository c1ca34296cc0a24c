"""gunicorn --preload ... backends.catalog.wsgi:application

With --preload this runs once, before the socket is opened: no request meets a half-migrated database.
"""

import os

from django.core.wsgi import get_wsgi_application

os.environ["DJANGO_SETTINGS_MODULE"] = "backends.catalog.settings"
application = get_wsgi_application()

from backends.catalog.migrations import migrate  # noqa: E402  (after Django is set up)

migrate()
