// The connection: how it comes about, ends, and comes back.

import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";

import { UnauthorizedError } from "../../redis_pubsub/static/redis_pubsub/redis_pubsub.js";
import { FakeWebSocket, World, heard, outcome, pass, settle } from "./fakes.mjs";

let world;
beforeEach(() => (world = new World()));
afterEach(() => world.end());

const SECOND = 1000;

const LONGEST = 0.999999;

/** Milliseconds until the next socket is opened. */
async function untilNextSocket(limit = 30 * SECOND) {
  const before = world.sockets.length;
  let waited = 0;
  while (world.sockets.length === before && waited < limit) {
    await pass(10, 10);
    waited += 10;
  }
  return waited;
}

test("a client connects to the page's host, by the page's protocol", async () => {
  world.live().connect();
  await pass(1);
  assert.equal(world.socket.url, "wss://shop.example/connection/websocket");
});

test("the page's config element says where the endpoint is", async () => {
  world.page.script("data-live-config", { path: "/live" });
  globalThis.location.href = "http://localhost:8000/";
  world.live().connect();
  await pass(1);
  assert.equal(world.socket.url, "ws://localhost:8000/live/websocket");
});

test("the url option may be of any scheme, and counts more than the page", async () => {
  world.page.script("data-live-config", { path: "/live" });
  for (const url of ["https://x.example/c/", "wss://x.example/c", new URL("wss://x.example/c")]) {
    world.live({ url }).connect();
    await pass(1);
    assert.equal(world.socket.url, "wss://x.example/c/websocket");
  }
});

test("nothing is sent before somebody wants something", async () => {
  world.live();
  await pass(10 * SECOND);
  assert.equal(world.sockets.length, 0);
});

test("the first subscribe or call connects", async () => {
  world.live().subscribe("news");
  await pass(1);
  assert.equal(world.sockets.length, 1);

  outcome(world.live().rpc("now"));
  await pass(1);
  assert.equal(world.sockets.length, 2);
});

test("connect is the first command, and carries token, data and name", async () => {
  await world.dialled({ token: "t", data: { v: 3 }, name: "shop" });
  const [command] = world.socket.take();
  assert.deepEqual(command, { id: 1, connect: { token: "t", data: { v: 3 }, name: "shop", subs: {} } });
});

test("states and the connected event say what happens", async () => {
  const live = world.live();
  const states = heard(live, "state");
  const connected = heard(live, "connected");
  assert.equal(live.state, "disconnected");
  assert.equal(live.id, "");

  live.connect();
  await pass(1);
  await world.socket.open();
  await world.welcome({ data: { hello: 1 } });

  assert.equal(live.state, "connected");
  assert.equal(live.id, "c1");
  assert.deepEqual(states, [
    { state: "connecting", code: 0, reason: "connect called" },
    { state: "connected", code: 0, reason: "" },
  ]);
  assert.deepEqual(connected, [
    { client: "c1", data: { hello: 1 }, transport: "websocket", channels: [] },
  ]);
});

test("disconnect closes the socket and stays away", async () => {
  const live = await world.connected();
  const states = heard(live, "state");
  live.disconnect();
  await pass(60 * SECOND);
  assert.deepEqual(states, [{ state: "disconnected", code: 0, reason: "disconnect called" }]);
  assert.equal(world.socket.isClosed, true);
  assert.equal(world.sockets.length, 1);
  assert.equal(live.id, "");
});

test("connect after disconnect connects anew, with ids that go on", async () => {
  const live = await world.connected();
  live.disconnect();
  live.connect();
  await pass(1);
  await world.socket.open();
  assert.equal(world.socket.take()[0].id, 2);
});

test("a disconnect in the state listener of a loss is the last word", async () => {
  const live = await world.connected();
  live.on("state", ({ state }) => state === "connecting" && live.disconnect());
  await world.socket.lose();
  await pass(60 * SECOND);
  assert.equal(live.state, "disconnected");
  assert.equal(world.sockets.length, 1);
});

test("connect while connecting or connected changes nothing", async () => {
  const live = await world.dialled();
  live.connect();
  await world.welcome();
  live.connect();
  await pass(SECOND);
  assert.equal(world.sockets.length, 1);
  assert.equal(live.state, "connected");
});

