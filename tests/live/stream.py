"""A client of an HTTP stream, and the posts beside it."""

from __future__ import annotations

import json

from .raw import Raw

CONNECT = b'{"id":1,"connect":{}}'


class Stream:
    """A raw HTTP stream whose client has connected, and the posts beside it."""

    def __init__(self, live, raw, connected, **headers):
        self.live = live
        self.raw = raw
        self.session, self.node = connected["session"], connected["node"]
        self.client = connected["client"]
        self.headers = headers

    async def post(self, *commands, **changes):
        """Post commands; gives the status."""
        data = "\n".join(
            command if isinstance(command, str) else json.dumps(command)
            for command in commands
        )
        url = changes.pop("url", self.live.url)
        body = {"session": self.session, "node": self.node, "data": data, **changes}
        data = json.dumps(body, ensure_ascii=False).encode()
        async with self.live.http.post(
            url + "/emulation", data=data, headers=self.headers
        ) as response:
            assert response.status >= 400 or await response.read() == b""
            return response.status

    async def hear(self):
        (reply,) = await self.raw.replies()
        return reply


async def open_stream(live, body=CONNECT, **headers):
    raw = await Raw.open(live)
    await raw.request("POST", "/connection/http_stream", body=body, **headers)
    assert raw.status == 200, raw.status
    (reply, *_) = await raw.replies()
    return Stream(live, raw, reply["connect"], **headers)
