"""Settings of the admin site: for staff, on its own loopback listener, with Django's login.

The gateway never routes to it: a browser sends no bearer token when it follows a link.
"""

from backends.catalog.settings import *  # noqa: F403
from backends.catalog.settings import INSTALLED_APPS as APPLICATIONS

# A foreign page must not reach the admin site by a DNS name of its own that resolves to loopback.
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]"]

ROOT_URLCONF = "backends.catalog.admin_urls"
INSTALLED_APPS = [
    *APPLICATIONS,
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
# Cookies are shared by all ports of a host: names of its own keep them apart from other local sites.
SESSION_COOKIE_NAME = "catalog_admin_session"
CSRF_COOKIE_NAME = "catalog_admin_csrf"
STATIC_URL = "static/"
