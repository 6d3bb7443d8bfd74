"""Publishes without Django: needs redis-py and the script of the package."""

import base64
import hmac
import json
import time
import uuid

import redis

META_TTL_S = 30 * 24 * 3600


def keys_of(prefix, channel):
    """Names of a channel's keys; see "Names" for what has to be escaped."""
    return [
        f"{prefix}:{{{channel}}}:{part}" for part in ("meta", "stream", "versions", "live")
    ]


def header(event):
    return json.dumps({"id": uuid.uuid4().hex, "event": event, "sentAt": time.time()})


def signed(header, channel, payload, key):
    """A header with its signature, where the site has an ``envelope_key``."""
    text = f"{channel}\n{header}\n{payload}"
    digest = hmac.digest(key.encode(), text.encode(), "sha256")
    signature = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    return f'{header[:-1]},"sig":"{signature}"}}'


def publish(client, prefix, channel, payload, event="", key=""):
    """To a channel without history: no script needed."""
    live = keys_of(prefix, channel)[3]
    head, body = header(event), json.dumps(payload)
    if key:
        head = signed(head, channel, body, key)
    client.publish(live, f"1:0::{head}\n{body}")


def publish_with_history(client, script, prefix, channel, payload, *, size, ttl_s):
    """To a channel with history: ``script`` is the text of ``publish.lua``."""
    run = client.register_script(script)
    epoch, offset, _ = run(
        keys=keys_of(prefix, channel),
        args=[
            header("said"),
            json.dumps(payload),
            size,
            ttl_s,
            META_TTL_S,
            uuid.uuid4().hex[:12],
            "",
            "",
            "PUBLISH",
        ],
    )
    return epoch, offset


if __name__ == "__main__":
    publish(redis.Redis(), "pubsub", "news", {"text": "hello"})
