"""Settings of the application that the gateway routes to. The admin site has its own: admin_settings."""

from backends import data
from backends.catalog import secret_key
from backends.identity import log

DATA = data.folder("catalog")
SECRET_KEY = secret_key.load(DATA / "secret_key")
DEBUG = False

# Any Host is fine here, and only here: the application listens on a unix socket (or a port that only the
# gateway reaches), and the gateway has checked the Host that becomes part of links.
ALLOWED_HOSTS = ["*"]

ROOT_URLCONF = "backends.catalog.urls"
INSTALLED_APPS = ["backends.catalog.products", "backends.catalog.stock"]
MIDDLEWARE = [
    "backends.identity.django.GatewayMiddleware",  # first: all others see the public address
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATA / "catalog.sqlite3",
        "CONN_MAX_AGE": None,  # one connection per thread, kept
        "OPTIONS": {
            "timeout": 5,  # seconds to wait for another writer
            "transaction_mode": "IMMEDIATE",  # a reader that turns writer would fail at once, without waiting
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }
}

DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024
USE_TZ = True
TIME_ZONE = "UTC"
LOGGING_CONFIG = "logging.config.dictConfig"
LOGGING = log.config()
# The gateway's access log has every refused request already.
LOGGING["loggers"] = {"django.request": {"level": "ERROR"}}
