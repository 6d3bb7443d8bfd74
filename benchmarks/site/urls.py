"""The pages of workload H."""

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.template import Context, Engine
from django.urls import path

_LIST = Engine().from_string(
    "<ul>{% for user in users %}<li>{{ user.pk }}: {{ user.username }}, "
    "{{ user.date_joined }}</li>{% endfor %}</ul>"
)


def bare(request: HttpRequest) -> HttpResponse:
    """The least a page can be."""
    return HttpResponse("a bare page")


def users(request: HttpRequest) -> HttpResponse:
    """A page that lists fifty rows of the database through a template."""
    rows = User.objects.order_by("pk")[:50]
    return HttpResponse(_LIST.render(Context({"users": rows})))


urlpatterns = [path("bare", bare), path("users", users)]
