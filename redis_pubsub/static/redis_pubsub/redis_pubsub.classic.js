(() => {
"use strict";
// Live channels. Contract: redis_pubsub.d.ts; "_name" is for this file only.

// Those this module acts on.
const codes = {
  errors: { token_expired: 109 },
  disconnects: { expired: 3005, state_invalidated: 3014 },
  unsubscribes: { insufficient_state: 2500, expired: 2501, state_invalidated: 2502 },
};

const TIMEOUT = 11; // the client's own codes are below 100
const PING_SLACK_MS = 10_000;
const LONGEST_TIMER_MS = 2 ** 31 - 1; // a longer one fires at once
const FRAME_CHARACTERS = 16_000; // within a server's 64 KiB in any encoding
const UNKNOWN_EPOCH = "_"; // no stream has it: recovery fails, the app reloads
const PAGE_LIVE = Symbol.for("redis_pubsub.live");

class LiveError extends Error {
  name = "LiveError";

  constructor(code, message, temporary = false) {
    super(message);
    this.code = code;
    this.temporary = temporary;
  }
}

class UnauthorizedError extends Error {
  name = "UnauthorizedError";
}

function complain(error) {
  (globalThis.reportError ?? console.error)(error);
}

// -- the page --

const broken = new WeakSet();

function readPage(attribute) {
  const selector = `script[type="application/json"][${attribute}]`;
  const found = [];
  for (const element of globalThis.document?.querySelectorAll(selector) ?? []) {
    try {
      found.push(Object(JSON.parse(element.textContent)));
    } catch (error) {
      if (!broken.has(element)) complain(error);
      broken.add(element);
    }
  }
  return found;
}

function pagePosition(channel) {
  return readPage("data-live-position")
    .map((positions) => Object.hasOwn(positions, channel) && positions[channel])
    .filter(Boolean)
    .reduce(earlier, undefined);
}

/** Parts of a page are read at different times; the earliest position covers all. */
function earlier(one, other) {
  if (!one) return other;
  if (one.epoch !== other.epoch) return { epoch: UNKNOWN_EPOCH };
  return one.offset <= other.offset ? one : other;
}

function endpointsOf(options) {
  const [page] = readPage("data-live-config");
  const { url, emulation } = options;
  const start = new URL(url ?? page?.path ?? "/connection", globalThis.location?.href);
  const base = start.href.replace(/^ws/, "http").replace(/\/+$/, "");
  return {
    websocket: `${base.replace("http", "ws")}/websocket`,
    sse: `${base}/sse`,
    emulation: new URL(emulation ?? page?.emulation ?? "/emulation", base).href,
  };
}

// -- parts --

class Emitter {
  #listeners = new Map();

  on(event, listener) {
    if (!this.#listeners.has(event)) this.#listeners.set(event, new Set());
    this.#listeners.get(event).add(listener);
    return this;
  }

  off(event, listener) {
    if (listener) this._listeners(event).delete(listener);
    else this.#listeners.delete(event);
    return this;
  }

  _listeners(event) {
    return this.#listeners.get(event) ?? new Set();
  }

  _emit(event, value) {
    for (const listener of this._listeners(event)) {
      try {
        listener(value);
      } catch (error) {
        complain(error);
      }
    }
  }
}

function publicationOf(channel, { data, offset, info, tags = {} }, recovered) {
  const { event, model, pk } = tags;
  return { channel, data, offset, event, model, pk, info, tags, recovered };
}

/** A channel as it arrives: what is a repeat, what is missing. */
class Feed {
  #emitter;
  #channel;
  #position;
  #isRecoverable;
  #isPositioned;
  #isOpen = false;
  #wasOpen = false;

  constructor(emitter, channel, since) {
    const { epoch = "", offset = 0 } = since ?? {};
    this.#emitter = emitter;
    this.#channel = channel;
    this.#position = { epoch, offset };
    this.#isRecoverable = !!since;
  }

  get recovery() {
    return this.#isRecoverable ? { recover: true, ...this.#position } : undefined;
  }

  open({ recoverable, positioned, epoch = "", offset = 0, recovered, publications = [] }) {
    const isGap = (this.#isRecoverable || this.#wasOpen) && !recovered;
    this.#isOpen = this.#wasOpen = true;
    this.#isRecoverable = !!recoverable;
    this.#isPositioned = recoverable || positioned;
    // After a recovery the offset is still ours: the publications move it.
    const isMoved = recovered && publications.length;
    this.#position = { epoch, offset: isMoved ? this.#position.offset : offset };
    if (isGap) this.#tell("reset", { reason: "messages were missed" });
    else for (const publication of publications) this.#deliver(publication, true);
  }

  push({ pub, join, leave }) {
    if (pub) this.#deliver(pub, false);
    else if (join) this.#tell("join", { info: join.info });
    else if (leave) this.#tell("leave", { info: leave.info });
  }

  pause() {
    this.#isOpen = false;
  }

  lose(reason) {
    if (this.#wasOpen) this.#tell("reset", { reason });
  }

  invalidate() {
    this.#position.epoch = UNKNOWN_EPOCH;
  }

  #deliver(publication, recovered) {
    const { offset } = publication;
    if (!this.#isOpen) return;
    // Only of a watched stream are we told when its numbers start anew.
    if (this.#isPositioned && offset <= this.#position.offset) return;
    this.#tell("publication", publicationOf(this.#channel, publication, recovered));
    if (offset) this.#position.offset = offset;
  }

  #tell(event, value) {
    this.#emitter._emit(event, { channel: this.#channel, ...value });
  }
}

/** A token, and its renewal while it is in use. */
class Credential {
  #getToken;
  #owner;
  #asking;
  #timer;

  /** owner: renew(token, done), refused(error), retryMs. */
  constructor(token, getToken, owner) {
    this.token = token;
    this.#getToken = getToken;
    this.#owner = owner;
  }

  get isMissing() {
    return !this.token && !!this.#getToken;
  }

  drop() {
    if (this.#getToken) this.token = "";
  }

  mayRetry({ code, temporary }) {
    const isExpired = code === codes.errors.token_expired;
    if (isExpired) this.drop();
    return temporary || (isExpired && this.isMissing);
  }

  /** Rejects with a LiveError. */
  ask() {
    this.#asking ??= this.#fetch().finally(() => (this.#asking = undefined));
    return this.#asking;
  }

  granted({ expires, ttl }) {
    if (expires && this.#getToken) this.#renewIn(ttl * 1000);
  }

  release() {
    this.#timer = clearTimeout(this.#timer);
  }

  async #fetch() {
    try {
      this.token = await this.#getToken();
    } catch (error) {
      // By name: the module and the classic script have a class each.
      if (error?.name !== "UnauthorizedError") throw new LiveError(10, `${error}`, true);
      this.token = "";
    }
    if (!this.token) throw new LiveError(1, "unauthorized");
    return this.token;
  }

  #renewIn(delay) {
    const timer = setTimeout(() => this.#renew(timer), Math.min(delay, LONGEST_TIMER_MS));
    this.#timer = timer;
  }

  #renew(timer) {
    const renewed = (error, result) => {
      if (this.#timer !== timer) return; // ended meanwhile
      if (!error) this.granted(result);
      else if (error.temporary) this.#renewIn((1 + Math.random()) * this.#owner.retryMs);
      else this.#owner.refused(error);
    };
    const ask = (token) => this.#timer === timer && this.#owner.renew(token, renewed);
    this.ask().then(ask, renewed);
  }
}

/** Full jitter, so that a crowd does not return as one. */
class Retry {
  #act;
  #options;
  #attempt = 0;
  #timer;

  constructor(act, options) {
    this.#act = act;
    this.#options = options;
  }

  get isWaiting() {
    return !!this.#timer;
  }

  later(afterMs = 0) {
    const { minDelay, maxDelay } = this.#options;
    const longest = Math.min(maxDelay, minDelay * 2 ** this.#attempt++);
    this.in(Math.min(maxDelay, afterMs) + Math.max(minDelay / 5, Math.random() * longest));
  }

  in(delay) {
    this.cancel();
    this.#timer = setTimeout(() => {
      this.cancel();
      this.#act();
    }, delay);
  }

  cancel() {
    this.#timer = clearTimeout(this.#timer);
  }

  reset() {
    this.#attempt = 0;
  }

  now() {
    this.reset();
    this.in(0);
  }
}

// -- transports --

function takeFrame(lines) {
  let count = 1;
  let length = lines[0].length;
  while (count < lines.length && (length += lines[count].length) < FRAME_CHARACTERS) count++;
  return lines.splice(0, count).join("\n");
}

class Transport {
  isOpened = false;
  isWritable = false;
  _isClosed = false;
  _lines = [];

  constructor(live) {
    this._live = live;
  }

  /** What one turn sends leaves together. */
  send(line) {
    if (this._lines.push(line) === 1) queueMicrotask(() => this._flush());
  }

  close() {
    this._isClosed = true;
    this._lines = [];
  }

  _opened() {
    this.isOpened = true;
    this._live._opened();
  }

  _received(text) {
    try {
      for (const line of text.split("\n")) {
        if (line && !this._isClosed) this._live._received(JSON.parse(line));
      }
    } catch (error) {
      complain(error);
      this._ended(0, "bad message");
    }
  }

  _ended(code, reason) {
    if (!this._isClosed) this._live._closed(code, reason);
  }
}

class WebSocketTransport extends Transport {
  #socket;

  constructor(live, connect) {
    super(live);
    const { endpoints, WebSocket } = live._options;
    const socket = (this.#socket = new WebSocket(endpoints.websocket));
    socket.onopen = () => {
      this.isWritable = true;
      this.send(connect);
      this._opened();
    };
    socket.onmessage = ({ data }) => this._received(data);
    socket.onclose = ({ code, reason }) => this._ended(code, reason);
  }

  close() {
    super.close();
    this.#socket.close();
  }

  _flush() {
    while (this._lines.length) this.#socket.send(takeFrame(this._lines));
  }
}

/** Up by POSTs, one at a time: their order matters. */
class EventSourceTransport extends Transport {
  #source;
  #session;
  #isPosting = false;
  #end = new AbortController();

  constructor(live, connect) {
    super(live);
    const { endpoints, EventSource } = live._options;
    const url = `${endpoints.sse}?cf_connect=${encodeURIComponent(connect)}`;
    const source = (this.#source = new EventSource(url));
    source.onopen = () => this._opened();
    source.onmessage = ({ data }) => this._received(data);
    // It would come back by itself, with an old token.
    source.onerror = () => this._ended(0);
  }

  joined({ session, node }) {
    this.#session = { session, node };
    this.isWritable = true;
  }

  close() {
    super.close();
    this.#source.close();
    this.#end.abort();
  }

  async _flush() {
    if (this.#isPosting) return;
    this.#isPosting = true;
    while (this._lines.length) await this.#post(takeFrame(this._lines));
    this.#isPosting = false;
  }

  async #post(data) {
    const { endpoints, fetch, timeout } = this._live._options;
    const timer = setTimeout(() => this._ended(0), timeout);
    const request = {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ ...this.#session, data }),
      signal: this.#end.signal,
    };
    const noAnswer = () => ({ status: 503 });
    const { status } = await fetch(endpoints.emulation, request).catch(noAnswer);
    clearTimeout(timer);
    // 413 is this command's fault; after anything else nothing gets through.
    if (status >= 400 && status !== 413) this._ended(0);
  }
}

const TRANSPORTS = { websocket: WebSocketTransport, sse: EventSourceTransport };

// -- subscriptions --

class Subscription extends Emitter {
  #live;
  #options;
  #feed;
  #credential;
  #state = "subscribing";
  #asked; // the question under way
  #retry;
  #settle;

  constructor(live, channel, options) {
    super();
    const { token, getToken, since } = options;
    this.channel = channel;
    this.#live = live;
    this.#options = options;
    this.#feed = new Feed(this, channel, since);
    this.#retry = new Retry(() => this._start(), live._options);
    this.#credential = new Credential(token, getToken && (() => getToken(channel)), {
      renew: (token, done) => live._call({ sub_refresh: { channel, token } }, done),
      refused: (error) => this.#leave(error.code, error.message),
      retryMs: 10_000,
    });
    this.ready = new Promise((resolve, reject) => (this.#settle = { resolve, reject }));
    this.ready.catch(() => {}); // who does not wait hears of it by events
  }

  get state() {
    return this.#state;
  }

  unsubscribe(handler) {
    if (handler) this.off("publication", handler);
    if (handler && this._listeners("publication").size) return;
    this.#leave(0, "unsubscribe called");
  }

  publish(data) {
    return this.#live.publish(this.channel, data);
  }

  presence() {
    return this.#live.presence(this.channel);
  }

  presenceStats() {
    return this.#live.presenceStats(this.channel);
  }

  history(options) {
    return this.#live.history(this.channel, options);
  }

  /** Ask the server, once there are a token and a connection. */
  _start() {
    const live = this.#live;
    const isIdle = !this.#asked && !this.#retry.isWaiting && live.state !== "disconnected";
    if (this.#state !== "subscribing" || !isIdle) return;
    if (this.#credential.isMissing) {
      const askToken = (done) => this.#credential.ask().then(() => done(), done);
      this.#ask(askToken, () => this._start());
    } else if (live._isWritable) {
      const subscribe = (done) => live._call({ subscribe: this.#request() }, done);
      this.#ask(subscribe, (result) => this.#subscribed(result));
    }
  }

  _push(push) {
    if (this.#state !== "subscribed") return;
    if (push.unsubscribe) this.#unsubscribed(push.unsubscribe);
    else this.#feed.push(push);
  }

  _pause(code, reason) {
    this.#halt();
    if (this.#state === "subscribed") this.#setState("subscribing", code, reason);
  }

  _invalidate() {
    this.#credential.drop();
    this.#feed.invalidate();
  }

  #request() {
    const { data, positioned, recoverable, joinLeave: join_leave } = this.#options;
    const wishes = { data, positioned, recoverable, join_leave, ...this.#feed.recovery };
    return { channel: this.channel, token: this.#credential.token, ...wishes };
  }

  #ask(question, answered) {
    const asked = (this.#asked = {});
    question((error, result) => {
      if (this.#asked !== asked) return;
      this.#asked = undefined;
      if (error) this.#refused(error);
      else answered(result);
    });
  }

  #subscribed(result) {
    const { data, recovered = false } = result;
    this.#retry.reset();
    this.#credential.granted(result);
    this.#settle.resolve({ data, recovered });
    this.#setState("subscribed", 0, "", { data, recovered });
    if (this.#state === "subscribed") this.#feed.open(result);
  }

  #refused(error) {
    if (error.code === TIMEOUT) return this.#live._lost(3, "subscribe timeout");
    if (this.#credential.mayRetry(error)) this.#retry.later();
    else this.#end(error.code, error.message);
    this._emit("error", error);
  }

  #unsubscribed({ code, reason }) {
    const { insufficient_state, expired, state_invalidated } = codes.unsubscribes;
    if (code < insufficient_state) return this.#end(code, reason);
    if (code === expired) this.#credential.drop();
    if (code === state_invalidated) this._invalidate();
    this._pause(code, reason);
    this._start();
  }

  #leave(code, reason) {
    if (this.#asked || this.#state === "subscribed") this.#live._unsubscribe(this.channel);
    this.#end(code, reason);
  }

  #end(code, reason) {
    if (this.#state === "unsubscribed") return;
    this.#halt();
    this.#live._forget(this.channel);
    this.#settle.reject(new LiveError(code, reason));
    this.#setState("unsubscribed", code, reason);
    if (code) this.#feed.lose(reason);
  }

  #halt() {
    this.#asked = undefined;
    this.#retry.cancel();
    this.#credential.release();
    this.#feed.pause();
  }

  #setState(state, code, reason, details) {
    this.#state = state;
    this._emit("state", { channel: this.channel, state, code, reason, ...details });
  }
}

// -- the connection --

class Live extends Emitter {
  _options = {
    transports: ["websocket", "sse"],
    minDelay: 500,
    maxDelay: 20_000,
    timeout: 5_000,
    WebSocket: globalThis.WebSocket,
    EventSource: globalThis.EventSource,
    fetch: (url, options) => fetch(url, options),
  };
  #credential;
  #state = "disconnected";
  #welcome = {};
  #hasBegun = false;
  #page;

  #transport;
  #transportIndex = 0;
  #isProven = false; // a transport that once worked is kept
  #dial;
  #retry;
  #connectedAt = 0;
  #heardAt = 0;
  #watch;

  #lastId = 0; // never restarts
  #pending = new Map();
  #waiting = new Set(); // calls, for a connection

  #subscriptions = new Map();
  #feeds = new Map(); // the server's own subscriptions
  #pageChannels = new Set();

  constructor(options = {}) {
    super();
    Object.assign(this._options, options, { endpoints: endpointsOf(options) });
    this.#retry = new Retry(() => this.#connect(), this._options);
    this.#credential = new Credential(options.token, options.getToken, {
      renew: (token, done) => this._call({ refresh: { token } }, done),
      refused: (error) => this.#finish(error.code, error.message),
      retryMs: 5_000,
    });
  }

  get state() {
    return this.#state;
  }

  get id() {
    return this.#welcome.client ?? "";
  }

  connect() {
    if (this.#state !== "disconnected") return;
    this.#hasBegun = true;
    this.#retry.now();
    this.#listenToPage();
    this.#setState("connecting", 0, "connect called");
  }

  disconnect() {
    this.#hasBegun = true;
    this.#finish(0, "disconnect called");
  }

  subscribe(channel, handler, options = {}) {
    let subscription = this.#subscriptions.get(channel);
    if (!subscription) {
      const since = options.since ?? this.#takePagePosition(channel);
      subscription = new Subscription(this, channel, { ...options, since });
      this.#subscriptions.set(channel, subscription);
    }
    if (handler) subscription.on("publication", handler);
    this.#begin();
    subscription._start();
    return subscription;
  }

  async publish(channel, data) {
    await this.#request({ publish: { channel, data } });
  }

  async rpc(method, data) {
    return (await this.#request({ rpc: { method, data } })).data;
  }

  async send(data) {
    await this.#request({ send: { data } });
  }

  async presence(channel) {
    return (await this.#request({ presence: { channel } })).presence;
  }

  async presenceStats(channel) {
    return this.#request({ presence_stats: { channel } });
  }

  async history(channel, { limit, since, reverse } = {}) {
    const request = { history: { channel, limit, since, reverse } };
    const { publications, epoch, offset } = await this.#request(request);
    const read = (publication) => publicationOf(channel, publication, false);
    return { publications: publications.map(read), epoch, offset };
  }

  // -- commands

  get _isWritable() {
    return !!this.#transport?.isWritable;
  }

  /** done(error, result); never, if the connection ends first. */
  _call(request, done) {
    this.#transport.send(this.#expect(JSON.stringify(request), done));
  }

  _unsubscribe(channel) {
    if (!this._isWritable) return;
    this._call({ unsubscribe: { channel } }, (error) => {
      if (error) this._lost(4, "unsubscribe error");
    });
  }

  _forget(channel) {
    this.#subscriptions.delete(channel);
  }

  #expect(request, done, lost) {
    const id = ++this.#lastId;
    const error = { code: TIMEOUT, message: "timeout", temporary: true };
    this.#pending.set(id, { done, lost });
    setTimeout(() => this.#replied({ id, error }), this._options.timeout);
    return `{"id":${id},${request.slice(1)}`;
  }

  #request(request) {
    this.#begin();
    return new Promise((resolve, reject) => {
      const text = JSON.stringify(request);
      const done = (error, result) => (error ? reject(error) : resolve(result));
      const fail = (...error) => reject(new LiveError(...error));
      const lost = () => fail(12, "connection closed", true);
      const send = () => {
        this.#transport.send(request.send ? text : this.#expect(text, done, lost));
        if (request.send) resolve(); // no reply
      };
      if (this.#state === "connected") send();
      else if (this.#state === "connecting") this.#wait({ send, fail });
      else fail(13, "disconnected");
    });
  }

  #wait(call) {
    this.#waiting.add(call);
    setTimeout(() => {
      if (this.#waiting.delete(call)) call.fail(TIMEOUT, "timeout", true);
    }, this._options.timeout);
  }

  #begin() {
    if (!this.#hasBegun) this.connect();
  }

  async #connect() {
    const dial = (this.#dial = {});
    try {
      if (this.#credential.isMissing) await this.#credential.ask();
      if (this.#dial === dial) this.#open();
    } catch (error) {
      if (this.#dial === dial) this.#refused(error);
    }
  }

  #open() {
    const transport = this._options.transports[this.#transportIndex];
    const line = this.#expect(this.#greeting(), (error, result) => {
      if (error) this.#refused(error);
      else this.#connected(transport, result);
    });
    try {
      this.#transport = new TRANSPORTS[transport](this, line);
    } catch (error) {
      this._closed(0, `${error}`); // missing here, or forbidden by the page
    }
  }

  #greeting() {
    const { data, name = "redis_pubsub" } = this._options;
    const subs = {};
    this.#expectPersonal();
    for (const [channel, feed] of this.#feeds) subs[channel] = feed.recovery;
    return JSON.stringify({ connect: { token: this.#credential.token, data, name, subs } });
  }

  #connected(name, result) {
    const { client, data, subs = {} } = result;
    const transport = this.#transport;
    this.#welcome = result;
    this.#isProven = true;
    this.#connectedAt = Date.now();
    this.#watchSilence();
    transport.joined?.(result);
    this.#credential.granted(result);
    this._opened();
    for (const { send } of this.#waiting) send();
    this.#waiting.clear();
    this.#setState("connected", 0, "");
    this._emit("connected", { client, data, transport: name, channels: Object.keys(subs) });
    if (this.#transport === transport) this.#openFeeds(subs);
  }

  _opened() {
    for (const subscription of this.#subscriptions.values()) subscription._start();
  }

  /** `subs` is complete: what is missing in it has ended. */
  #openFeeds(subs) {
    for (const channel of this.#feeds.keys()) {
      if (!Object.hasOwn(subs, channel)) this.#loseFeed(channel, "unsubscribed");
    }
    for (const [channel, result] of Object.entries(subs)) this.#openFeed(channel, result);
  }

  #openFeed(channel, result) {
    if (!this.#feeds.has(channel)) this.#feeds.set(channel, new Feed(this, channel));
    this.#feeds.get(channel).open(result);
  }

  #loseFeed(channel, reason) {
    this.#feeds.get(channel)?.lose(reason);
    this.#feeds.delete(channel);
  }

  /** Heard without asking, and yet from where the page says. */
  #expectPersonal() {
    for (const channel of readPage("data-live-position").flatMap(Object.keys)) {
      if (!channel.startsWith("user:") || this.#subscriptions.has(channel)) continue;
      const since = this.#takePagePosition(channel);
      if (since) this.#feeds.set(channel, new Feed(this, channel, since));
    }
  }

  #takePagePosition(channel) {
    if (this.#pageChannels.has(channel)) return undefined;
    this.#pageChannels.add(channel);
    return pagePosition(channel);
  }

  // -- the server says

  _received(reply) {
    if (Object(reply) !== reply) throw new TypeError("not a reply");
    this.#heardAt = Date.now();
    if (reply.id) this.#replied(reply);
    else if (reply.push) this.#pushed(reply.push);
    else if (this.#welcome.pong) this.#transport.send("{}");
  }

  #replied({ id, error, ...reply }) {
    const call = this.#pending.get(id);
    if (!call) return;
    this.#pending.delete(id);
    if (error) call.done(new LiveError(error.code, error.message, error.temporary));
    else call.done(undefined, Object.values(reply)[0] ?? {});
  }

  #pushed({ channel, disconnect, message, ...push }) {
    const subscription = this.#subscriptions.get(channel);
    if (disconnect) this._closed(disconnect.code, disconnect.reason);
    else if (message) this._emit("message", message.data);
    else if (subscription) subscription._push(push);
    else if (push.subscribe) this.#openFeed(channel, push.subscribe);
    else if (push.unsubscribe) this.#loseFeed(channel, push.unsubscribe.reason);
    else this.#feeds.get(channel)?.push(push);
  }

  // By the clock: timers sleep with the machine and in hidden pages.
  #watchSilence() {
    const { ping } = this.#welcome;
    if (!ping) return;
    clearTimeout(this.#watch);
    const left = this.#heardAt + ping * 1000 + PING_SLACK_MS - Date.now();
    if (left > 0) this.#watch = setTimeout(() => this.#watchSilence(), left);
    else this._lost(2, "no ping");
  }

  #refused(error) {
    const { code, message } = error;
    if (code === TIMEOUT) this._closed(0, message, false);
    else if (this.#credential.mayRetry(error)) this._lost(code, message);
    else this.#finish(code, message);
    this._emit("error", error);
  }

  _closed(code, reason, wasOpened = this.#transport?.isOpened) {
    const { expired, state_invalidated } = codes.disconnects;
    const isFinal = (code >= 3500 && code < 4000) || (code >= 4500 && code < 5000);
    if (code === 1009) return this.#finish(3, "message size limit");
    if (isFinal) return this.#finish(code, reason);
    if (code === expired) this.#credential.drop();
    if (code === state_invalidated) this.#invalidate();
    const isUrgent = !wasOpened && !this.#isProven && this.#turnToNext();
    if (code < 3000) this._lost(1, reason || "transport closed", isUrgent);
    else this._lost(code, reason, isUrgent);
  }

  #turnToNext() {
    this.#transportIndex = (this.#transportIndex + 1) % this._options.transports.length;
    return this.#transportIndex > 0;
  }

  #invalidate() {
    this.#credential.drop();
    for (const subscription of this.#subscriptions.values()) subscription._invalidate();
    for (const feed of this.#feeds.values()) feed.invalidate();
  }

  _lost(code, reason, isUrgent = false) {
    const livedMs = this.#state === "connected" ? Date.now() - this.#connectedAt : 0;
    // What ends at once was no success: a failing server is asked less often.
    if (livedMs >= this._options.timeout) this.#retry.reset();
    this.#drop();
    const after = /reconnect in ([\d.]+) s$/.exec(reason)?.[1];
    if (isUrgent) this.#retry.in(0);
    else this.#retry.later(after * 1000 || 0);
    this.#setState("connecting", code, reason);
  }

  #finish(code, reason) {
    if (this.#state === "disconnected") return;
    this.#drop();
    this.#page.abort();
    for (const { fail } of this.#waiting) fail(13, reason);
    this.#waiting.clear();
    this.#setState("disconnected", code, reason);
  }

  #drop() {
    this.#transport?.close();
    this.#transport = this.#dial = undefined;
    this.#retry.cancel();
    this.#welcome = {};
    this.#credential.release();
    for (const feed of this.#feeds.values()) feed.pause();
    const calls = [...this.#pending.values()];
    this.#pending.clear();
    for (const { lost } of calls) lost?.();
  }

  #setState(state, code, reason) {
    const isNew = this.#state !== state;
    this.#state = state;
    if (isNew) this._emit("state", { state, code, reason });
    if (state === "connected") return;
    for (const subscription of this.#subscriptions.values()) subscription._pause(code, reason);
  }

  // -- the browser says

  #listenToPage() {
    this.#page = new AbortController();
    const { signal } = this.#page;
    const { document } = globalThis;
    const listen = (target, event, act) => target?.addEventListener?.(event, act, { signal });
    listen(globalThis, "online", () => this.#wake());
    listen(globalThis, "offline", () => this.#transport && this._lost(1, "offline"));
    listen(document, "visibilitychange", () => {
      if (document.visibilityState === "visible") this.#wake();
    });
  }

  #wake() {
    this.#watchSilence();
    if (this.#retry.isWaiting) this.#retry.now();
  }
}

// -- helpers --

function live(options) {
  return (globalThis[PAGE_LIVE] ??= new Live(options));
}

function byUser(presence) {
  const users = new Map();
  for (const client of Object.values(presence)) {
    const { user, conn_info } = client;
    if (!users.has(user)) users.set(user, { user, clients: [], info: undefined });
    const entry = users.get(user);
    entry.clients.push(client);
    entry.info ??= conn_info;
  }
  return [...users.values()];
}

function upsert(map, publication, key = publication.pk) {
  if (publication.event === "delete") map.delete(key);
  else map.set(key, publication.data);
  return map;
}

Object.assign((globalThis.redisPubSub ??= {}), { Live, LiveError, Subscription, UnauthorizedError, byUser, codes, live, upsert });
})();
