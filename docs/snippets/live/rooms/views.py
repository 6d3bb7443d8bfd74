# views.py
from django.contrib.auth.decorators import login_required
from django.contrib.auth.mixins import LoginRequiredMixin
from django.http import HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_POST
from django.views.generic import DetailView

from redis_pubsub import publish
from redis_pubsub.auth.tokens import connection_token
from redis_pubsub.views import LivePageMixin, live_page


# [page]
@live_page("room:{pk}")  # outermost: before anything queries
@login_required
def room(request, pk):
    room = get_object_or_404(request.user.rooms, pk=pk)
    return render(request, "rooms/room.html", {"room": room})


# [class]
class RoomPage(LivePageMixin, LoginRequiredMixin, DetailView):  # the first of the bases
    live_channels = ["room:{pk}"]
    template_name = "rooms/room.html"

    def get_queryset(self):
        return self.request.user.rooms.all()


# [tag]
@login_required
def log(request, pk):
    room = get_object_or_404(request.user.rooms, pk=pk)
    return render(request, "rooms/log.html", {"room": room})


# [invite]
@login_required
@require_POST
def poke(request, user):
    publish(f"user:{user}", {"by": request.user.pk}, event="poke")
    return HttpResponse(status=204)


# [token]
@login_required
def live_token(request):
    name = request.user.get_username()
    return JsonResponse(
        {"token": connection_token(request.user, ttl_s=600, info={"name": name})}
    )


# [end]
