// The event socket's class: where it connects, what it says and hears, how it comes back.

import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";

import { EventSocket } from "../../redis_pubsub/static/redis_pubsub/events.js";
import { FakeWebSocket, pass, settle } from "./fakes.mjs";

const SECOND = 1000;

beforeEach(() => {
  FakeWebSocket.all = [];
  globalThis.WebSocket = FakeWebSocket;
  globalThis.location = new URL("https://shop.example/orders/?page=2");
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
});
afterEach(() => {
  mock.timers.reset();
  mock.restoreAll();
  delete globalThis.location;
});

/** An open socket, and the fake behind it. */
async function opened(options) {
  const socket = new EventSocket("/room/a/", options);
  await FakeWebSocket.last.open();
  return [socket, FakeWebSocket.last];
}

function heard(socket, ...events) {
  const all = [];
  for (const event of events) socket.on(event, (data) => all.push([event, data]));
  return all;
}

test("the page says where: host, and wss where it came by https", () => {
  const urls = [
    ["/room/a/", {}, "wss://shop.example/room/a/"],
    ["room/a/", { host: "live.example:8001" }, "wss://live.example:8001/orders/room/a/"],
    ["/room/", { secure: false }, "ws://shop.example/room/"],
    ["ws://other.example/x/", {}, "ws://other.example/x/"],
    ["https://other.example/x/", {}, "wss://other.example/x/"],
  ];
  for (const [path, options, url] of urls) {
    const socket = new EventSocket(path, { autoConnect: false, ...options });
    assert.equal(socket.url, url);
  }
  globalThis.location = new URL("http://localhost:9000/");
  assert.equal(new EventSocket("/x/", { autoConnect: false }).url, "ws://localhost:9000/x/");
  delete globalThis.location;
  assert.equal(new EventSocket("/x/", { autoConnect: false }).url, "ws://localhost:8000/x/");
  assert.equal(FakeWebSocket.all.length, 0);
});

test("events go both ways, to several listeners, until they are taken back", async () => {
  const [socket, server] = await opened();
  const one = heard(socket, "said");
  const two = [];
  const back = socket.on("said", (data) => two.push(data));

  assert.equal(socket.emit("say", { text: "hi" }), true);
  assert.equal(socket.emit("leave"), true);
  assert.deepEqual(server.take(), [
    { event: "say", data: { text: "hi" } },
    { event: "leave", data: {} },
  ]);
  await server.say({ event: "said", data: 1 });
  back();
  await server.say({ event: "said", data: 2 });
  socket.off("said");
  await server.say({ event: "said", data: 3 });

  assert.deepEqual(one, [["said", 1], ["said", 2]]);
  assert.deepEqual(two, [1]);
});

test("a listener that throws is reported and stops nobody", async () => {
  const complaints = [];
  globalThis.reportError = (error) => complaints.push(error.message);
  const [socket, server] = await opened();
  socket.on("said", () => {
    throw new Error("broken");
  });
  const events = heard(socket, "said");
  await server.say({ event: "said" });
  delete globalThis.reportError;

  assert.deepEqual(events, [["said", {}]]);
  assert.deepEqual(complaints, ["broken"]);
});

test("the server cannot play open and close; errors are told", async () => {
  const socket = new EventSocket("/x/");
  const events = heard(socket, "open", "close", "error");
  const others = [];
  socket.onMessage((data) => others.push(data));
  await FakeWebSocket.last.open();
  for (const event of ["open", "close"]) await FakeWebSocket.last.say({ event });
  await FakeWebSocket.last.sayRaw("no json");
  await FakeWebSocket.last.sayRaw("null");
  const refused = { code: 104, reason: "no such event", event: "x" };
  await FakeWebSocket.last.say({ event: "error", data: refused });

  assert.deepEqual(events, [["open", { protocol: "" }], ["error", refused]]);
  assert.deepEqual(others, ['{"event":"open"}', '{"event":"close"}', "no json", "null"]);
});

