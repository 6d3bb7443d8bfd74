from django.http import JsonResponse

from redis_pubsub.publishing.outbox import state


def health(request):
    """Unwell if a message has waited for a minute."""
    outbox = state()
    status = 503 if outbox.oldest_s > 60 else 200
    body = {"waiting": outbox.depth, "oldest_s": outbox.oldest_s, "parked": outbox.parked}
    return JsonResponse(body, status=status)
