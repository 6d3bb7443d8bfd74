"""Sockets in an application that somebody else has made and runs."""

from __future__ import annotations

import asyncio

import aiohttp
from aiohttp import web

from redis_pubsub import apublish
from redis_pubsub.contrib.websockets import setup, websocket_pubsub


@websocket_pubsub("/hear/{channel}")
async def hear(ws, params, manager):
    await manager.forward(ws, params["channel"])
    ws.send_str("ready")
    await ws.receive()


async def hello(request):
    return web.Response(text="hello from the host")


async def listen(runner):
    """Serve on a free port; its URL."""
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return f"http://127.0.0.1:{runner.addresses[0][1]}"


async def test_a_host_application_serves_sockets_below_a_path(site):
    """T-10: `add_subapp` with `setup()`: its routes, middlewares and runner stay its own;
    sockets end with 1001 when it ends."""
    seen = []

    @web.middleware
    async def note(request, handler):
        seen.append(request.path)
        return await handler(request)

    host = web.Application(middlewares=[note])
    host.router.add_get("/hello", hello)
    host.add_subapp("/live/", setup(handlers=[hear]))
    runner = web.AppRunner(host)
    url = await listen(runner)

    async with aiohttp.ClientSession() as http:
        assert await (await http.get(f"{url}/hello")).text() == "hello from the host"
        ws = await http.ws_connect(f"{url}/live/hear/news")
        assert await ws.receive_str() == "ready"
        await apublish("news", {"n": 1})
        assert await ws.receive_json() == {"n": 1}
        assert (await http.get(f"{url}/live/hear/news")).status == 426
        assert (await http.get(f"{url}/hear/news")).status == 404
        leaving = asyncio.create_task(ws.receive())
        await runner.cleanup()
        assert (await leaving).data == 1001

    assert seen == ["/hello", "/live/hear/news", "/live/hear/news", "/hear/news"]


async def test_an_application_gets_routes_and_a_port_from_a_program(site):
    """T-10: `setup()`, routes of both kinds by hand, any runner of aiohttp: no command."""
    app = setup(handlers=[])
    app.router.add_get("/hello", hello)
    app.router.add_route(*hear.route)
    runner = web.AppRunner(app)
    url = await listen(runner)

    async with aiohttp.ClientSession() as http:
        assert await (await http.get(f"{url}/hello")).text() == "hello from the host"
        ws = await http.ws_connect(f"{url}/hear/x/")
        assert await ws.receive_str() == "ready"
        await ws.close()
    await runner.cleanup()
