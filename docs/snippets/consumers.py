# consumers.py
import re

from redis_pubsub import apublish, consumer, receiver, send

from .models import Message


# begin count
@consumer("count_words", retries=5, backoff_s=2)
def count_words(message_pk):
    """Runs in a thread of a worker, and may use the ORM."""
    words = len(Message.objects.get(pk=message_pk).body.split())
    send("announce", text=f"{words} words")


@consumer("announce")
async def announce(text):
    """Runs on a worker's event loop."""
    await apublish("announcements", {"text": text})


# end count


# begin receivers
@receiver("announcements")
async def to_log(message):
    """In every serving process, for this channel, whether somebody listens or not."""
    print(message.channel, message.payload)


@receiver(["letters:*", re.compile(r"room:\d+")])
def greet(message, sockets):
    """In every serving process that has sockets which listen to such a channel."""
    for socket in sockets:
        if socket.user_id:
            socket.send({"seen": message.id})


@receiver("orders", once=True)
def book(message):
    """In one process of all, as a job."""
    send("count_words", message_pk=message.payload["message"])


# end receivers
