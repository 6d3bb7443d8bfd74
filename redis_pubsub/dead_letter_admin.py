"""The admin's page of jobs that failed for good: look, replay, delete."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.text import Truncator

from .broker.jobs import BlockingJobs, DeadLetter, QueueState
from .consumers import by_name
from .contrib.tasks.consumers import load_all
from .exceptions import PubSubError
from .models import DeadLetter as DeadLetterModel
from .publishing.publisher import publisher

if TYPE_CHECKING:
    Base = admin.ModelAdmin[DeadLetterModel]
else:
    Base = admin.ModelAdmin

SHOWN = 100
"""Of each queue."""
_PAYLOAD_SHOWN = 10_000


@admin.register(DeadLetterModel)
class DeadLetterAdmin(Base):
    """One page of all queues. They are in Redis, so it is none of Django's lists."""

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method == "POST":
            self._act(request)
            return HttpResponseRedirect(request.get_full_path())
        queues: list[tuple[str, QueueState, list[dict[str, Any]]]] = []
        try:
            queues = _queues(publisher.broker().jobs)
        except PubSubError as error:
            messages.error(request, f"Redis does not answer: {error}")
        context = {
            **self.admin_site.each_context(request),
            "title": "Dead letters",
            "opts": self.opts,
            "queues": queues,
            "shown": SHOWN,
            "may_replay": self.has_change_permission(request),
            "may_delete": self.has_delete_permission(request),
            **(extra_context or {}),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/redis_pubsub/dead_letters.html", context)

    def _act(self, request: HttpRequest) -> None:
        """Replay or delete what was ticked.

        Raises:
            PermissionDenied: The user may not.
        """
        jobs = publisher.broker().jobs
        if request.POST.get("action") == "replay":
            may, act, done = self.has_change_permission(request), jobs.replay, "replayed"
        else:
            may, act, done = self.has_delete_permission(request), jobs.delete, "deleted"
        if not may:
            raise PermissionDenied
        count = 0
        try:
            for letter in request.POST.getlist("letter"):
                queue, _, entry = letter.rpartition(" ")
                count += act(queue, entry)
        except PubSubError as error:
            messages.error(request, str(error))
        noun = "job" if count == 1 else "jobs"
        messages.success(request, f"{count} {noun} {done}.")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


def _queues(jobs: BlockingJobs) -> list[tuple[str, QueueState, list[dict[str, Any]]]]:
    names = sorted(by_name(load_all()))
    states = jobs.state(names)
    return [
        (
            name,
            states[name],
            [_row(each) for each in jobs.dead(name, SHOWN)] if states[name].dead else [],
        )
        for name in names
    ]


def _row(letter: DeadLetter) -> dict[str, Any]:
    payload = letter.raw[: 4 * _PAYLOAD_SHOWN].decode(errors="replace")
    died_at = datetime.fromtimestamp(letter.died_at, UTC if settings.USE_TZ else None)
    lines = letter.error.strip().splitlines()
    return {
        "key": f"{letter.queue} {letter.entry}",
        "died_at": timezone.localtime(died_at) if settings.USE_TZ else died_at,
        "attempts": letter.attempts,
        "payload": Truncator(payload).chars(_PAYLOAD_SHOWN),
        "reason": lines[-1] if lines else "",
        "error": letter.error,
    }
