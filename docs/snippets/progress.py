from django.db import transaction

from redis_pubsub.progress import Progress, progress


def import_rows(rows, save):
    """A loop: begins, moves and ends by itself."""
    for row in progress(rows, channel="import", label="Importing"):
        save(row)


def import_file(user, parse, save):
    """A user's own; how much there is turns out on the way."""
    with Progress.for_user(user, "import", label="Reading the file") as bar:
        rows = parse()
        bar.label = "Importing"
        bar.reset(len(rows))
        with transaction.atomic():
            for row in rows:
                save(row)
                bar.tick()


async def fetch_all(urls, fetch):
    """In a coroutine."""
    async for url in progress(urls, channel="fetch", label="Fetching"):
        await fetch(url)