test("a Live that was disconnected before it began does not begin by itself", async () => {
  const live = world.live();
  live.disconnect();
  live.subscribe("news");
  outcome(live.rpc("now"));
  await pass(SECOND);
  assert.equal(world.sockets.length, 0);
  assert.equal(live.state, "disconnected");
});

test("a client that was sent away does not return for a call", async () => {
  const live = await world.connected();
  await world.socket.lose(3500, "invalid token");
  const end = outcome(live.rpc("now"));
  live.subscribe("news");
  await pass(SECOND);
  assert.equal(end.error.code, 13);
  assert.equal(world.sockets.length, 1);
});

// -- pings

test("a ping is answered when the server wants it", async () => {
  await world.connected({}, { ping: 25, pong: true });
  await world.socket.say({});
  assert.deepEqual(world.socket.take(), [{}]);
});

test("a ping is not answered when the server does not want it", async () => {
  await world.connected({}, { ping: 25 });
  await world.socket.say({});
  assert.deepEqual(world.socket.take(), []);
});

test("silence for ping and ten seconds more is a lost connection", async () => {
  const live = await world.connected({}, { ping: 5 });
  const states = heard(live, "state");
  await pass(10 * SECOND);
  await world.socket.say({});
  await pass(14.9 * SECOND);
  assert.equal(live.state, "connected");
  await pass(0.2 * SECOND);
  assert.deepEqual(states, [{ state: "connecting", code: 2, reason: "no ping" }]);
  assert.equal(world.sockets[0].isClosed, true);
});

test("without pings nothing is watched", async () => {
  const live = await world.connected();
  mock.timers.tick(24 * 3600 * SECOND);
  await settle();
  assert.equal(live.state, "connected");
});

// -- backoff

test("attempts wait ever longer, up to the longest delay", async () => {
  world.random = LONGEST;
  await world.connected();
  const delays = [];
  for (let attempt = 0; attempt < 8; attempt++) {
    await world.socket.lose();
    delays.push(await untilNextSocket());
  }
  const bounds = [500, 1000, 2000, 4000, 8000, 16_000, 20_000, 20_000];
  assert.deepEqual(delays, bounds);
});

test("jitter is full, but nobody returns at once", async () => {
  world.random = 0.5;
  await world.connected();
  await world.socket.lose();
  assert.equal(await untilNextSocket(), 250);
  await world.socket.lose();
  assert.equal(await untilNextSocket(), 500);
  world.random = 0;
  await world.socket.lose();
  assert.equal(await untilNextSocket(), 100);
});

test("minDelay and maxDelay bound the waits", async () => {
  world.random = LONGEST;
  await world.connected({ minDelay: 100, maxDelay: 300 });
  const delays = [];
  for (let attempt = 0; attempt < 3; attempt++) {
    await world.socket.lose();
    delays.push(await untilNextSocket());
  }
  assert.deepEqual(delays, [100, 200, 300]);
});

test("a connection that lasted makes the next wait short again", async () => {
  world.random = LONGEST;
  await world.connected();
  for (const _ of [1, 2, 3]) {
    await world.socket.lose();
    await untilNextSocket();
  }
  await world.socket.open();
  await world.welcome();
  await pass(6 * SECOND);
  await world.socket.lose();
  assert.equal(await untilNextSocket(), 500);
});

test("a server that ends every connection at once is asked ever less often", async () => {
  world.random = LONGEST;
  await world.connected();
  const delays = [];
  for (const _ of [1, 2, 3]) {
    await world.socket.lose(3004, "internal server error");
    delays.push(await untilNextSocket());
    await world.socket.open();
    await world.welcome();
  }
  assert.deepEqual(delays, [500, 1000, 2000]);
});

test("a server that never answers is left after the timeout", async () => {
  const live = await world.connected({ timeout: 2000 });
  await world.socket.lose();
  await pass(600);
  await world.socket.open();
  await pass(2100);
  assert.equal(world.sockets[1].isClosed, true);
  assert.equal(live.state, "connecting");
});

// -- close codes

