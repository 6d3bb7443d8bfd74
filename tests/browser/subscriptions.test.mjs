// Subscriptions: what is asked, what is heard, and that nothing is lost or heard twice.

import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";

import { UnauthorizedError } from "../../redis_pubsub/static/redis_pubsub/redis_pubsub.js";
import { World, heard, outcome, pass, settle } from "./fakes.mjs";

let world;
beforeEach(() => (world = new World()));
afterEach(() => world.end());

const SECOND = 1000;
const HISTORY = { recoverable: true, positioned: true, epoch: "e1" };

function pub(channel, offset, data = offset) {
  return { push: { channel, pub: { data, offset } } };
}

/** A Live that is subscribed to "news" with history, at offset 10. */
async function following(options = {}, result = {}) {
  const live = await world.connected();
  const subscription = live.subscribe("news", null, options);
  await settle();
  await world.subscribed({ ...HISTORY, offset: 10, ...result });
  return { live, subscription };
}

/** The subscribe command after a lost connection, once it is back. */
async function resubscribe() {
  const commands = await world.back();
  return commands.find((command) => command.subscribe);
}

// -- asking

test("subscribes made before the connection stands go in connect's frame", async () => {
  const live = world.live();
  live.subscribe("a");
  live.subscribe("b");
  await pass(1);
  await world.socket.open();
  assert.equal(world.socket.frames.length, 1);
  const commands = world.socket.take();
  assert.deepEqual(Object.keys(commands[0]), ["id", "connect"]);
  assert.deepEqual(commands.slice(1), [
    { id: 2, subscribe: { channel: "a" } },
    { id: 3, subscribe: { channel: "b" } },
  ]);
});

test("subscribes of one turn share a frame, but none that a server would refuse", async () => {
  const live = await world.connected();
  for (let n = 0; n < 100; n++) live.subscribe(`c${n}`, null, { token: "t".repeat(1000) });
  await settle();
  const { frames } = world.socket;
  assert.ok(frames.length > 1 && frames.length < 10);
  assert.ok(frames.every((frame) => frame.length * 3 < 65_536));
  assert.deepEqual(
    world.socket.take().map(({ subscribe }) => subscribe.channel),
    Array.from({ length: 100 }, (_, n) => `c${n}`),
  );
});

test("the options are what the subscribe command says", async () => {
  const live = await world.connected();
  const wishes = { positioned: true, recoverable: true, joinLeave: true };
  live.subscribe("news", null, { token: "t", data: { a: 1 }, ...wishes });
  await settle();
  const [{ subscribe }] = world.socket.take();
  assert.deepEqual(subscribe, {
    channel: "news",
    token: "t",
    data: { a: 1 },
    positioned: true,
    recoverable: true,
    join_leave: true,
  });
});

test("states and ready say when it stands", async () => {
  const live = await world.connected();
  const subscription = live.subscribe("news");
  const states = heard(subscription, "state");
  assert.equal(subscription.state, "subscribing");
  await settle();
  await world.subscribed({ data: { hello: 1 } });
  assert.equal(subscription.state, "subscribed");
  assert.deepEqual(await subscription.ready, { data: { hello: 1 }, recovered: false });
  assert.deepEqual(states, [
    {
      channel: "news",
      state: "subscribed",
      code: 0,
      reason: "",
      data: { hello: 1 },
      recovered: false,
    },
  ]);
});

test("one channel has one subscription, with the handlers of every call", async () => {
  const live = await world.connected();
  const [first, second] = [mock.fn(), mock.fn()];
  const subscription = live.subscribe("news", first);
  assert.equal(live.subscribe("news", second), subscription);
  await settle();
  assert.equal(world.socket.frames.join("\n").match(/subscribe/g).length, 1);
  await world.subscribed();
  await world.socket.say(pub("news", undefined, "hi"));
  assert.equal(first.mock.callCount(), 1);
  assert.equal(second.mock.callCount(), 1);
});

test("off takes one handler off and leaves the other", async () => {
  const { live, subscription } = await following();
  const [first, second] = [mock.fn(), mock.fn()];
  live.subscribe("news", first);
  live.subscribe("news", second);
  subscription.off("publication", first);
  await world.socket.say(pub("news", 11));
  assert.deepEqual([first.mock.callCount(), second.mock.callCount()], [0, 1]);
  assert.equal(subscription.state, "subscribed");
});

