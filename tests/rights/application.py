"""What gunicorn serves."""

import django

django.setup()

from redis_pubsub import get_application  # noqa: E402
from tests.rights.handlers import mine, pid  # noqa: E402

application = get_application(handlers=[mine, pid])