for (const code of [3001, 3005, 3012, 3499, 4000, 4499]) {
  test(`a close with ${code} is followed by a new attempt`, async () => {
    const live = await world.connected();
    const states = heard(live, "state");
    await world.socket.lose(code, "because");
    assert.deepEqual(states, [{ state: "connecting", code, reason: "because" }]);
    await pass(600);
    assert.equal(world.sockets.length, 2);
  });
}

for (const code of [3500, 3503, 3999, 4500, 4999]) {
  test(`a close with ${code} is final`, async () => {
    const live = await world.connected();
    const states = heard(live, "state");
    await world.socket.lose(code, "because");
    await pass(60 * SECOND);
    assert.deepEqual(states, [{ state: "disconnected", code, reason: "because" }]);
    assert.equal(world.sockets.length, 1);
  });
}

test("a server that stops says when to come back, and jitter is added", async () => {
  world.random = LONGEST;
  await world.connected();
  await world.socket.lose(3001, "shutdown; reconnect in 1.8 s");
  assert.equal(await untilNextSocket(), 1800 + 500);
});

test("what a server asks for is bounded by maxDelay", async () => {
  world.random = 0;
  await world.connected({ maxDelay: 3000 });
  await world.socket.lose(3001, "shutdown; reconnect in 86400.0 s");
  assert.equal(await untilNextSocket(), 3000 + 100);
});

for (const reason of ["reconnect in 5 s or so", "reconnect in a week s", "reconnect in 1.2.3 s"]) {
  test(`"${reason}" is no time`, async () => {
    world.random = 0;
    await world.connected();
    await world.socket.lose(3001, reason);
    assert.equal(await untilNextSocket(), 100);
  });
}

test("who looks at the page does not wait for the time a server asked for", async () => {
  await world.connected();
  await world.socket.lose(3001, "shutdown; reconnect in 15.0 s");
  await world.page.turn("visible");
  await pass(20);
  assert.equal(world.sockets.length, 2);
});

test("a close without a code of the protocol is a closed transport", async () => {
  const live = await world.connected();
  const states = heard(live, "state");
  await world.socket.lose(1006);
  assert.deepEqual(states, [{ state: "connecting", code: 1, reason: "transport closed" }]);
});

test("a frame too large for the server is final", async () => {
  const live = await world.connected();
  const states = heard(live, "state");
  await world.socket.lose(1009, "too big");
  assert.deepEqual(states, [{ state: "disconnected", code: 3, reason: "message size limit" }]);
});

test("a code from 5000 up leads to a new attempt", async () => {
  const live = await world.connected();
  await world.socket.say({ push: { disconnect: { code: 5000, reason: "later" } } });
  assert.equal(live.state, "connecting");
});

// -- the browser

test("offline is connecting, and online is a new attempt at once", async () => {
  const live = await world.connected();
  const states = heard(live, "state");
  await world.page.fire("offline");
  assert.deepEqual(states, [{ state: "connecting", code: 1, reason: "offline" }]);
  assert.equal(world.socket.isClosed, true);
  await world.page.fire("online");
  await pass(1);
  assert.equal(world.sockets.length, 2);
});

test("a browser that is wrong about being offline still gets back", async () => {
  await world.connected();
  await world.page.fire("offline");
  await pass(600);
  assert.equal(world.sockets.length, 2);
});

test("online makes the waits short again", async () => {
  world.random = LONGEST;
  await world.connected();
  for (const _ of [1, 2, 3, 4]) {
    await world.socket.lose();
    await untilNextSocket();
  }
  await world.socket.lose();
  await world.page.fire("online");
  await pass(1);
  await world.socket.lose();
  assert.equal(await untilNextSocket(), 500);
});

test("a page that becomes visible does not wait for the backoff", async () => {
  world.random = LONGEST;
  await world.connected();
  await world.socket.lose();
  await world.page.turn("visible");
  await pass(1);
  assert.equal(world.sockets.length, 2);
});

test("what cuts a wait short does not open a second socket later", async () => {
  world.random = LONGEST;
  await world.connected();
  await world.socket.lose();
  await world.page.fire("online");
  await world.page.turn("visible");
  await pass(SECOND);
  assert.equal(world.sockets.length, 2);
});

