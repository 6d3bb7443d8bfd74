// Calls: what goes out, what comes back, and how they fail.

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { LiveError } from "../../redis_pubsub/static/redis_pubsub/redis_pubsub.js";
import { World, outcome, pass, settle } from "./fakes.mjs";

let world;
beforeEach(() => (world = new World()));
afterEach(() => world.end());

/** Makes a call, answers it, and returns what was sent and how it ended. */
async function exchange(call, reply) {
  const live = await world.connected();
  const end = outcome(call(live));
  await settle();
  const [{ id, ...sent }] = world.socket.take();
  await world.socket.say({ id, ...reply });
  return { sent, end };
}

test("publish sends channel and data", async () => {
  const call = (live) => live.publish("news", { n: 1 });
  const { sent, end } = await exchange(call, { publish: {} });
  assert.deepEqual(sent, { publish: { channel: "news", data: { n: 1 } } });
  assert.deepEqual(end, { value: undefined });
});

test("rpc resolves with the answer's data", async () => {
  const call = (live) => live.rpc("add", [1, 2]);
  const { sent, end } = await exchange(call, { rpc: { data: 3 } });
  assert.deepEqual(sent, { rpc: { method: "add", data: [1, 2] } });
  assert.equal(end.value, 3);
});

test("presence resolves with who is there", async () => {
  const presence = { c1: { user: "7", client: "c1" } };
  const call = (live) => live.presence("news");
  const { sent, end } = await exchange(call, { presence: { presence } });
  assert.deepEqual(sent, { presence: { channel: "news" } });
  assert.deepEqual(end.value, presence);
});

test("presenceStats resolves with the counts", async () => {
  const stats = { num_clients: 2, num_users: 1 };
  const call = (live) => live.presenceStats("news");
  const { sent, end } = await exchange(call, { presence_stats: stats });
  assert.deepEqual(sent, { presence_stats: { channel: "news" } });
  assert.deepEqual(end.value, stats);
});

test("history resolves with publications as handlers get them", async () => {
  const since = { epoch: "e1", offset: 4 };
  const call = (live) => live.history("news", { limit: 10, since, reverse: true });
  const publications = [{ data: "a", offset: 5, tags: { event: "create" } }];
  const result = { publications, epoch: "e1", offset: 9 };
  const { sent, end } = await exchange(call, { history: result });
  assert.deepEqual(sent, { history: { channel: "news", limit: 10, since, reverse: true } });
  assert.deepEqual([end.value.epoch, end.value.offset], ["e1", 9]);
  const [{ channel, data, offset, event, recovered }] = end.value.publications;
  assert.deepEqual([channel, data, offset, event, recovered], ["news", "a", 5, "create", false]);
});

test("send has no id, and resolves without a reply", async () => {
  const live = await world.connected();
  const end = outcome(live.send({ n: 1 }));
  await settle();
  assert.deepEqual(world.socket.take(), [{ send: { data: { n: 1 } } }]);
  assert.deepEqual(end, { value: undefined });
});

test("a subscription's calls name its channel", async () => {
  const live = await world.connected();
  const subscription = live.subscribe("news");
  await settle();
  world.socket.take();
  const calls = ["publish", "presence", "presenceStats", "history"];
  for (const name of calls) outcome(subscription[name]());
  await settle();
  const sent = world.socket.take().map(({ id, ...request }) => request);
  assert.deepEqual(sent, [
    { publish: { channel: "news" } },
    { presence: { channel: "news" } },
    { presence_stats: { channel: "news" } },
    { history: { channel: "news" } },
  ]);
});

test("an error reply rejects with a LiveError", async () => {
  const error = { code: 111, message: "too many requests", temporary: true };
  const { end } = await exchange((live) => live.publish("news", 1), { error });
  assert.ok(end.error instanceof LiveError);
  assert.ok(end.error instanceof Error);
  const { name, code, message, temporary } = end.error;
  assert.deepEqual({ code, message, temporary }, error);
  assert.equal(name, "LiveError");
});

test("a call without an answer fails alone after the timeout", async () => {
  const live = await world.connected({ timeout: 1000 });
  const end = outcome(live.rpc("slow"));
  await pass(1100);
  assert.deepEqual([end.error.code, end.error.temporary], [11, true]);
  assert.equal(live.state, "connected");
});

test("an answer after the timeout harms nobody", async () => {
  const live = await world.connected({ timeout: 1000 });
  outcome(live.rpc("slow"));
  await pass(1100);
  const [{ id }] = world.socket.take();
  await world.socket.say({ id, rpc: { data: 1 } });
  assert.equal(live.state, "connected");
});

test("calls made before the connection stands wait for it, in order", async () => {
  const live = await world.dialled();
  const ends = [outcome(live.publish("a", 1)), outcome(live.send(2)), outcome(live.rpc("b"))];
  live.subscribe("c");
  await settle();
  const waiting = world.socket.take();
  assert.deepEqual(waiting.map((c) => Object.keys(c)[1]), ["connect", "subscribe"]);
  await world.socket.say({ id: 1, connect: { client: "c1" } });
  const [publish, send, rpc] = world.socket.take();
  assert.deepEqual(send, { send: { data: 2 } });
  await world.socket.say({ id: publish.id, publish: {} }, { id: rpc.id, rpc: { data: 3 } });
  assert.deepEqual(ends, [{ value: undefined }, { value: undefined }, { value: 3 }]);
});

test("a call waits for a connection no longer than for a reply", async () => {
  const live = await world.connected();
  await world.socket.lose();
  await pass(600);
  const end = outcome(live.rpc("late"));
  await pass(5100);
  assert.equal(end.error.code, 11);
});

test("calls under way when the connection is lost are rejected, as temporary", async () => {
  const live = await world.connected();
  const end = outcome(live.rpc("now"));
  await settle();
  await world.socket.lose();
  assert.deepEqual([end.error.code, end.error.temporary], [12, true]);
});

test("after disconnect calls fail at once", async () => {
  const live = await world.connected();
  live.disconnect();
  const end = outcome(live.publish("news", 1));
  await settle();
  assert.deepEqual([end.error.code, end.error.temporary], [13, false]);
});

test("calls that wait are rejected when the server sends the client away", async () => {
  const live = await world.dialled();
  const end = outcome(live.rpc("now"));
  await world.socket.lose(3500, "invalid token");
  assert.equal(end.error.code, 13);
});

test("calls that waited go out once, and never after they failed", async () => {
  const live = await world.dialled();
  outcome(live.rpc("once"));
  await world.welcome();
  assert.equal(world.socket.taken("rpc").length, 1);
  await world.socket.lose();
  assert.equal((await world.back()).length, 1);
  assert.deepEqual(world.socket.take(), []);

  await world.socket.lose();
  outcome(live.rpc("never"));
  live.disconnect();
  live.connect();
  await pass(1);
  await world.socket.open();
  await world.welcome();
  assert.deepEqual(world.socket.take(), []);
});

test("what JSON cannot say rejects the call alone", async () => {
  const live = await world.dialled();
  const circle = {};
  circle.self = circle;
  const end = outcome(live.publish("news", circle));
  await world.welcome();
  assert.ok(end.error instanceof TypeError);
  assert.equal(live.state, "connected");
});

test("ids never restart, and no two commands share one", async () => {
  const live = await world.connected();
  outcome(live.rpc("a"));
  outcome(live.rpc("b"));
  await settle();
  const before = world.socket.take().map(({ id }) => id);
  await world.socket.lose();
  const [connect] = await world.back();
  assert.deepEqual([...before, connect.id], [2, 3, 4]);
});
