"""Settings of the example site; what differs between machines is in the environment.

``SECRET_KEY``, ``DEBUG``, ``ALLOWED_HOSTS``, ``DATABASE_URL``, ``REDIS_URL``. The
defaults are for a developer's machine: only localhost is served, and with ``DEBUG=0`` a
``SECRET_KEY`` is demanded.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from django.core.exceptions import ImproperlyConfigured

from .database import database

BASE_DIR = Path(__file__).resolve().parent.parent

DEBUG = os.environ.get("DEBUG", "1").lower() in ("1", "true", "yes", "on")
SECRET_KEY = os.environ.get("SECRET_KEY", "")
if not SECRET_KEY:
    if not DEBUG:
        raise ImproperlyConfigured("set SECRET_KEY in the environment, or DEBUG=1")
    SECRET_KEY = "insecure: everybody knows this key, so it is for DEBUG only"
ALLOWED_HOSTS = os.environ.get("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]").split(",")

DATABASES = {
    "default": database(
        os.environ.get("DATABASE_URL", f"sqlite:///{quote(str(BASE_DIR / 'db.sqlite3'))}")
    )
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_PUBSUB = {
    "url": os.environ.get("REDIS_URL", "redis://localhost:6379/0"),
    "prefix": "example",
    "websocket_url_prefix": "ws",
    "authorize_method": "example.chat.authorization.may",
    "channels": {
        # A page that was away for up to a day, and missed up to 200 messages, gets them.
        # Participants see each other come and go; a page that is loaded anew does neither.
        "chat.correspondence:*": {
            "history_size": 200,
            "history_ttl_s": 24 * 3600,
            "presence": True,
            "presence_by": "user",
            "join_leave": True,
            "leave_delay_s": 3,
        },
        # The last notice, a day long, for the page that is loaded and for who is new.
        **{
            f"{kind}:notices": {"history_size": 1, "history_ttl_s": 24 * 3600, "replay": 1}
            for kind in ("user:*", "group:*", "broadcast")
        },
        # Who is typing is news for a moment: nothing is kept.
        "typing:*": {"history_size": 0},
    },
}

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "redis_pubsub",
    "example.chat",
    "example.imports",
    "example.notices",
    "example.rooms",
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

ROOT_URLCONF = "example.urls"
STATIC_URL = "static/"
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "inbox"
LOGOUT_REDIRECT_URL = "login"
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