test("a page that becomes hidden changes nothing", async () => {
  world.random = LONGEST;
  await world.connected();
  await world.socket.lose();
  await world.page.turn("hidden");
  await pass(1);
  assert.equal(world.sockets.length, 1);
});

test("a page that wakes up looks at the clock, since timers slept", async () => {
  const live = await world.connected({}, { ping: 25 });
  mock.timers.setTime(Date.now()); // a machine's sleep moves the clock alone
  const now = Date.now();
  mock.method(Date, "now", () => now + 36 * SECOND);
  await world.page.turn("visible");
  await pass(1);
  assert.equal(world.sockets[0].isClosed, true);
  assert.equal(world.sockets.length, 2);
  assert.equal(live.state, "connecting");
});

test("a page that wakes up keeps a connection that spoke lately", async () => {
  await world.connected({}, { ping: 25 });
  await pass(30 * SECOND, 1000);
  await world.page.turn("visible");
  await pass(1);
  assert.equal(world.sockets.length, 1);
  assert.equal(world.socket.isClosed, false);
});

test("after disconnect the browser's events mean nothing", async () => {
  const live = await world.connected();
  live.disconnect();
  await world.page.fire("offline");
  await world.page.fire("online");
  await pass(SECOND);
  assert.equal(live.state, "disconnected");
});

test("a worker without a page or window events connects too", async () => {
  world.page.remove();
  world.live({ url: "wss://x.example/connection" }).connect();
  await pass(1);
  assert.equal(world.sockets.length, 1);
});

// -- tokens

test("getToken is asked before the first connect", async () => {
  const getToken = mock.fn(async () => "fresh");
  await world.dialled({ getToken });
  assert.equal(world.socket.take()[0].connect.token, "fresh");
  assert.equal(getToken.mock.callCount(), 1);
});

test("a given token is used first, and getToken not asked", async () => {
  const getToken = mock.fn(async () => "fresh");
  await world.dialled({ token: "given", getToken });
  assert.equal(world.socket.take()[0].connect.token, "given");
  assert.equal(getToken.mock.callCount(), 0);
});

test("error 109 to connect leads to a new token and a new attempt", async () => {
  const live = await world.dialled({ token: "old", getToken: async () => "new" });
  await world.socket.say({ id: 1, error: { code: 109, message: "token expired" } });
  assert.equal(live.state, "connecting");
  await pass(600);
  await world.socket.open();
  assert.equal(world.socket.take()[0].connect.token, "new");
});

test("error 109 to connect is final where no other token can be had", async () => {
  const live = await world.dialled({ token: "old" });
  const states = heard(live, "state");
  await world.socket.say({ id: 1, error: { code: 109, message: "token expired" } });
  assert.deepEqual(states, [{ state: "disconnected", code: 109, reason: "token expired" }]);
});

test("a temporary error to connect leads to a new attempt with the same token", async () => {
  const live = await world.dialled({ token: "t" });
  const errors = heard(live, "error");
  await world.socket.say({ id: 1, error: { code: 100, message: "internal", temporary: true } });
  assert.equal(errors[0].code, 100);
  await pass(600);
  await world.socket.open();
  assert.equal(world.socket.take()[0].connect.token, "t");
});

test("any other error to connect is final", async () => {
  const live = await world.dialled();
  const errors = heard(live, "error");
  await world.socket.say({ id: 1, error: { code: 101, message: "unauthorized" } });
  assert.equal(live.state, "disconnected");
  assert.deepEqual([errors[0].code, errors[0].temporary], [101, false]);
});

test("UnauthorizedError from getToken is final", async () => {
  const live = world.live({
    getToken: async () => {
      throw new UnauthorizedError("who are you?");
    },
  });
  const states = heard(live, "state");
  live.connect();
  await pass(60 * SECOND);
  assert.deepEqual(states.at(-1), { state: "disconnected", code: 1, reason: "unauthorized" });
  assert.equal(world.sockets.length, 0);
});

test("an empty token is no token", async () => {
  const live = world.live({ getToken: async () => "" });
  live.connect();
  await pass(1);
  assert.equal(live.state, "disconnected");
});