test("a channel that is subscribed is not asked for again", async () => {
  const { live } = await following();
  live.subscribe("news", () => {});
  await settle();
  assert.deepEqual(world.socket.take(), []);
});

test("a subscribe that was lost with its connection is asked again", async () => {
  const live = await world.connected();
  const subscription = live.subscribe("news");
  await settle();
  await world.socket.lose();
  const { id } = await resubscribe();
  await world.socket.say({ id, subscribe: {} });
  assert.equal(subscription.state, "subscribed");
});

// -- publications

test("a publication says which object it is of, by its tags", async () => {
  const { subscription } = await following();
  const publications = heard(subscription, "publication");
  const tags = { event: "update", model: "shop.order", pk: "5" };
  const info = { user: "7", client: "c9", conn_info: { name: "Ada" } };
  const message = { data: { total: 3 }, offset: 11, info, tags };
  await world.socket.say({ push: { channel: "news", pub: message } });
  assert.deepEqual(publications, [
    { channel: "news", recovered: false, ...tags, ...message },
  ]);
});

test("a publication without tags has no event, model or pk", async () => {
  const { subscription } = await following();
  const publications = heard(subscription, "publication");
  await world.socket.say(pub("news", 11));
  const [{ event, model, pk, tags }] = publications;
  assert.deepEqual([event, model, pk, tags], [undefined, undefined, undefined, {}]);
});

test("joins and leaves say who", async () => {
  const { subscription } = await following();
  const joins = heard(subscription, "join");
  const leaves = heard(subscription, "leave");
  const info = { user: "7", client: "c9" };
  await world.socket.say({ push: { channel: "news", join: { info } } });
  await world.socket.say({ push: { channel: "news", leave: { info } } });
  assert.deepEqual(joins, [{ channel: "news", info }]);
  assert.deepEqual(leaves, [{ channel: "news", info }]);
});

test("a publication at or below the known offset is dropped", async () => {
  const { subscription } = await following();
  const publications = heard(subscription, "publication");
  await world.socket.say(...[11, 11, 10, 3, 12].map((offset) => pub("news", offset)));
  assert.deepEqual(
    publications.map(({ offset }) => offset),
    [11, 12],
  );
});

test("a stream nobody watches may count anew: nothing is dropped", async () => {
  const live = await world.connected();
  const publications = heard(live.subscribe("news"), "publication");
  await settle();
  await world.subscribed({ offset: 10, epoch: "e1" });
  await world.socket.say(pub("news", 11), pub("news", 1));
  assert.equal(publications.length, 2);
});

test("publications without an offset always arrive", async () => {
  const { subscription } = await following();
  const publications = heard(subscription, "publication");
  await world.socket.say(pub("news", undefined, "a"), pub("news", undefined, "a"));
  assert.equal(publications.length, 2);
});

test("a publication before the subscribe reply is not heard", async () => {
  const live = await world.connected();
  const publications = heard(live.subscribe("news"), "publication");
  await settle();
  await world.socket.say(pub("news", 1));
  assert.deepEqual(publications, []);
});

test("nothing else is heard before the subscribe reply either", async () => {
  const live = await world.connected();
  const subscription = live.subscribe("news");
  const joins = heard(subscription, "join");
  await settle();
  const unsubscribe = { code: 2000, reason: "of before" };
  await world.socket.say(
    { push: { channel: "news", join: { info: { user: "7", client: "c9" } } } },
    { push: { channel: "news", unsubscribe } },
  );
  assert.deepEqual(joins, []);
  assert.equal(subscription.state, "subscribing");
});

test("a reply and its first publication may share a frame", async () => {
  const live = await world.connected();
  const publications = heard(live.subscribe("news"), "publication");
  await settle();
  const [{ id }] = world.socket.take();
  await world.socket.say({ id, subscribe: {} }, pub("news", undefined, "hi"));
  assert.equal(publications.length, 1);
});

// -- recovery

test("after a lost connection the subscription asks for what it missed", async () => {
  const { subscription } = await following();
  const publications = heard(subscription, "publication");
  const resets = heard(subscription, "reset");
  await world.socket.say(pub("news", 11));
  await world.socket.lose();
  assert.equal(subscription.state, "subscribing");

  const { id, subscribe } = await resubscribe();
  assert.deepEqual(subscribe, { channel: "news", recover: true, epoch: "e1", offset: 11 });

  const missed = [12, 13].map((offset) => ({ data: offset, offset }));
  const result = { ...HISTORY, offset: 11, was_recovering: true, recovered: true };
  await world.socket.say({ id, subscribe: { ...result, publications: missed } });
  await world.socket.say(pub("news", 13), pub("news", 14));
  assert.deepEqual(
    publications.map(({ offset, recovered }) => [offset, recovered]),
    [
      [11, false],
      [12, true],
      [13, true],
      [14, false],
    ],
  );
  assert.deepEqual(resets, []);
});

