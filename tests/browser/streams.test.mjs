// Server-sent events: the way that remains where WebSockets are blocked.

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { FakeEventSource, World, heard, outcome, pass, settle } from "./fakes.mjs";

let world;
beforeEach(() => (world = new World()));
afterEach(() => world.end());

const SECOND = 1000;

async function dial(options) {
  const live = world.live(options);
  live.connect();
  await pass(1);
  return live;
}

// -- which transport

test("a WebSocket that never opened is followed by events at once", async () => {
  await dial({ token: "t" });
  await world.socket.lose();
  await pass(1);
  const { origin, pathname } = new URL(world.source.url);
  assert.equal(origin + pathname, "https://shop.example/connection/sse");
  assert.equal(world.source.connect.connect.token, "t");
});

test("a WebSocket that opened is tried again, not replaced", async () => {
  await dial();
  await world.socket.open();
  await world.socket.lose(3001, "shutdown");
  await pass(600);
  assert.deepEqual([world.sockets.length, world.sources.length], [2, 0]);
});

test("a WebSocket that opened and stays mute is replaced", async () => {
  await dial();
  await world.socket.open();
  await pass(5.1 * SECOND);
  assert.deepEqual([world.sockets.length, world.sources.length], [1, 1]);
});

test("a WebSocket that once worked is never replaced", async () => {
  await world.connected();
  await world.socket.lose();
  await pass(600);
  await world.socket.lose();
  await pass(1100);
  assert.deepEqual([world.sockets.length, world.sources.length], [3, 0]);
});

test("events that once worked are never replaced", async () => {
  await dial();
  await world.socket.lose();
  await pass(1);
  await world.source.open();
  const { id } = world.source.connect;
  await world.source.say({ id, connect: { client: "s1", session: "s", node: "n" } });
  await world.source.fail();
  await pass(600);
  await world.source.fail();
  await pass(1100);
  assert.deepEqual([world.sockets.length, world.sources.length], [1, 3]);
});

test("when all have failed the first one is tried again, after a backoff", async () => {
  await dial();
  await world.socket.lose();
  await pass(1);
  await world.source.fail();
  assert.equal(world.sockets.length, 1);
  await pass(600);
  assert.equal(world.sockets.length, 2);
});

test("a browser without WebSocket takes the next transport", async () => {
  await dial({ WebSocket: undefined });
  await pass(1);
  assert.equal(world.sources.length, 1);
});

test("the transports option is the order in which they are tried", async () => {
  await dial({ transports: ["sse", "websocket"] });
  await world.source.fail();
  await pass(1);
  assert.equal(world.sockets.length, 1);
});

test("the connected event names the transport", async () => {
  const live = world.live({ transports: ["sse"] });
  const connected = heard(live, "connected");
  live.connect();
  await pass(1);
  const { id } = world.source.connect;
  await world.source.say({ id, connect: { client: "s1", session: "s", node: "n" } });
  assert.equal(connected[0].transport, "sse");
});

// -- down

test("pushes arrive by events, several of them in one if need be", async () => {
  const live = await world.streaming();
  const messages = heard(live, "message");
  await world.source.say({ push: { message: { data: 1 } } }, { push: { message: { data: 2 } } });
  assert.deepEqual(messages, [1, 2]);
});

test("an event source that fails is closed: it would return with an old token", async () => {
  const live = await world.streaming();
  await world.source.fail();
  assert.equal(world.source.isClosed, true);
  assert.equal(live.state, "connecting");
});

test("a disconnect push is heard as a close is", async () => {
  const live = await world.streaming();
  await world.source.say({ push: { disconnect: { code: 3503, reason: "force disconnect" } } });
  assert.equal(live.state, "disconnected");
  assert.equal(world.source.isClosed, true);

  const other = await world.streaming();
  await world.source.say({ push: { disconnect: { code: 3001, reason: "shutdown" } } });
  assert.equal(other.state, "connecting");
});

test("a stream's last push says when to come back, as a close does", async () => {
  world.random = 0;
  await world.streaming();
  const before = FakeEventSource.all.length;
  const reason = "shutdown; reconnect in 2.0 s";
  await world.source.say({ push: { disconnect: { code: 3001, reason } } });
  await pass(2000);
  assert.equal(FakeEventSource.all.length, before);
  await pass(200);
  assert.equal(FakeEventSource.all.length, before + 1);
});

test("disconnect closes the event source and aborts the POST under way", async () => {
  const live = await world.streaming();
  outcome(live.rpc("a"));
  await settle();
  live.disconnect();
  await pass(10 * SECOND);
  assert.equal(world.source.isClosed, true);
  assert.equal(world.network.last.isAborted, true);
  assert.equal(live.state, "disconnected");
});

// -- up

