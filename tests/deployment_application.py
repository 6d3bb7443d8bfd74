"""`get_application()` exported as it is."""

from redis_pubsub import get_application

application = get_application()
