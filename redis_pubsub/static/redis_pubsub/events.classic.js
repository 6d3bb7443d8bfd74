(() => {
"use strict";
// Event sockets. Contract: events.d.ts; "_name" and "#name" are for this file only.

const OPEN_LONG_ENOUGH_MS = 5_000; // a shorter visit does not count as success
const DONE = 1000; // the server has closed on purpose
// Under names that no event can have.
const STATE = Symbol("state");
const MESSAGE = Symbol("message");

function complain(error) {
  (globalThis.reportError ?? console.error)(error);
}

function urlOf(path, { host, secure }) {
  const page = globalThis.location;
  const url = new URL(path, page?.href.replace(/^http/, "ws") ?? "ws://localhost:8000");
  url.protocol = url.protocol.replace("http", "ws");
  if (host) url.host = host;
  if (secure !== undefined) url.protocol = secure ? "wss:" : "ws:";
  return url.href;
}

/** Callbacks by name. */
class Listeners {
  #byName = new Map();

  on(name, callback) {
    if (typeof callback !== "function") throw new TypeError("a listener is a function");
    if (!this.#byName.has(name)) this.#byName.set(name, new Set());
    this.#byName.get(name).add(callback);
    return () => this.off(name, callback);
  }

  off(name, callback) {
    if (callback === undefined) this.#byName.delete(name);
    else this.#byName.get(name)?.delete(callback);
  }

  tell(name, ...details) {
    for (const callback of [...(this.#byName.get(name) ?? [])]) {
      try {
        callback(...details);
      } catch (error) {
        complain(error);
      }
    }
  }
}

/** Somebody's events within a socket's: "say" of the module "chat" is "chat.say". */
class EventModule {
  #socket;
  #name;

  constructor(socket, name) {
    this.#socket = socket;
    this.#name = name;
  }

  on(event, callback) {
    return this.#socket.on(`${this.#name}.${event}`, callback);
  }

  off(event, callback) {
    this.#socket.off(`${this.#name}.${event}`, callback);
  }

  emit(event, data) {
    return this.#socket.emit(`${this.#name}.${event}`, data);
  }
}

class EventSocket {
  #options;
  #listeners = new Listeners();
  #socket = null;
  #state = "closed";
  #attempts = 0;
  #openedAt = 0;
  #timer;
  #online = () => this.#state === "waiting" && this.#open();

  constructor(path, options = {}) {
    this.url = urlOf(path, options);
    this.#options = { minDelayMs: 500, maxDelayMs: 30_000, protocols: [], ...options };
    if (options.autoConnect ?? true) this.connect();
  }

  get state() {
    return this.#state;
  }

  connect() {
    if (this.#state !== "closed") return;
    this.#attempts = 0;
    globalThis.addEventListener?.("online", this.#online);
    this.#open();
  }

  close(code = 1000, reason = "") {
    const socket = this.#socket;
    this.#end({ code, reason, final: true });
    socket?.close(code, reason);
  }

  on(event, callback) {
    return this.#listeners.on(event, callback);
  }

  off(event, callback) {
    this.#listeners.off(event, callback);
  }

  onState(callback) {
    return this.#listeners.on(STATE, callback);
  }

  onMessage(callback) {
    return this.#listeners.on(MESSAGE, callback);
  }

  bind(name) {
    return new EventModule(this, name);
  }

  emit(event, data = {}) {
    return this.send(JSON.stringify({ event, data }));
  }

  send(data) {
    if (this.#state !== "open") return false;
    this.#socket.send(data);
    return true;
  }

  #become(state) {
    if (state === this.#state) return;
    this.#state = state;
    this.#listeners.tell(STATE, state);
  }

  #open() {
    clearTimeout(this.#timer);
    const { WebSocket = globalThis.WebSocket, protocols } = this.#options;
    const socket = (this.#socket = new WebSocket(this.url, protocols));
    socket.binaryType = "arraybuffer";
    // What a socket that was given up still says is not heard.
    const ours = (act) => (event) => socket === this.#socket && act(event);
    socket.onopen = ours(() => {
      this.#openedAt = Date.now();
      this.#become("open");
      this.#listeners.tell("open", { protocol: socket.protocol ?? "" });
    });
    socket.onmessage = ours(({ data }) => this.#heard(data));
    socket.onclose = ours(({ code, reason }) => this.#closed(code, reason));
    this.#become("connecting");
  }

  #heard(text) {
    let frame;
    try {
      frame = typeof text === "string" ? JSON.parse(text) : undefined;
    } catch {
      // Something that is no event, as bytes are.
    }
    const event = frame?.event;
    // Nobody but this file says that the socket opens or closes.
    if (typeof event !== "string" || event === "open" || event === "close") {
      this.#listeners.tell(MESSAGE, text);
    } else this.#listeners.tell(event, frame.data ?? {});
  }

  #closed(code, reason) {
    if (this.#openedAt && Date.now() - this.#openedAt >= OPEN_LONG_ENOUGH_MS) {
      this.#attempts = 0;
    }
    const final =
      code === DONE || (code >= 3500 && code < 4000) || (code >= 4500 && code < 5000);
    this.#end({ code, reason, final });
  }

  #end({ code, reason, final }) {
    const wasOpen = this.#state === "open";
    clearTimeout(this.#timer);
    this.#socket = null;
    this.#openedAt = 0;
    if (final) globalThis.removeEventListener?.("online", this.#online);
    else this.#timer = setTimeout(() => this.#open(), this.#delay(reason));
    this.#become(final ? "closed" : "waiting");
    if (wasOpen) this.#listeners.tell("close", { code, reason, final });
  }

  /** Jittered, so that a crowd does not return as one; a server that restarts says when. */
  #delay(reason) {
    const { minDelayMs, maxDelayMs } = this.#options;
    const longest = Math.min(maxDelayMs, minDelayMs * 2 ** this.#attempts++);
    const afterMs = 1000 * /reconnect in ([\d.]+) s$/.exec(reason)?.[1] || 0;
    return Math.min(maxDelayMs, afterMs) + Math.max(minDelayMs / 5, Math.random() * longest);
  }
}

Object.assign((globalThis.redisPubSub ??= {}), { EventSocket });
})();