test("a recovery is heard in full from a server that answers with the top", async () => {
  const { subscription } = await following();
  const publications = heard(subscription, "publication");
  await world.socket.lose();
  const { id } = await resubscribe();
  const missed = [11, 12].map((offset) => ({ data: offset, offset }));
  const result = { ...HISTORY, offset: 12, was_recovering: true, recovered: true };
  await world.socket.say({ id, subscribe: { ...result, publications: missed } });
  assert.equal(publications.length, 2);
});

test("a recovery that failed is a reset, and the new position counts", async () => {
  const { subscription } = await following();
  const resets = heard(subscription, "reset");
  const publications = heard(subscription, "publication");
  await world.socket.lose();
  const { id } = await resubscribe();
  const result = { recoverable: true, epoch: "e2", offset: 3, was_recovering: true };
  await world.socket.say({ id, subscribe: result });
  assert.deepEqual(resets, [{ channel: "news", reason: "messages were missed" }]);
  await world.socket.say(pub("news", 4));
  assert.equal(publications.length, 1);

  await world.socket.lose();
  const again = await resubscribe();
  assert.deepEqual(
    [again.subscribe.epoch, again.subscribe.offset],
    ["e2", 4],
  );
});

test("a subscription that cannot recover resets after every lost connection", async () => {
  const { subscription } = await following({}, { recoverable: false });
  const resets = heard(subscription, "reset");
  await world.socket.lose();
  const { id, subscribe } = await resubscribe();
  assert.equal("recover" in subscribe, false);
  await world.socket.say({ id, subscribe: {} });
  assert.equal(resets.length, 1);
});

test("the first subscribe is no reset", async () => {
  const live = await world.connected();
  const resets = heard(live.subscribe("news"), "reset");
  await settle();
  await world.subscribed({});
  assert.deepEqual(resets, []);
});

test("the offset moves once the handler has returned", async () => {
  const { live, subscription } = await following();
  subscription.on("publication", () => {
    live.disconnect();
    live.connect();
  });
  await world.socket.say(pub("news", 11), pub("news", 12));
  const { subscribe } = await resubscribe();
  assert.equal(subscribe.offset, 11);
});

test("a handler that throws does not stop the stream", async () => {
  const { subscription } = await following();
  subscription.on("publication", () => {
    throw new Error("mine");
  });
  await world.socket.say(pub("news", 11));
  await world.socket.lose();
  const { subscribe } = await resubscribe();
  assert.equal(subscribe.offset, 11);
  assert.equal(world.complaints.length, 1);
});

test("a handler may unsubscribe in the middle of a recovery", async () => {
  const { subscription } = await following();
  const publications = heard(subscription, "publication");
  subscription.on("publication", () => subscription.unsubscribe());
  await world.socket.lose();
  const { id } = await resubscribe();
  const missed = [11, 12].map((offset) => ({ data: offset, offset }));
  const result = { ...HISTORY, offset: 10, was_recovering: true, recovered: true };
  await world.socket.say({ id, subscribe: { ...result, publications: missed } });
  assert.equal(publications.length, 1);
});

test("since asks for what came after it, on the first subscribe already", async () => {
  const live = await world.connected();
  const since = { epoch: "e1", offset: 7 };
  const publications = heard(live.subscribe("news", null, { since }), "publication");
  await settle();
  const result = { ...HISTORY, offset: 7, was_recovering: true, recovered: true };
  const sent = await world.subscribed({ ...result, publications: [{ data: 8, offset: 8 }] });
  assert.deepEqual(sent, { channel: "news", recover: true, epoch: "e1", offset: 7 });
  assert.equal(publications.length, 1);
});

test("a since the server cannot follow is a reset", async () => {
  const live = await world.connected();
  const since = { epoch: "e0", offset: 7 };
  const resets = heard(live.subscribe("news", null, { since }), "reset");
  await settle();
  await world.subscribed({ ...HISTORY, offset: 2, was_recovering: true });
  assert.equal(resets.length, 1);
});

