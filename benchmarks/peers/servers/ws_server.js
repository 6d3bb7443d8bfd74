// Node's `ws` with `ioredis`: no compression, native masks (bufferutil), messages as
// buffers from Redis to the sockets. With a second argument, so many cluster workers.
"use strict";
const cluster = require("node:cluster");
const { WebSocketServer } = require("ws");
const Redis = require("ioredis");

const port = Number(process.argv[2]);
const workers = Number(process.argv[3] || 1);

function serve() {
  const url = process.env.REDIS_URL;
  const redis = url.startsWith("unix://")
    ? new Redis({ path: url.slice("unix://".length).split("?")[0] })
    : new Redis(url);
  const sockets = new Map();
  redis.on("messageBuffer", (channel, data) => {
    for (const ws of sockets.get(channel.toString()) || []) {
      ws.send(data, { binary: false });
    }
  });
  const server = new WebSocketServer({
    host: "127.0.0.1", port, perMessageDeflate: false, backlog: 4096,
  });
  server.on("connection", async (ws, request) => {
    const query = new URL(request.url, "http://localhost").searchParams;
    const channels = query.get("channels").split(",");
    ws.on("error", () => {});
    ws.on("close", () => channels.forEach((name) => sockets.get(name)?.delete(ws)));
    for (const name of channels) {
      if (!sockets.has(name)) sockets.set(name, new Set());
      sockets.get(name).add(ws);
      if (sockets.get(name).size === 1) await redis.subscribe(name);
    }
    ws.send('"ready"');
  });
}

if (workers > 1 && cluster.isPrimary) {
  for (let i = 0; i < workers; i++) cluster.fork();
} else {
  serve();
}