test("a module has its own names", async () => {
  const [socket, server] = await opened();
  const chat = socket.bind("chat");
  const events = heard(chat, "said");
  chat.emit("say", 1);
  assert.deepEqual(server.take(), [{ event: "chat.say", data: 1 }]);
  await server.say({ event: "said", data: 2 });
  await server.say({ event: "chat.said", data: 3 });
  chat.off("said");
  await server.say({ event: "chat.said", data: 4 });

  assert.deepEqual(events, [["said", 3]]);
});

test("a lost socket comes back, later and later, at most 30 seconds apart", async () => {
  mock.method(Math, "random", () => 0.999999);
  const [socket] = await opened();
  const events = heard(socket, "open", "close");
  const states = [];
  socket.onState((state) => states.push(state));
  await FakeWebSocket.last.lose(1006);
  assert.deepEqual(states, ["waiting"]);
  assert.equal(socket.emit("say"), false);

  const waits = [];
  for (let attempt = 0; attempt < 9; attempt++) {
    const before = FakeWebSocket.all.length;
    let waited = 0;
    while (FakeWebSocket.all.length === before && waited <= 31 * SECOND) {
      await pass(100, 100);
      waited += 100;
    }
    waits.push(waited);
    await FakeWebSocket.last.lose(1006);
  }
  const seconds = [0.5, 1, 2, 4, 8, 16, 30, 30, 30];
  assert.deepEqual(waits, seconds.map((each) => each * SECOND));
  assert.deepEqual(events, [["close", { code: 1006, reason: "", final: false }]]);

  await pass(30 * SECOND, 100);
  await FakeWebSocket.last.open();
  assert.equal(socket.state, "open");
  assert.equal(events.at(-1)[0], "open");
  await pass(6 * SECOND);
  await FakeWebSocket.last.lose(1001);
  const before = FakeWebSocket.all.length;
  await pass(600, 100);
  assert.equal(FakeWebSocket.all.length, before + 1, "a long visit begins anew");
});

test("waits are random, so that a crowd does not return as one", async () => {
  mock.method(Math, "random", () => 0.5);
  await opened();
  await FakeWebSocket.last.lose();
  await pass(240, 10);
  assert.equal(FakeWebSocket.all.length, 1);
  await pass(20, 10);
  assert.equal(FakeWebSocket.all.length, 2);
});

for (const code of [1000, 3500, 3507, 4500, 4999]) {
  test(`after ${code} it stays closed`, async () => {
    const [socket] = await opened();
    const events = heard(socket, "close");
    await FakeWebSocket.last.lose(code, "no");
    await pass(60 * SECOND, 1000);

    assert.equal(FakeWebSocket.all.length, 1);
    assert.equal(socket.state, "closed");
    assert.deepEqual(events, [["close", { code, reason: "no", final: true }]]);
  });
}

test("a server that restarts says when to come back", async () => {
  mock.method(Math, "random", () => 0.5);
  await opened();
  const restarting = "the server is restarting; reconnect in";
  for (const [reason, waitMs] of [
    [`${restarting} 12.5 s`, 12_750],
    [`${restarting} 86400.0 s`, 30_500], // no longer than maxDelayMs, and its jitter
    [`${restarting} 1.2.3 s`, 1_000],
  ]) {
    await FakeWebSocket.last.lose(1001, reason);
    const { length } = FakeWebSocket.all;
    await pass(waitMs - 1);
    assert.equal(FakeWebSocket.all.length, length, reason);
    await pass(1);
    assert.equal(FakeWebSocket.all.length, length + 1, reason);
    await FakeWebSocket.last.open();
  }
});

test("an explicit close stops it, also between two attempts", async () => {
  const [socket, server] = await opened();
  const events = heard(socket, "close", "said");
  socket.close(4001, "bye");
  assert.equal(server.isClosed, true);
  assert.deepEqual(events, [["close", { code: 4001, reason: "bye", final: true }]]);
  await server.say({ event: "said" });
  await server.lose(4001);
  assert.equal(events.length, 1);

  socket.connect();
  socket.connect();
  await FakeWebSocket.last.lose(1006);
  assert.equal(socket.state, "waiting");
  socket.close();
  await pass(60 * SECOND, 1000);
  assert.equal(FakeWebSocket.all.length, 2);
  assert.equal(socket.state, "closed");
  await settle();
});