test("close 3014 makes every recovery fail, so that the app reloads", async () => {
  await following();
  await world.socket.lose(3014, "state invalidated");
  const { subscribe } = await resubscribe();
  assert.deepEqual([subscribe.recover, subscribe.epoch], [true, "_"]);
});

// -- ended by the server

test("unsubscribe 2000 is final, and a loss", async () => {
  const { live, subscription } = await following();
  const states = heard(subscription, "state");
  const resets = heard(subscription, "reset");
  const reason = "server unsubscribe";
  await world.socket.say({ push: { channel: "news", unsubscribe: { code: 2000, reason } } });
  assert.deepEqual(states, [{ channel: "news", state: "unsubscribed", code: 2000, reason }]);
  assert.deepEqual(resets, [{ channel: "news", reason }]);
  assert.deepEqual(world.socket.take(), []);
  assert.notEqual(live.subscribe("news"), subscription);
});

test("unsubscribe 2500 subscribes again at once, from the last position", async () => {
  const { subscription } = await following();
  const states = heard(subscription, "state");
  const unsubscribe = { code: 2500, reason: "insufficient state" };
  await world.socket.say({ push: { channel: "news", unsubscribe } }, pub("news", 99));
  assert.equal(states[0].code, 2500);
  const [{ subscribe }] = world.socket.take();
  assert.deepEqual(subscribe, { channel: "news", recover: true, epoch: "e1", offset: 10 });
});

test("unsubscribe 2501 subscribes again with a new token and the old position", async () => {
  await following({ token: "old", getToken: async () => "new" });
  const unsubscribe = { code: 2501, reason: "subscription expired" };
  await world.socket.say({ push: { channel: "news", unsubscribe } });
  const [{ subscribe }] = world.socket.take();
  assert.deepEqual([subscribe.token, subscribe.epoch, subscribe.offset], ["new", "e1", 10]);
});

test("unsubscribe 2502 drops token and position", async () => {
  await following({ token: "old", getToken: async () => "new" });
  const unsubscribe = { code: 2502, reason: "state invalidated" };
  await world.socket.say({ push: { channel: "news", unsubscribe } });
  const [{ subscribe }] = world.socket.take();
  assert.deepEqual([subscribe.token, subscribe.recover, subscribe.epoch], ["new", true, "_"]);
});

// -- refused

test("a temporary error to subscribe is tried again after a backoff", async () => {
  const live = await world.connected();
  const subscription = live.subscribe("news");
  const errors = heard(subscription, "error");
  await settle();
  const [{ id }] = world.socket.take();
  await world.socket.say({ id, error: { code: 100, message: "internal", temporary: true } });
  assert.deepEqual(world.socket.take(), []);
  assert.equal(errors[0].code, 100);
  await pass(600);
  assert.equal(world.socket.taken("subscribe").length, 1);
  assert.equal(subscription.state, "subscribing");
});

test("a new connection does not wait for a subscription's backoff", async () => {
  const live = await world.connected({ minDelay: 20_000 });
  live.subscribe("news");
  await settle();
  const [{ id }] = world.socket.take();
  world.random = 0.9;
  await world.socket.say({ id, error: { code: 100, message: "internal", temporary: true } });
  await world.page.fire("offline");
  await world.page.fire("online");
  assert.equal((await world.back()).length, 2);
});

test("a subscription that stood makes the next wait short again", async () => {
  const live = await world.connected();
  live.subscribe("news");
  await settle();
  world.random = 0.999;
  const error = { code: 100, message: "internal", temporary: true };
  for (const wait of [500, 1000, 2000]) {
    await world.socket.say({ id: world.socket.take()[0].id, error });
    await pass(wait);
  }
  await world.subscribed();
  const unsubscribe = { code: 2500, reason: "insufficient state" };
  await world.socket.say({ push: { channel: "news", unsubscribe } });
  await world.socket.say({ id: world.socket.take()[0].id, error });
  await pass(500);
  assert.equal(world.socket.taken("subscribe").length, 1);
});

test("a subscribe that waits for its turn is not asked twice over a reconnect", async () => {
  const live = await world.connected();
  live.subscribe("news");
  await settle();
  const [{ id }] = world.socket.take();
  await world.socket.say({ id, error: { code: 100, message: "internal", temporary: true } });
  await world.socket.lose();
  const commands = await world.back();
  await pass(600);
  assert.equal(commands.filter((command) => command.subscribe).length, 1);
  assert.deepEqual(world.socket.take(), []);
});

