from django.contrib.auth.decorators import login_required
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_POST

from .models import Message


@login_required
@require_POST
def send_message(request, correspondence):
    message = Message.objects.create(
        correspondence=get_object_or_404(request.user.correspondences, pk=correspondence),
        author=request.user,
        body=request.POST["body"],
    )
    return render(request, "letters/messages.html", {"message": message})
