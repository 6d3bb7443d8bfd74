import asyncio

import aiohttp


async def listen(http, url, *channels, token=""):
    """Events of some channels as (event, data), for as long as they may be heard."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    while True:
        try:
            params = [("channel", channel) for channel in channels]
            async with http.get(url, params=params, headers=headers) as response:
                response.raise_for_status()
                event, data = "message", []
                async for line in response.content:
                    field, _, value = line.decode().rstrip("\n").partition(": ")
                    if field == "id":
                        headers["Last-Event-ID"] = value
                    elif field == "event":
                        event = value
                    elif field == "data":
                        data.append(value)
                    elif field == "":
                        if data:
                            yield event, "\n".join(data)
                        event, data = "message", []
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError):
            pass
        await asyncio.sleep(1)