test("error 109 to subscribe leads to a new token", async () => {
  const live = await world.connected();
  live.subscribe("news", null, { token: "old", getToken: async (channel) => `new ${channel}` });
  await settle();
  const [{ id }] = world.socket.take();
  await world.socket.say({ id, error: { code: 109, message: "token expired" } });
  await pass(600);
  assert.equal(world.socket.take()[0].subscribe.token, "new news");
});

test("error 109 to subscribe is final where no other token can be had", async () => {
  const live = await world.connected();
  const subscription = live.subscribe("news", null, { token: "old" });
  await settle();
  const [{ id }] = world.socket.take();
  await world.socket.say({ id, error: { code: 109, message: "token expired" } });
  assert.equal(subscription.state, "unsubscribed");
});

test("any other error to subscribe is final, rejects ready and is no reset", async () => {
  const live = await world.connected();
  const subscription = live.subscribe("news");
  const resets = heard(subscription, "reset");
  const errors = heard(subscription, "error");
  const ready = outcome(subscription.ready);
  await settle();
  const [{ id }] = world.socket.take();
  await world.socket.say({ id, error: { code: 103, message: "permission denied" } });
  assert.equal(subscription.state, "unsubscribed");
  assert.equal(ready.error.code, 103);
  assert.equal(errors[0].code, 103);
  assert.deepEqual(resets, []);
  assert.equal(live.state, "connected");
});

test("a subscribe without an answer is a lost connection", async () => {
  const live = await world.connected();
  const states = heard(live, "state");
  live.subscribe("news");
  await pass(5.1 * SECOND);
  assert.deepEqual(states, [{ state: "connecting", code: 3, reason: "subscribe timeout" }]);
});

// -- tokens

test("a subscription's token is fetched once, while the connection comes about", async () => {
  const getToken = mock.fn(async () => "t");
  const live = world.live();
  live.subscribe("news", null, { getToken });
  await pass(1);
  await world.socket.open();
  assert.equal(world.socket.frames.length, 1);
  assert.equal(world.socket.take()[1].subscribe.token, "t");
  assert.deepEqual(getToken.mock.calls.map((call) => call.arguments), [["news"]]);
});

test("a token that comes late is used when it comes", async () => {
  let give;
  const live = world.live();
  live.subscribe("news", null, { getToken: () => new Promise((resolve) => (give = resolve)) });
  await pass(1);
  await world.socket.open();
  await world.welcome();
  give("late");
  await settle();
  assert.equal(world.socket.take()[0].subscribe.token, "late");
});

test("a getToken that fails is told once, and tried again", async () => {
  const getToken = mock.fn(async () => "t");
  getToken.mock.mockImplementationOnce(async () => {
    throw new Error("no network");
  });
  const live = await world.connected();
  const errors = heard(live.subscribe("news", null, { getToken }), "error");
  await settle();
  assert.equal(errors.length, 1);
  await pass(600);
  assert.equal(world.socket.take()[0].subscribe.token, "t");
});

test("UnauthorizedError ends the subscription, not the connection", async () => {
  const getToken = async () => {
    throw new UnauthorizedError();
  };
  const live = await world.connected();
  const subscription = live.subscribe("news", null, { getToken });
  const states = heard(subscription, "state");
  await pass(SECOND);
  const { code, reason } = states[0];
  assert.deepEqual([code, reason], [1, "unauthorized"]);
  assert.equal(live.state, "connected");
});

test("while disconnected nobody is asked for a token", async () => {
  const getToken = mock.fn(async () => "t");
  const live = await world.connected();
  live.disconnect();
  live.subscribe("news", null, { getToken });
  await pass(60 * SECOND);
  assert.equal(getToken.mock.callCount(), 0);
  live.connect();
  await pass(1);
  await world.socket.open();
  await pass(1);
  assert.equal(world.socket.taken("subscribe").length, 1);
});

test("a subscription that expires is refreshed at its time to live", async () => {
  const getToken = async (channel) => `new ${channel}`;
  await following({ token: "old", getToken }, { expires: true, ttl: 2 });
  await pass(2.1 * SECOND);
  const [{ id, sub_refresh }] = world.socket.take();
  assert.deepEqual(sub_refresh, { channel: "news", token: "new news" });
  await world.socket.say({ id, sub_refresh: { expires: true, ttl: 3 } });
  await pass(3.1 * SECOND);
  assert.equal(world.socket.taken("sub_refresh").length, 1);
});

