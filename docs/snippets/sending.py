# views.py
from django.db import transaction
from django.http import JsonResponse

from redis_pubsub import send

from .models import Message


def post(request, correspondence):
    """Answers before the words are counted."""
    with transaction.atomic():
        message = Message.objects.create(
            correspondence=correspondence, author=request.user, body=request.POST["body"]
        )
        # Sent when the transaction commits; never if it rolls back.
        send("count_words", message_pk=message.pk)
    send("announce", text="in an hour", delay_s=3600, expires_s=600)
    return JsonResponse({"pk": message.pk})
