"""The pages of workload H."""

from django.http import HttpRequest, HttpResponse
from django.urls import path


def bare(request: HttpRequest) -> HttpResponse:
    """The least a page can be."""
    return HttpResponse("a bare page")


urlpatterns = [path("bare", bare)]
