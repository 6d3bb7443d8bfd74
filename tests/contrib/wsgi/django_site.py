"""A little Django site in one file, served by subprocesses of these tests.

Views answer with what the tests compare.
"""

from __future__ import annotations

import resource
import tempfile

import django
from django.conf import settings

if not settings.configured:
    settings.configure(
        DEBUG=False,
        SECRET_KEY="tests only",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
        USE_X_FORWARDED_HOST=True,
        FILE_UPLOAD_MAX_MEMORY_SIZE=1024,
        LOGGING_CONFIG=None,
    )
    django.setup()

from django.core.signals import request_finished
from django.core.wsgi import get_wsgi_application
from django.http import (
    FileResponse,
    HttpResponse,
    JsonResponse,
    StreamingHttpResponse,
)
from django.urls import path, re_path

finished: list[str] = []
request_finished.connect(lambda sender, **kw: finished.append(""), weak=False)


def small(request):
    return HttpResponse("hello")


def echo(request):
    return JsonResponse(
        {
            "path": request.path,
            "query": request.GET,
            "cookies": request.COOKIES,
            "user_agent": request.headers.get("User-Agent", ""),
            "is_secure": request.is_secure(),
            "host": request.get_host(),
            "body_bytes": len(request.body),
            "finished": len(finished),
        }
    )


def upload(request):
    file = request.FILES["file"]
    return JsonResponse({"name": file.name, "size": file.size, "kind": type(file).__name__})


def stream(request):
    return StreamingHttpResponse(f"line {n}\n" for n in range(1000))


def file(request):
    opened = tempfile.TemporaryFile()  # noqa: SIM115 (the response closes it)
    opened.write(b"0123456789" * 100_000)
    opened.seek(0)
    return FileResponse(opened)


def sparse(request, megabytes):
    """A file of so many MiB that takes no room on the disk."""
    opened = tempfile.TemporaryFile()  # noqa: SIM115 (the response closes it)
    opened.truncate(megabytes * 1_048_576)
    return FileResponse(opened)


def peak(request):
    """The most memory this process ever had, in KiB."""
    return HttpResponse(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))


def no_reason(request):
    return HttpResponse("x", reason="")


def crash(request):
    raise ValueError("on purpose")


def latin_header(request):
    return HttpResponse("x", headers={"X-Name": "café"})


def cookies(request):
    response = HttpResponse("x")
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    return response


def not_modified(request):
    return HttpResponse(status=304)


urlpatterns = [
    path("small/", small),
    path("upload/", upload),
    path("stream/", stream),
    path("file/", file),
    path("sparse/<int:megabytes>/", sparse),
    path("peak/", peak),
    path("no-reason/", no_reason),
    path("crash/", crash),
    path("latin-header/", latin_header),
    path("cookies/", cookies),
    path("not-modified/", not_modified),
    re_path("^.*$", echo),
]

application = get_wsgi_application()
