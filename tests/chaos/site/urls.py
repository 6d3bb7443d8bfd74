"""A page that needs nothing, and the state that a client loads when it was told to."""

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from .models import Row


def home(request: HttpRequest) -> HttpResponse:
    return HttpResponse("the home page")


def rows(request: HttpRequest, name: str) -> JsonResponse:
    keys = Row.objects.filter(channel__name=name).values_list("key", flat=True)
    return JsonResponse({"keys": list(keys)})


urlpatterns = [path("", home), path("rows/<str:name>", rows)]
