// What surrounds the connection: one per page, both forms of the script, small helpers.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { afterEach, beforeEach, test } from "node:test";
import vm from "node:vm";

import * as module from "../../redis_pubsub/static/redis_pubsub/redis_pubsub.js";
import { FakeWebSocket, World, pass } from "./fakes.mjs";

const { Live, byUser, live, upsert } = module;
const FOLDER = new URL("../../redis_pubsub/static/redis_pubsub/", import.meta.url);

let world;
beforeEach(() => (world = new World()));
afterEach(() => world.end());

/** Loads the classic script into this page. */
function loadClassic() {
  vm.runInThisContext(readFileSync(new URL("redis_pubsub.classic.js", FOLDER), "utf8"));
  const { redisPubSub } = globalThis;
  delete globalThis.redisPubSub;
  return redisPubSub;
}

test("a page has one Live, made at the first call", () => {
  assert.ok(live() instanceof Live);
  assert.equal(live(), live());
});

test("module and classic script share the page's Live", () => {
  assert.equal(loadClassic().live(), live());
});

test("the first call's options are the page's", async () => {
  const first = live({ WebSocket: FakeWebSocket, url: "wss://x.example/c" });
  live({ url: "wss://y.example/c" }).connect();
  await pass(1);
  assert.equal(world.socket.url, "wss://x.example/c/websocket");
  assert.equal(first.state, "connecting");
});

test("the classic script has the module's exports and no other global", () => {
  const before = Object.keys(globalThis);
  assert.deepEqual(Object.keys(loadClassic()).sort(), Object.keys(module).sort());
  assert.deepEqual(Object.keys(globalThis), before);
});

test("the classic script's UnauthorizedError is final for the module's Live", async () => {
  const { UnauthorizedError } = loadClassic();
  const page = world.live({
    getToken: async () => {
      throw new UnauthorizedError();
    },
  });
  page.connect();
  await pass(1);
  assert.equal(page.state, "disconnected");
});

test("codes are numbers by name", () => {
  const tables = Object.entries(module.codes);
  assert.deepEqual(tables.map(([name]) => name), ["errors", "disconnects", "unsubscribes"]);
  const numbers = tables.flatMap(([, table]) => Object.values(table));
  assert.ok(numbers.length > 0 && numbers.every(Number.isInteger));
});

test("byUser merges the tabs of a user", () => {
  const phone = { user: "7", client: "a" };
  const laptop = { user: "7", client: "b", conn_info: { name: "Ada" } };
  const other = { user: "8", client: "c", conn_info: { name: "Bob" } };
  assert.deepEqual(byUser({ a: phone, b: laptop, c: other }), [
    { user: "7", clients: [phone, laptop], info: { name: "Ada" } },
    { user: "8", clients: [other], info: { name: "Bob" } },
  ]);
  assert.deepEqual(byUser({}), []);
});

test("upsert puts rows in, takes deleted ones out, and may be repeated", () => {
  const rows = new Map([["5", { total: 1 }]]);
  const update = { event: "update", pk: "5", data: { total: 2 } };
  const create = { event: "create", pk: "6", data: { total: 3 } };
  const remove = { event: "delete", pk: "5", data: { total: 2 } };
  for (const publication of [update, update, create, create, remove, remove]) {
    assert.equal(upsert(rows, publication), rows);
  }
  assert.deepEqual([...rows], [["6", { total: 3 }]]);
});

test("upsert takes another key where one is given", () => {
  const rows = upsert(new Map(), { event: "update", pk: "5", data: 1 }, "by hand");
  assert.deepEqual([...rows], [["by hand", 1]]);
});
