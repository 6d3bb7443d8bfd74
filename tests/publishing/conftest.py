from __future__ import annotations

import pytest

from redis_pubsub.publishing.publisher import publisher


class Sent:
    """What reached the broker, round trip by round trip."""

    def __init__(self):
        self.batches = []
        self.error = None

    @property
    def drafts(self):
        return [draft for batch in self.batches for draft in batch]

    @property
    def bodies(self):
        return [draft.raw.decode() for draft in self.drafts]

    @property
    def events(self):
        return [draft.header.event for draft in self.drafts]


@pytest.fixture
def sent(site, monkeypatch):
    """Watches the process's publisher; the real Redis still gets everything."""
    sent = Sent()
    broker = publisher.broker()
    publish = broker.publish

    def watch(drafts):
        own = [draft for draft in drafts if not draft.channel.startswith("\x00")]
        if sent.error:
            raise sent.error
        if own:
            sent.batches.append(own)
        return publish(drafts)

    monkeypatch.setattr(broker, "publish", watch)
    return sent
