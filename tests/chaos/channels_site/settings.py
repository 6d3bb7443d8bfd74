import json
import os

SECRET_KEY = "not a secret, only for tests"
ALLOWED_HOSTS = ["127.0.0.1"]
USE_TZ = True
ROOT_URLCONF = "tests.chaos.channels_site.asgi"
INSTALLED_APPS = ["tests.chaos.channels_site"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": json.loads(os.environ["CHAOS_DATABASE"])}
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": os.environ["CHAOS_LAYER"],
        "CONFIG": {"hosts": [os.environ["REDIS_URL"]]},
    }
}
