// The browser's side of things, played: sockets, event sources, fetch, a page, and time.

import { mock } from "node:test";

import { Live } from "../../redis_pubsub/static/redis_pubsub/redis_pubsub.js";

const realImmediate = setImmediate;

/** Lets everything that waits for nothing but promises happen. */
export function settle() {
  return new Promise((resolve) => realImmediate(resolve));
}

/** Lets time pass in small steps, so that a timer set by a timer runs in time. */
export async function pass(ms, step = 50) {
  for (let left = ms; left > 0; left -= step) {
    mock.timers.tick(Math.min(step, left));
    await settle();
  }
}

export class FakeWebSocket {
  static all = [];

  constructor(url) {
    this.url = url;
    this.frames = [];
    this.isClosed = false;
    FakeWebSocket.all.push(this);
  }

  static get last() {
    return FakeWebSocket.all.at(-1);
  }

  send(frame) {
    this.frames.push(frame);
  }

  close() {
    this.isClosed = true;
  }

  /** Every command so far, and forgets them. */
  take() {
    const lines = this.frames.flatMap((frame) => frame.split("\n"));
    this.frames = [];
    return lines.map((line) => JSON.parse(line));
  }

  /** The commands of one kind. */
  taken(kind) {
    return this.take().filter((command) => kind in command);
  }

  async open() {
    this.onopen();
    await settle();
  }

  async say(...replies) {
    await this.sayRaw(replies.map((reply) => JSON.stringify(reply)).join("\n"));
  }

  async sayRaw(data) {
    this.onmessage({ data });
    await settle();
  }

  async lose(code = 1006, reason = "") {
    this.onclose({ code, reason });
    await settle();
  }
}

export class FakeEventSource {
  static all = [];

  constructor(url) {
    this.url = url;
    this.isClosed = false;
    FakeEventSource.all.push(this);
  }

  static get last() {
    return FakeEventSource.all.at(-1);
  }

  close() {
    this.isClosed = true;
  }

  get connect() {
    return JSON.parse(new URL(this.url).searchParams.get("cf_connect"));
  }

  async open() {
    this.onopen();
    await settle();
  }

  async say(...replies) {
    this.onmessage({ data: replies.map((reply) => JSON.stringify(reply)).join("\n") });
    await settle();
  }

  async fail() {
    this.onerror();
    await settle();
  }
}

/** Keeps every POST until it is answered. */
export class FakeFetch {
  posts = [];

  fetch = (url, options) =>
    new Promise((resolve, reject) => {
      const { data, ...body } = JSON.parse(options.body);
      const commands = data.split("\n").map((line) => JSON.parse(line));
      const post = { url, options, body, commands, isAborted: false };
      post.answer = async (status = 204) => {
        resolve({ status });
        await settle();
      };
      post.fail = async () => {
        reject(new TypeError("network"));
        await settle();
      };
      options.signal.addEventListener("abort", () => {
        post.isAborted = true;
        reject(new Error("aborted"));
      });
      this.posts.push(post);
    });

  get last() {
    return this.posts.at(-1);
  }
}

/** A page of script elements, seen or hidden, and a window that goes on- and offline. */
export class FakePage {
  #window = new EventTarget();
  #document = new EventTarget();

  constructor() {
    const scripts = [];
    this.scripts = scripts;
    Object.assign(this.#document, {
      visibilityState: "visible",
      querySelectorAll: (selector) =>
        scripts.filter(({ attribute }) => selector.endsWith(`[${attribute}]`)),
    });
    globalThis.document = this.#document;
    globalThis.location = { href: "https://shop.example/orders/" };
    globalThis.addEventListener = this.#window.addEventListener.bind(this.#window);
  }

  script(attribute, value) {
    const textContent = typeof value === "string" ? value : JSON.stringify(value);
    this.scripts.push({ attribute, textContent });
  }

  async fire(event) {
    this.#window.dispatchEvent(new Event(event));
    await settle();
  }

  async turn(visibilityState) {
    this.#document.visibilityState = visibilityState;
    this.#document.dispatchEvent(new Event("visibilitychange"));
    await settle();
  }

  remove() {
    for (const name of ["document", "location", "addEventListener"]) delete globalThis[name];
  }
}

/** Everything a test needs, fresh; `end()` it afterwards. */
export class World {
  complaints = [];
  network = new FakeFetch();
  page = new FakePage();
  /** What chance gives; 0 for the shortest waits, nearly 1 for the longest. */
  random = 0.5;

  constructor() {
    FakeWebSocket.all = [];
    FakeEventSource.all = [];
    mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_000_000 });
    mock.method(Math, "random", () => this.random);
    globalThis.reportError = (error) => this.complaints.push(error);
  }

  end() {
    mock.timers.reset();
    mock.restoreAll();
    this.page.remove();
    delete globalThis.reportError;
    delete globalThis[Symbol.for("redis_pubsub.live")];
  }

  get socket() {
    return FakeWebSocket.last;
  }

  get sockets() {
    return FakeWebSocket.all;
  }

  get source() {
    return FakeEventSource.last;
  }

  get sources() {
    return FakeEventSource.all;
  }

  live(options = {}) {
    return new Live({
      WebSocket: FakeWebSocket,
      EventSource: FakeEventSource,
      fetch: this.network.fetch,
      ...options,
    });
  }

  /** A Live whose WebSocket is open; the server has not yet spoken. */
  async dialled(options) {
    const live = this.live(options);
    live.connect();
    await pass(1);
    await this.socket.open();
    return live;
  }

  /** A connected Live, its socket's frames forgotten. */
  async connected(options, result) {
    const live = await this.dialled(options);
    await this.welcome(result);
    return live;
  }

  /** The server accepts the connection that was just dialled. */
  async welcome(result = {}) {
    const [command] = this.socket.take();
    const { id } = command;
    await this.socket.say({ id, connect: { client: "c1", version: "1", ...result } });
    return command;
  }

  /** Waits out a backoff and lets the server take the client back. */
  async back(result) {
    await pass(600);
    await this.socket.open();
    const commands = this.socket.take();
    const [{ id }] = commands;
    await this.socket.say({ id, connect: { client: "c2", version: "1", ...result } });
    return commands;
  }

  /** A connected Live over server-sent events. */
  async streaming(options, result = {}) {
    const live = this.live({ transports: ["sse"], ...options });
    live.connect();
    await pass(1);
    await this.source.open();
    const { id } = this.source.connect;
    const session = { session: "secret", node: "web-1" };
    await this.source.say({ id, connect: { client: "s1", version: "1", ...session, ...result } });
    return live;
  }

  /** The server accepts the last subscribe. */
  async subscribed(result = {}) {
    const command = this.socket.taken("subscribe").at(-1);
    await this.socket.say({ id: command.id, subscribe: result });
    return command.subscribe;
  }
}

/** What an emitter said, as it is said. */
export function heard(emitter, event) {
  const values = [];
  emitter.on(event, (value) => values.push(value));
  return values;
}

/** How a promise ended, without waiting for it. */
export function outcome(promise) {
  const end = {};
  promise.then(
    (value) => Object.assign(end, { value }),
    (error) => Object.assign(end, { error }),
  );
  return end;
}