test("any other error from getToken is told and tried again", async () => {
  const getToken = mock.fn(async () => "fresh");
  getToken.mock.mockImplementationOnce(async () => {
    throw new Error("no network");
  });
  const live = world.live({ getToken });
  const errors = heard(live, "error");
  live.connect();
  await pass(600);
  assert.match(errors[0].message, /no network/);
  assert.equal(errors[0].temporary, true);
  assert.equal(world.sockets.length, 1);
});

test("a disconnect while getToken is asked opens no socket", async () => {
  let give;
  const live = world.live({ getToken: () => new Promise((resolve) => (give = resolve)) });
  live.connect();
  await pass(1);
  live.disconnect();
  give("late");
  await pass(SECOND);
  assert.equal(world.sockets.length, 0);
});

test("a connection that expires is refreshed at its time to live", async () => {
  const getToken = mock.fn(async () => "second");
  await world.connected({ token: "first", getToken }, { expires: true, ttl: 60 });
  await pass(59.9 * SECOND, 100);
  assert.deepEqual(world.socket.take(), []);
  await pass(0.2 * SECOND);
  const [command] = world.socket.take();
  assert.deepEqual(command.refresh, { token: "second" });

  await world.socket.say({ id: command.id, refresh: { expires: true, ttl: 30 } });
  await pass(30.1 * SECOND, 100);
  assert.equal(world.socket.taken("refresh").length, 1);
});

test("a reply without an expiry ends the refreshing", async () => {
  await world.connected({ getToken: async () => "t" }, { expires: true, ttl: 1 });
  await pass(1.1 * SECOND);
  const [{ id }] = world.socket.take();
  await world.socket.say({ id, refresh: {} });
  await pass(120 * SECOND, 1000);
  assert.deepEqual(world.socket.take(), []);
});

test("a very long time to live does not refresh at once", async () => {
  await world.connected({ getToken: async () => "t" }, { expires: true, ttl: 90 * 24 * 3600 });
  await pass(10 * SECOND);
  assert.deepEqual(world.socket.take(), []);
  mock.timers.tick(2 ** 31);
  await settle();
  assert.equal(world.socket.taken("refresh").length, 1);
});

test("a temporary error to refresh is tried again in five to ten seconds", async () => {
  const live = await world.connected({ getToken: async () => "t" }, { expires: true, ttl: 1 });
  await pass(1.1 * SECOND);
  const [{ id }] = world.socket.take();
  await world.socket.say({ id, error: { code: 100, message: "internal", temporary: true } });
  await pass(4.8 * SECOND);
  assert.deepEqual(world.socket.take(), []);
  await pass(5.3 * SECOND);
  assert.equal(world.socket.taken("refresh").length, 1);
  assert.equal(live.state, "connected");
});

test("a getToken that fails at expiry is asked again in five to ten seconds", async () => {
  const getToken = mock.fn(async () => {
    throw new Error("no network");
  });
  await world.connected({ token: "t", getToken }, { expires: true, ttl: 1 });
  await pass(1.1 * SECOND);
  assert.equal(getToken.mock.callCount(), 1);
  await pass(10.1 * SECOND);
  assert.equal(getToken.mock.callCount(), 2);
});

test("any other error to refresh is final", async () => {
  const live = await world.connected({ getToken: async () => "t" }, { expires: true, ttl: 1 });
  await pass(1.1 * SECOND);
  const [{ id }] = world.socket.take();
  await world.socket.say({ id, error: { code: 109, message: "token expired" } });
  assert.equal(live.state, "disconnected");
});

test("UnauthorizedError at expiry is final", async () => {
  const getToken = async () => {
    throw new UnauthorizedError();
  };
  const live = await world.connected({ token: "t", getToken }, { expires: true, ttl: 1 });
  const states = heard(live, "state");
  await pass(1.1 * SECOND);
  assert.deepEqual(states, [{ state: "disconnected", code: 1, reason: "unauthorized" }]);
});

test("a connection that ended is not refreshed, however late the token comes", async () => {
  let give;
  const getToken = () => new Promise((resolve) => (give = resolve));
  await world.connected({ token: "t", getToken }, { expires: true, ttl: 1 });
  await pass(1.1 * SECOND);
  await world.socket.lose();
  await world.back();
  give("late");
  await settle();
  assert.deepEqual(world.socket.take(), []);
});