test("a temporary error to sub_refresh is tried again in ten to twenty seconds", async () => {
  await following({ getToken: async () => "t" }, { expires: true, ttl: 1 });
  await pass(1.1 * SECOND);
  const [{ id }] = world.socket.take();
  await world.socket.say({ id, error: { code: 100, message: "internal", temporary: true } });
  await pass(9.8 * SECOND);
  assert.deepEqual(world.socket.take(), []);
  await pass(10.3 * SECOND);
  assert.equal(world.socket.taken("sub_refresh").length, 1);
});

test("any other error to sub_refresh ends the subscription here and there", async () => {
  const { subscription } = await following({ getToken: async () => "t" }, { expires: true, ttl: 1 });
  const resets = heard(subscription, "reset");
  await pass(1.1 * SECOND);
  const [{ id }] = world.socket.take();
  await world.socket.say({ id, error: { code: 103, message: "permission denied" } });
  assert.equal(subscription.state, "unsubscribed");
  assert.deepEqual(world.socket.take()[0].unsubscribe, { channel: "news" });
  assert.equal(resets.length, 1);
});

test("an ended subscription is not refreshed", async () => {
  const { subscription } = await following({ getToken: async () => "t" }, { expires: true, ttl: 1 });
  subscription.unsubscribe();
  await pass(1.1 * SECOND);
  assert.deepEqual(world.socket.taken("sub_refresh"), []);
});

test("a refresh that is answered after the end starts no other", async () => {
  const { subscription } = await following({ getToken: async () => "t" }, { expires: true, ttl: 1 });
  await pass(1.1 * SECOND);
  const [{ id }] = world.socket.take();
  subscription.unsubscribe();
  await world.socket.say({ id, sub_refresh: { expires: true, ttl: 1 } });
  await pass(2 * SECOND);
  assert.deepEqual(world.socket.taken("sub_refresh"), []);
});

// -- unsubscribe

test("unsubscribe ends it for everybody, tells the server, and is no reset", async () => {
  const { live, subscription } = await following();
  const states = heard(subscription, "state");
  const resets = heard(subscription, "reset");
  const publications = heard(subscription, "publication");
  subscription.unsubscribe();
  subscription.unsubscribe();
  await world.socket.say(pub("news", 11));
  assert.deepEqual(states, [
    { channel: "news", state: "unsubscribed", code: 0, reason: "unsubscribe called" },
  ]);
  assert.equal(world.socket.taken("unsubscribe").length, 1);
  assert.deepEqual([resets, publications], [[], []]);

  await world.socket.lose();
  assert.deepEqual((await world.back()).length, 1);
  assert.notEqual(live.subscribe("news"), subscription);
});

test("unsubscribe with a handler ends it with the last handler", async () => {
  const { live, subscription } = await following();
  const [first, second] = [() => {}, () => {}];
  live.subscribe("news", first);
  live.subscribe("news", second);
  subscription.unsubscribe(first);
  assert.equal(subscription.state, "subscribed");
  subscription.unsubscribe(second);
  assert.equal(subscription.state, "unsubscribed");
});

test("a channel may be subscribed again at once, in order", async () => {
  const { live, subscription } = await following();
  subscription.unsubscribe();
  const publications = heard(live.subscribe("news"), "publication");
  await settle();
  const commands = world.socket.take();
  assert.deepEqual(
    commands.map((command) => Object.keys(command)[1]),
    ["unsubscribe", "subscribe"],
  );
  await world.socket.say({ id: commands[0].id, unsubscribe: {} });
  await world.socket.say({ id: commands[1].id, subscribe: {} }, pub("news", 1));
  assert.equal(publications.length, 1);
});

test("the reply to a subscribe of before does not serve the one of after", async () => {
  const live = await world.connected();
  const first = live.subscribe("news");
  first.unsubscribe();
  const second = live.subscribe("news");
  await settle();
  const [before, , after] = world.socket.take();
  await world.socket.say({ id: before.id, subscribe: {} });
  assert.deepEqual([first.state, second.state], ["unsubscribed", "subscribing"]);
  await world.socket.say({ id: after.id, subscribe: {} });
  assert.equal(second.state, "subscribed");
});

