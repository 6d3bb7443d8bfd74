"""The test site's pages, and those that issue tickets."""

from django.urls import include, path
from rest_framework.authentication import SessionAuthentication, TokenAuthentication

from redis_pubsub.views import TicketView
from tests.urls import urlpatterns as pages

urlpatterns = [
    *pages,
    path("pubsub/", include("redis_pubsub.urls")),
    path(
        "api/ticket/",
        TicketView.as_view(
            authentication_classes=[TokenAuthentication, SessionAuthentication]
        ),
    ),
]
