from redis_pubsub.contrib.websockets import websocket_pubsub


@websocket_pubsub("/ws/board")
async def board(ws, params, manager):
    await manager.forward(ws, "board")
    async for _ in ws:
        pass  # the page says nothing; this waits until it is left


handlerconf = ["board"]
