"""Settings of the measured site; Redis, database and loop are in the environment."""

import os

SECRET_KEY = "not a secret, only for benchmarks, and long enough for HS256"
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
USE_TZ = True
ROOT_URLCONF = "benchmarks.site.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "rest_framework",
    "rest_framework.authtoken",
    "redis_pubsub",
    "benchmarks.site",
]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("BENCHMARK_DATABASE", ":memory:"),
        "OPTIONS": {"timeout": 20},
        "CONN_MAX_AGE": None,
    }
}
REDIS_PUBSUB = {
    "url": os.environ.get("REDIS_URL", "memory://"),
    "tokenauth_method": "redis_pubsub.auth.authtoken_method",
    "live": {
        "anonymous": True,
        # Three subscriptions are three: the peers know no others.
        "personal_channels": "redis_pubsub.auth.NoPersonalChannels",
        "trust_tokens": True,
        "token_key": os.environ.get("BENCHMARK_TOKEN_KEY", SECRET_KEY),
    },
    # One user has all sockets of the storm with signed tokens, and all come at once.
    "limits": {"user_connections": 100_000, "connects_burst": 100_000},
    "channels": {
        "news*": {"subscribe": "anyone", "history_size": 0},
        "saved": {"subscribe": "anyone"},
        "own*": {"subscribe": "anyone", "history_size": 0},
        "shared*": {"subscribe": "authenticated", "history_size": 0},
        "mine*": {"subscribe": "authenticated", "history_size": 0},
    },
}
