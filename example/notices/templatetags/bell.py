"""``{% bell %}``: the last notice for whoever looks at the page, and where others come."""

from __future__ import annotations

from typing import Any

from django import template
from django.template.context import Context

from redis_pubsub import last, personal_channels
from redis_pubsub.exceptions import BrokerUnavailable

from ..forms import TOPIC

register = template.Library()


@register.inclusion_tag("notices/_bell.html", takes_context=True)
def bell(context: Context) -> dict[str, Any]:
    """The newest of those to him, to his groups and to everybody; without Redis a bell that
    is silent."""
    request = context["request"]
    channels = personal_channels(request.user, request.session.session_key, topic=TOPIC)
    try:
        notices = [notice.payload for notice in map(last, channels) if notice]
    except BrokerUnavailable:
        notices = []
    newest = max(notices, key=lambda notice: notice["at"], default=None)
    return {"channels": channels, "notice": newest}