test("unsubscribe before anything was asked asks nothing", async () => {
  const live = world.live();
  const subscription = live.subscribe("news");
  const ready = outcome(subscription.ready);
  subscription.unsubscribe();
  await pass(1);
  await world.socket.open();
  assert.equal(world.socket.take().length, 1);
  assert.equal(ready.error.code, 0);
});

test("unsubscribe while a token is fetched asks nothing", async () => {
  const live = world.live();
  const getToken = () => new Promise(() => {});
  const subscription = live.subscribe("news", null, { getToken });
  await pass(1);
  subscription.unsubscribe();
  await world.socket.open();
  assert.equal(subscription.state, "unsubscribed");
  assert.equal(world.socket.take().length, 1);
});

test("an unsubscribe that fails is a lost connection", async () => {
  for (const answer of [{ error: { code: 100, message: "internal" } }, null]) {
    const { live, subscription } = await following();
    const states = heard(live, "state");
    subscription.unsubscribe();
    await settle();
    const [{ id }] = world.socket.take();
    if (answer) await world.socket.say({ id, ...answer });
    else await pass(5.1 * SECOND);
    assert.deepEqual(states, [{ state: "connecting", code: 4, reason: "unsubscribe error" }]);
    live.disconnect();
  }
});

test("disconnect keeps the subscriptions for the next connect, with their positions", async () => {
  const { live, subscription } = await following();
  live.disconnect();
  assert.equal(subscription.state, "subscribing");
  live.connect();
  await pass(1);
  await world.socket.open();
  assert.equal(world.socket.take()[1].subscribe.offset, 10);
});

// -- the server's own subscriptions

const SUBS = { "user:7": { ...HISTORY, offset: 4 } };

test("publications, joins and leaves of the server's subscriptions are the Live's events", async () => {
  const live = await world.connected({}, { subs: SUBS });
  const publications = heard(live, "publication");
  const joins = heard(live, "join");
  const leaves = heard(live, "leave");
  const info = { user: "7", client: "c1" };
  await world.socket.say(
    pub("user:7", 5),
    pub("user:7", 5),
    { push: { channel: "user:7", join: { info } } },
    { push: { channel: "user:7", leave: { info } } },
  );
  assert.deepEqual(publications.map((p) => [p.channel, p.offset]), [["user:7", 5]]);
  assert.deepEqual([joins, leaves], [[{ channel: "user:7", info }], [{ channel: "user:7", info }]]);
});

test("the connected event names the server's subscriptions", async () => {
  const live = await world.dialled();
  const connected = heard(live, "connected");
  await world.welcome({ subs: SUBS });
  assert.deepEqual(connected[0].channels, ["user:7"]);
});

test("the server's subscriptions are recovered with the connect command", async () => {
  const live = await world.connected({}, { subs: SUBS });
  const publications = heard(live, "publication");
  await world.socket.say(pub("user:7", 5));
  await world.socket.lose();
  const missed = [{ data: 6, offset: 6 }];
  const recovered = { ...HISTORY, offset: 5, recovered: true, publications: missed };
  const [{ connect }] = await world.back({ subs: { "user:7": recovered } });
  assert.deepEqual(connect.subs, { "user:7": { recover: true, epoch: "e1", offset: 5 } });
  assert.deepEqual(publications.map((p) => [p.offset, p.recovered]), [[5, false], [6, true]]);
});

test("a server's subscription that was not recovered is a reset of the Live", async () => {
  const live = await world.connected({}, { subs: SUBS });
  const resets = heard(live, "reset");
  await world.socket.lose();
  await world.back({ subs: { "user:7": { ...HISTORY, epoch: "e2", was_recovering: true } } });
  assert.deepEqual(resets, [{ channel: "user:7", reason: "messages were missed" }]);
});

test("a server's subscription that is gone after a reconnect has ended", async () => {
  const live = await world.connected({}, { subs: SUBS });
  const resets = heard(live, "reset");
  await world.socket.lose();
  await world.back();
  assert.equal(resets.length, 1);
  await world.socket.lose();
  const [{ connect }] = await world.back();
  assert.deepEqual(connect.subs, {});
});

test("close 3014 makes the recovery of the server's subscriptions fail too", async () => {
  await world.connected({}, { subs: SUBS });
  await world.socket.lose(3014, "state invalidated");
  const [{ connect }] = await world.back();
  assert.deepEqual(connect.subs, { "user:7": { recover: true, epoch: "_", offset: 4 } });
});

