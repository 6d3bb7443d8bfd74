"""``{% live_script %}`` and ``{% live %}``: the browser module, and where to begin.
``{% socket_url %}``: where a handler or an event socket is."""

from __future__ import annotations

import json
from typing import Any

from django import template
from django.template.base import FilterExpression, NodeList, Parser, Token
from django.template.context import Context
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from ..conf import get_config
from ..contrib.websockets.routes import clean_route
from ..messages import Position
from ..publishing.positions import positions, refuse_old_snapshot
from ..views import ATTRIBUTE

register = template.Library()

MODULE = "redis_pubsub/redis_pubsub.js"
CLASSIC = "redis_pubsub/redis_pubsub.classic.js"
# So that no text inside ends the element.
_ESCAPES = {ord(sign): f"\\u{ord(sign):04X}" for sign in "<>&"}


@register.simple_tag(takes_context=True)
def live_script(context: Context, classic: bool = False) -> SafeString:
    """Load the browser module, and tell it where the endpoint is and where the channels of
    `live_page` stood before the page was made.

    Args:
        classic: Load the form for pages without modules: ``window.redisPubSub``.
    """
    options = get_config().live_options
    request = context.get("request")
    paths = {"path": options.base_path, "emulation": options.emulation_path}
    known = getattr(request, ATTRIBUTE, {})
    nonce = context.get("csp_nonce") or getattr(request, "csp_nonce", "")
    return format_html(
        '{}{}<script src="{}"{}{}></script>',
        _data("data-live-config", paths),
        _data("data-live-position", _as_json(known)) if known else "",
        static(CLASSIC if classic else MODULE),
        "" if classic else mark_safe(' type="module"'),
        format_html(' nonce="{}"', nonce) if nonce else "",
    )


@register.simple_tag(takes_context=True)
def socket_url(context: Context, path: str, host: str = "") -> str:
    """The URL of a handler or an event socket: ``{% socket_url "/room/1/" %}``.

    ``wss`` where the page came by HTTPS, also through a proxy that ends TLS, as
    ``request.is_secure()`` says; prefix and final slash as the settings have them.

    Args:
        path: As the handler's route, with values for its parameters; a query may follow.
        host: Of sockets that are served elsewhere; by default the page's.
    """
    request = context.get("request")
    if request is None:
        raise template.TemplateSyntaxError(
            "socket_url needs the request: render the template with it, and keep "
            '"django.template.context_processors.request" in the settings'
        )
    scheme = "wss" if request.is_secure() else "ws"
    bare, mark, query = path.partition("?")
    return f"{scheme}://{host or request.get_host()}{clean_route(bare)}{mark}{query}"


@register.tag
def live(parser: Parser, token: Token) -> LiveNode:
    """Show a state and follow it from there::

        {% live "room:1" as room %}
          {% for message in messages %}…{% endfor %}
        {% endlive %}

    Reads where the channel stands, and only then evaluates what is inside: lazy querysets
    belong there. The channel is a text or a variable; with ``as`` what is inside can say
    ``room.channel``, ``room.epoch`` and ``room.offset``.
    """
    words = token.split_contents()[1:]
    if len(words) not in (1, 3) or (len(words) == 3 and words[1] != "as"):
        raise template.TemplateSyntaxError('write {% live "channel" as name %}')
    inside = parser.parse(("endlive",))
    parser.delete_first_token()
    name = words[2] if len(words) == 3 else ""
    return LiveNode(parser.compile_filter(words[0]), name, inside)


class LiveNode(template.Node):
    """See `live`."""

    def __init__(self, channel: FilterExpression, name: str, nodelist: NodeList) -> None:
        self.channel = channel
        self.name = name
        self.nodelist = nodelist

    def render(self, context: Context) -> SafeString:
        channel = str(self.channel.resolve(context))
        known = getattr(context.get("request"), ATTRIBUTE, {})
        position = known.get(channel) or self._read(channel)
        region = {"channel": channel, "epoch": "", "offset": 0}
        if position is not None:
            region |= {"epoch": position.epoch, "offset": position.offset}
        with context.push(**({self.name: region} if self.name else {})):
            content = self.nodelist.render(context)
        if position is None:
            return content
        return _data("data-live-position", _as_json({channel: position})) + content

    def _read(self, channel: str) -> Position | None:
        refuse_old_snapshot(
            f'put @live_page("{channel}") on the view (LivePageMixin on a class)'
        )
        return positions([channel]).get(channel)


def _as_json(known: dict[str, Position]) -> dict[str, dict[str, Any]]:
    return {
        channel: {"epoch": position.epoch, "offset": position.offset}
        for channel, position in known.items()
    }


def _data(attribute: str, value: Any) -> SafeString:
    """A data block: not run, so that no policy for scripts speaks of it."""
    text = json.dumps(value).translate(_ESCAPES)
    return format_html(
        '<script type="application/json" {}>{}</script>', attribute, mark_safe(text)
    )
