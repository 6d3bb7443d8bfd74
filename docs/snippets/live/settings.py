# settings.py
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "redis_pubsub",
    "rooms",
]

REDIS_PUBSUB = {
    "url": "redis://localhost:6379/0",
    "authorize_method": "rooms.auth.may",
    "channels": {
        "room:*": {
            "presence": True,
            "join_leave": True,
            "presence_by": "user",
            "leave_delay_s": 3,
        },
        "typing:*": {"history_size": 0},
    },
    "live": {"token_key": "from the environment, and nowhere else"},
}
