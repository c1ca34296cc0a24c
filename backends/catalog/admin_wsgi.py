"""gunicorn --preload --bind 127.0.0.1:8082 ... backends.catalog.admin_wsgi:application"""

import os

from django.core.wsgi import get_wsgi_application

os.environ["DJANGO_SETTINGS_MODULE"] = "backends.catalog.admin_settings"
_site = get_wsgi_application()

from django.contrib.staticfiles.handlers import StaticFilesHandler  # noqa: E402  (after Django is set up)

from backends.catalog.migrations import migrate  # noqa: E402

migrate()
# A handful of staff on loopback need no file server for the site's style sheets.
application = StaticFilesHandler(_site)
