"""Pages of the test site."""

import time

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import path


def home(request: HttpRequest) -> HttpResponse:
    return HttpResponse("the home page")


def slow(request: HttpRequest) -> HttpResponse:
    time.sleep(1.5)
    return HttpResponse("slow")


urlpatterns = [path("", home), path("slow", slow), path("admin/", admin.site.urls)]
