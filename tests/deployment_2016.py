"""The ``deployment.py`` of 1.0's README, as it still works."""

import asyncio

from aiohttp_wsgi import WSGIHandler
from django.core.wsgi import get_wsgi_application

from redis_pubsub.contrib.websockets import setup

wsgi_app = get_wsgi_application()
wsgi_handler = WSGIHandler(wsgi_app)

loop = asyncio.new_event_loop()
application = setup(loop=loop)
# any url patterns not matched by the websocket app go to the django app for handling
application.router.add_route("*", "/{path_info:.*}", wsgi_handler.handle_request)