test("a connection that is lost before its expiry asks for no token then", async () => {
  const getToken = mock.fn(async () => "t");
  await world.connected({ token: "t", getToken }, { expires: true, ttl: 1 });
  await world.socket.lose();
  await pass(2 * SECOND);
  assert.equal(getToken.mock.callCount(), 0);
});

test("without getToken an expiring connection is left to the server", async () => {
  const live = await world.connected({ token: "t" }, { expires: true, ttl: 1 });
  await pass(20 * SECOND);
  assert.equal(live.state, "connected");
  assert.deepEqual(world.socket.take(), []);
});

test("an expired or invalidated connection comes back with a new token", async () => {
  for (const code of [3005, 3014]) {
    await world.connected({ token: "old", getToken: async () => "new" });
    await world.socket.lose(code, "over");
    const [{ connect }] = await world.back();
    assert.equal(connect.token, "new");
  }
});

// -- garbage

for (const garbage of ["<html>", "[", "5", "null", '"ping"']) {
  test(`${garbage} from the server is reported and ends the connection, not the client`, async () => {
    const live = await world.connected();
    await world.socket.sayRaw(garbage);
    assert.equal(world.complaints.length, 1);
    assert.equal(live.state, "connecting");
    await pass(600);
    assert.equal(world.sockets.length, 2);
  });
}

test("a binary frame ends the connection, not the client", async () => {
  const live = await world.connected();
  await world.socket.sayRaw(new ArrayBuffer(2));
  assert.equal(live.state, "connecting");
});

test("what nobody asked for is ignored", async () => {
  const live = await world.connected();
  await world.socket.say(
    { id: 99, publish: {} },
    { push: { channel: "unknown", pub: { data: 1 } } },
    { push: { channel: "unknown", unsubscribe: { code: 2000, reason: "x" } } },
    { push: { channel: "unknown", novelty: {} } },
    { push: {} },
    { novelty: {} },
  );
  assert.equal(live.state, "connected");
  assert.deepEqual(world.complaints, []);
});

test("empty lines are ignored", async () => {
  const live = await world.connected();
  await world.socket.sayRaw('\n{"push":{"message":{"data":1}}}\n\n');
  assert.equal(live.state, "connected");
});

test("what follows a disconnect in one frame is not heard", async () => {
  const live = await world.connected();
  const messages = heard(live, "message");
  await world.socket.say(
    { push: { disconnect: { code: 3001, reason: "shutdown" } } },
    { push: { message: { data: 1 } } },
  );
  assert.deepEqual(messages, []);
});

// -- messages and listeners

test("a message to the connection is an event", async () => {
  const live = await world.connected();
  const messages = heard(live, "message");
  await world.socket.say({ push: { message: { data: { n: 1 } } } });
  assert.deepEqual(messages, [{ n: 1 }]);
});

test("off takes off one listener, or all of an event", async () => {
  const live = await world.connected();
  const messages = heard(live, "message");
  const listener = mock.fn();
  live.on("message", listener);
  live.off("message", listener);
  await world.socket.say({ push: { message: { data: 1 } } });
  live.off("message");
  live.off("error", listener);
  await world.socket.say({ push: { message: { data: 2 } } });
  assert.deepEqual(messages, [1]);
  assert.equal(listener.mock.callCount(), 0);
});

test("a listener that throws is reported and harms nobody", async () => {
  const live = await world.connected();
  live.on("message", () => {
    throw new Error("mine");
  });
  const messages = heard(live, "message");
  await world.socket.say({ push: { message: { data: 1 } } });
  assert.deepEqual(messages, [1]);
  assert.equal(world.complaints[0].message, "mine");
  assert.equal(live.state, "connected");
});

test("a socket that cannot even be made is a lost one", async () => {
  class Forbidden extends FakeWebSocket {
    constructor() {
      throw new Error("forbidden by policy");
    }
  }
  const live = world.live({ WebSocket: Forbidden, transports: ["websocket"] });
  live.connect();
  await pass(SECOND);
  assert.equal(live.state, "connecting");
});
