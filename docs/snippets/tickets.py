# urls.py
from django.contrib.auth.decorators import login_required
from django.shortcuts import render
from django.urls import include, path

from redis_pubsub.auth.tickets import issue
from redis_pubsub.views import TicketView


# [page]
@login_required
def board(request):
    """A page that opens one socket, with a ticket that it brings along."""
    origin = f"{request.scheme}://{request.get_host()}"
    session = request.session.session_key  # a logout ends what the ticket opens
    ticket = issue(request.user, origin=origin, session=session)
    return render(request, "board.html", {"ticket": ticket})


# [urls]
urlpatterns = [
    path("pubsub/", include("redis_pubsub.urls")),  # POST /pubsub/ticket/
    path("api/ticket/", TicketView.as_view()),  # POST, with REST framework
    path("board/", board),
]
# [end]