test("commands go up by POST, with session and node", async () => {
  const live = await world.streaming();
  outcome(live.rpc("a"));
  await settle();
  const { url, options, body, commands } = world.network.last;
  assert.equal(url, "https://shop.example/emulation");
  assert.equal(options.method, "POST");
  assert.equal(options.headers["Content-Type"], "application/json");
  assert.deepEqual(body, { session: "secret", node: "web-1" });
  assert.deepEqual(commands, [{ id: 2, rpc: { method: "a" } }]);
});

test("where POSTs go is the page's or the option's word", async () => {
  world.page.script("data-live-config", { path: "/connection", emulation: "/up" });
  const live = await world.streaming();
  outcome(live.rpc("a"));
  await settle();
  assert.equal(world.network.last.url, "https://shop.example/up");

  const other = await world.streaming({ url: "wss://x.example/c", emulation: "/there" });
  outcome(other.rpc("a"));
  await settle();
  assert.equal(world.network.last.url, "https://x.example/there");
});

test("subscribes wait for the connect reply and share a POST", async () => {
  const live = world.live({ transports: ["sse"] });
  live.subscribe("a");
  live.subscribe("b");
  await pass(1);
  await world.source.open();
  assert.equal(world.network.posts.length, 0);
  const { id } = world.source.connect;
  await world.source.say({ id, connect: { client: "s1", session: "s", node: "n" } });
  const channels = world.network.last.commands.map(({ subscribe }) => subscribe.channel);
  assert.deepEqual(channels, ["a", "b"]);
});

test("one POST at a time, and what came meanwhile shares the next", async () => {
  const live = await world.streaming();
  outcome(live.rpc("a"));
  await settle();
  outcome(live.rpc("b"));
  await settle();
  outcome(live.rpc("c"));
  await settle();
  assert.equal(world.network.posts.length, 1);

  await world.network.last.answer();
  assert.equal(world.network.posts.length, 2);
  const methods = world.network.last.commands.map(({ rpc }) => rpc.method);
  assert.deepEqual(methods, ["b", "c"]);

  await world.network.last.answer();
  outcome(live.rpc("d"));
  await settle();
  assert.equal(world.network.posts.length, 3);
});

test("a ping is answered by POST", async () => {
  await world.streaming({}, { ping: 25, pong: true });
  await world.source.say({});
  assert.deepEqual(world.network.last.commands, [{}]);
});

for (const status of [404, 500, 503]) {
  test(`an emulation that answers ${status} is a lost connection`, async () => {
    const live = await world.streaming();
    outcome(live.rpc("a"));
    await settle();
    await world.network.last.answer(status);
    assert.equal(live.state, "connecting");
    assert.equal(world.source.isClosed, true);
  });
}

test("a POST that fails in the network is a lost connection", async () => {
  const live = await world.streaming();
  outcome(live.rpc("a"));
  await settle();
  await world.network.last.fail();
  assert.equal(live.state, "connecting");
});

test("a POST without an answer is a lost connection", async () => {
  const live = await world.streaming({ timeout: 1000 });
  outcome(live.send("a"));
  await pass(1100);
  assert.equal(live.state, "connecting");
  assert.equal(world.network.last.isAborted, true);
});

test("after any other refusal the command alone times out", async () => {
  const live = await world.streaming();
  const end = outcome(live.rpc("a"));
  await settle();
  await world.network.last.answer(413);
  await pass(5.1 * SECOND);
  assert.equal(end.error.code, 11);
  assert.equal(live.state, "connected");
});

test("what was to be posted on a lost connection is not posted on the next", async () => {
  const live = await world.streaming();
  const [first, second] = [outcome(live.rpc("a")), settle().then(() => live.rpc("b"))];
  const end = outcome(second);
  await settle();
  await settle();
  await world.source.fail();
  await settle();
  assert.deepEqual([first.error.code, end.error.code], [12, 12]);
  await pass(600);
  const { id } = world.source.connect;
  await world.source.say({ id, connect: { client: "s2", session: "s", node: "n" } });
  await settle();
  assert.equal(world.network.posts.length, 1);
});

test("a stream recovers as a socket does", async () => {
  const live = await world.streaming();
  const publications = heard(live.subscribe("news"), "publication");
  await settle();
  const { commands } = world.network.last;
  await world.network.last.answer();
  const history = { recoverable: true, epoch: "e1", offset: 3 };
  await world.source.say({ id: commands[0].id, subscribe: history });
  await world.source.fail();
  await pass(600);
  const { id } = world.source.connect;
  await world.source.say({ id, connect: { client: "s2", session: "s2", node: "n" } });
  const [again] = world.network.last.commands;
  assert.deepEqual(again.subscribe, { channel: "news", recover: true, epoch: "e1", offset: 3 });
  assert.equal(world.network.last.body.session, "s2");
  const missed = { ...history, recovered: true, publications: [{ data: 4, offset: 4 }] };
  await world.source.say({ id: again.id, subscribe: missed });
  assert.equal(publications.length, 1);
});
