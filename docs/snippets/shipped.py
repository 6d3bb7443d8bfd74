# websockets.py
from redis_pubsub.contrib.websockets.subscriptions import subscriptions

handlerconf = ["subscriptions"]
__all__ = ["subscriptions"]
