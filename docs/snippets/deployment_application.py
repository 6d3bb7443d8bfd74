# deployment.py
import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")

from django.core.wsgi import get_wsgi_application

from redis_pubsub.contrib.websockets import setup
from redis_pubsub.contrib.wsgi import WSGIHandler, WSGIOptions

application = setup()
pages = WSGIHandler(get_wsgi_application(), WSGIOptions(threads=16, multiprocess=True))
# Whatever no socket handler has taken goes to Django.
application.router.add_route("*", "/{path_info:.*}", pages.handle_request)


async def close_pages(app):
    await pages.close()


application.on_shutdown.append(close_pages)