test("a disconnect in the middle of a recovery is the end of it", async () => {
  const live = await world.connected({}, { subs: SUBS });
  const publications = heard(live, "publication");
  live.on("publication", () => live.disconnect());
  await world.socket.lose();
  const missed = [5, 6].map((offset) => ({ data: offset, offset }));
  const recovered = { ...HISTORY, offset: 4, recovered: true, publications: missed };
  await world.back({ subs: { "user:7": recovered } });
  assert.equal(publications.length, 1);
});

test("the server may add and end a subscription while connected", async () => {
  const live = await world.connected();
  const publications = heard(live, "publication");
  const resets = heard(live, "reset");
  await world.socket.say(
    { push: { channel: "user:7", subscribe: { ...HISTORY, offset: 1 } } },
    pub("user:7", 2),
    { push: { channel: "user:7", unsubscribe: { code: 2000, reason: "bye" } } },
    pub("user:7", 3),
  );
  assert.equal(publications.length, 1);
  assert.deepEqual(resets, [{ channel: "user:7", reason: "bye" }]);
});

// -- positions from the page

async function subscribedFromPage(...positions) {
  for (const value of positions) world.page.script("data-live-position", value);
  const live = await world.connected();
  const subscription = live.subscribe("news");
  await settle();
  return { live, subscription, sent: await world.subscribed() };
}

test("the page's position is where a subscription begins", async () => {
  const { sent } = await subscribedFromPage({ news: { epoch: "e1", offset: 12 } });
  assert.deepEqual(sent, { channel: "news", recover: true, epoch: "e1", offset: 12 });
});

test("the earliest of the page's positions counts", async () => {
  const { sent } = await subscribedFromPage(
    { news: { epoch: "e1", offset: 12 } },
    { news: { epoch: "e1", offset: 9 }, other: { epoch: "e1", offset: 1 } },
    { news: { epoch: "e1", offset: 10 } },
  );
  assert.equal(sent.offset, 9);
});

test("positions of different epochs make the recovery fail, so that the app reloads", async () => {
  const { sent } = await subscribedFromPage(
    { news: { epoch: "e1", offset: 12 } },
    { news: { epoch: "e2", offset: 1 } },
  );
  assert.deepEqual([sent.recover, sent.epoch], [true, "_"]);
});

test("a channel the page does not name begins with now", async () => {
  const { sent } = await subscribedFromPage({ other: { epoch: "e1", offset: 12 } });
  assert.deepEqual(sent, { channel: "news" });
});

test("a personal channel of the page goes along with the connect command", async () => {
  world.page.script("data-live-position", {
    "user:7": { epoch: "e1", offset: 4 },
    news: { epoch: "e1", offset: 12 },
  });
  const live = await world.dialled();
  const publications = heard(live, "publication");
  const missed = [{ data: 5, offset: 5 }];
  const recovered = { ...HISTORY, offset: 4, recovered: true, publications: missed };
  const { connect } = await world.welcome({ subs: { "user:7": recovered } });
  assert.deepEqual(connect.subs, { "user:7": { recover: true, epoch: "e1", offset: 4 } });
  assert.deepEqual(publications.map((p) => [p.channel, p.data]), [["user:7", 5]]);
});

test("since counts more than the page", async () => {
  world.page.script("data-live-position", { news: { epoch: "e1", offset: 12 } });
  const live = await world.connected();
  live.subscribe("news", null, { since: { epoch: "e1", offset: 20 } });
  await settle();
  assert.equal(world.socket.take()[0].subscribe.offset, 20);
});

test("the page's position is used up by the first subscribe", async () => {
  const { live, subscription } = await subscribedFromPage({ news: { epoch: "e1", offset: 12 } });
  subscription.unsubscribe();
  live.subscribe("news");
  await settle();
  const [, { subscribe }] = world.socket.take();
  assert.deepEqual(subscribe, { channel: "news" });
});

test("a broken element of the page is reported and the others count", async () => {
  const { sent } = await subscribedFromPage(
    "{oops",
    "null",
    { news: null },
    { news: { epoch: "e1", offset: 12 } },
  );
  assert.equal(sent.offset, 12);
  assert.equal(world.complaints.length, 1);
});

test("a channel named as an object's own method is a channel like others", async () => {
  world.page.script("data-live-position", {});
  const live = await world.connected();
  live.subscribe("constructor");
  await settle();
  assert.deepEqual(world.socket.take()[0].subscribe, { channel: "constructor" });
});
