# A program in Python: pip install centrifuge-python
import asyncio

from centrifuge import Client, SubscriptionEventHandler


class Print(SubscriptionEventHandler):
    async def on_publication(self, context):
        publication = context.pub
        print(publication.tags.get("event"), publication.tags.get("pk"), publication.data)


async def follow(url, channel, get_token, events=None):
    """``get_token`` is a coroutine function that gives a fresh connection token."""
    client = Client(url, get_token=get_token)
    subscription = client.new_subscription(channel, events or Print(), recoverable=True)
    await client.connect()
    await subscription.subscribe()
    return client


async def main():
    async def get_token():
        return "ask your site for it"

    await follow("ws://localhost:8000/connection/websocket", "room:1", get_token)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
