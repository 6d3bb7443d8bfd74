// <live-progress>: what it shows of what it hears, in a played page.

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

/** A node within an element, found by its part's name. */
class FakeNode {
  textContent = "";
  style = {};
  #part = null;
  #inside = [];

  append(...nodes) {
    this.#inside.push(...nodes);
  }
  setAttribute(name, value) {
    assert.equal(name, "part");
    this.#part = `[part="${value}"]`;
  }
  querySelector(selector) {
    if (this.#part === selector) return this;
    for (const node of this.#inside) {
      const found = node.querySelector(selector);
      if (found) return found;
    }
    return null;
  }
}

/** As much of an element as the module touches. */
class FakeElement {
  isConnected = false;
  events = [];
  #attributes = new Map();

  attachShadow() {
    return new FakeNode();
  }
  getAttribute(name) {
    return this.#attributes.get(name) ?? null;
  }
  hasAttribute(name) {
    return this.#attributes.has(name);
  }
  setAttribute(name, value) {
    const before = this.getAttribute(name);
    this.#attributes.set(name, value);
    if (this.constructor.observedAttributes.includes(name)) {
      this.attributeChangedCallback(name, before, value);
    }
  }
  removeAttribute(name) {
    this.#attributes.delete(name);
  }
  toggleAttribute(name, isOn) {
    if (isOn) this.#attributes.set(name, "");
    else this.#attributes.delete(name);
  }
  dispatchEvent(event) {
    this.events.push([event.type, event.detail.recalled]);
  }
}

/** A connection whose server says what the test wants. */
class FakeLive {
  subscriptions = [];

  subscribe(channel, handler) {
    const subscription = {
      channel,
      listeners: new Map(),
      last: [],
      asked: 0,
      on: (event, listener) => subscription.listeners.set(event, listener),
      off: (event) => subscription.listeners.delete(event),
      unsubscribe: (gone) => (subscription.handler = gone === handler ? null : handler),
      history: async (options) => {
        assert.deepEqual(options, { limit: 1, reverse: true });
        subscription.asked++;
        await subscription.delay;
        return { publications: subscription.last.map((data) => ({ data })) };
      },
      handler,
    };
    subscription.ready = new Promise((resolve) => (subscription.subscribed = resolve));
    this.subscriptions.push(subscription);
    return subscription;
  }
}

globalThis.HTMLElement = FakeElement;
globalThis.document = { createElement: () => new FakeNode() };
globalThis.CSSStyleSheet = class {
  replaceSync() {}
};
globalThis.CustomEvent ??= class {
  constructor(type, { detail }) {
    Object.assign(this, { type, detail });
  }
};
const { LiveProgress, describe, share } = await import(
  "../../redis_pubsub/static/redis_pubsub/progress.js"
);

const STATE = { state: "progress", current: 3, total: 12, label: "Importing", reason: "" };
const soon = () => new Promise((resolve) => setImmediate(resolve));

let page, element, subscription;
beforeEach(() => {
  page = new FakeLive();
  element = new LiveProgress();
  element.connection = page;
  element.setAttribute("channel", "import");
  element.isConnected = true;
  element.connectedCallback();
  [subscription] = page.subscriptions;
});
const say = (changes) => subscription.handler({ data: { ...STATE, ...changes } });

test("before anything was said it waits, without a number", () => {
  assert.equal(subscription.channel, "import");
  assert.equal(element.getAttribute("state"), "waiting");
  assert.equal(element.getAttribute("role"), "progressbar");
  assert.ok(element.hasAttribute("indeterminate"));
  assert.ok(!element.hasAttribute("aria-valuenow"));
});

test("a state is shown to eyes and ears", () => {
  say();
  assert.equal(element.getAttribute("aria-valuenow"), "3");
  assert.equal(element.getAttribute("aria-valuemax"), "12");
  assert.equal(element.getAttribute("aria-valuetext"), "3 of 12");
  assert.equal(element.getAttribute("aria-label"), "Importing");
  assert.ok(!element.hasAttribute("indeterminate"));
  assert.deepEqual(element.events, [["progress", false]]);
});

test("without a total it is indeterminate until there is one", () => {
  say({ total: null });
  assert.ok(element.hasAttribute("indeterminate"));
  say({ total: 300, current: 299 });
  assert.ok(!element.hasAttribute("indeterminate"));
  assert.equal(element.getAttribute("aria-valuenow"), "299");
});

test("ends are states of their own", () => {
  say({ state: "failed", reason: "no such file", total: null });
  assert.equal(element.getAttribute("state"), "failed");
  assert.equal(element.getAttribute("aria-valuetext"), "Failed: no such file");
  assert.ok(!element.hasAttribute("indeterminate"));
  say({ state: "done", total: null });
  assert.equal(element.getAttribute("state"), "done");
  assert.equal(element.getAttribute("aria-valuenow"), "1");
});

test("who comes late sees what was said last, and knows that it was before", async () => {
  subscription.last = [{ ...STATE, state: "done" }];
  subscription.subscribed();
  await soon();
  assert.equal(element.getAttribute("state"), "done");
  assert.deepEqual(element.events, [["done", true]]);
});

test("what comes live is newer than what was asked for before", async () => {
  let answer;
  subscription.delay = new Promise((resolve) => (answer = resolve));
  subscription.last = [STATE];
  subscription.subscribed();
  await soon();
  say({ current: 9 });
  answer();
  await soon();
  assert.equal(element.value.current, 9);
});

test("where messages were missed the last one is asked for", async () => {
  subscription.last = [{ ...STATE, current: 11 }];
  subscription.listeners.get("reset")();
  await soon();
  assert.equal(element.value.current, 11);
});

test("a refused channel is no bar that goes on for ever", () => {
  subscription.listeners.get("state")({ state: "unsubscribed", code: 103 });
  assert.equal(element.getAttribute("state"), "unavailable");
  assert.ok(!element.hasAttribute("indeterminate"));
});

test("what is no progress is not shown", () => {
  for (const data of [null, 7, { state: "open" }, "done"]) subscription.handler({ data });
  assert.equal(element.value, null);
});

test("another channel is another bar", async () => {
  say();
  element.setAttribute("channel", "export");
  assert.equal(subscription.handler, null);
  assert.equal(element.value, null);
  assert.equal(page.subscriptions[1].channel, "export");
  element.disconnectedCallback();
  assert.equal(page.subscriptions[1].handler, null);
  assert.equal(page.subscriptions[1].listeners.size, 0);
});

test("a share is between nothing and all", () => {
  assert.equal(share({ ...STATE, current: 20 }), 1);
  assert.equal(share({ ...STATE, current: -1 }), 0);
  assert.equal(share({ ...STATE, total: 0 }), 1);
  assert.equal(share({ ...STATE, total: null }), null);
  assert.equal(describe({ ...STATE, total: null }), "3");
});
