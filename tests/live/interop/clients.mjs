// Clients of the library as published, over one of its transports (TRANSPORT), and what
// tests need around them.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after } from 'node:test';

import { Centrifuge } from 'centrifuge';
import { Centrifuge as ProtobufCentrifuge } from 'centrifuge/build/protobuf';
import { EventSource } from 'eventsource';
import WebSocket from 'ws';

export const TRANSPORT = process.env.TRANSPORT ?? 'websocket';
export const TRANSPORTS = ['websocket', 'websocket_protobuf', 'http_stream', 'sse'];
const PATIENCE_MS = 15_000;

const opened = [];

after(() => opened.forEach((client) => client.disconnect()));

/** Tells the backstage what to do, see backstage.py. */
export async function backstage(deed, fields = {}) {
  const body = JSON.stringify({ do: deed, ...fields });
  const answer = await fetch(process.env.BACKSTAGE_URL, { method: 'POST', body });
  const text = await answer.text();
  assert.equal(answer.status, 200, text);
  return JSON.parse(text);
}

/** A channel's name that no other test has. */
export const channelIn = (namespace) => `${namespace}:${randomUUID()}`;
export const userName = () => `user-${randomUUID()}`;

/**
 * A client, not yet connected.
 *
 * `browser` are headers that a browser sets by itself: cookies, the page's origin.
 * `client.pack` and `client.unpack` are between values and what this form's payloads are.
 */
export function newClient({
  transport = TRANSPORT,
  url = process.env.SERVER_URL,
  emulation = `${url}/emulation`,
  browser = {},
  ...options
} = {}) {
  const isProtobuf = transport === 'websocket_protobuf';
  const kind = isProtobuf ? 'websocket' : transport;
  const address = kind === 'websocket' ? url.replace('http', 'ws') : url;
  const Client = isProtobuf ? ProtobufCentrifuge : Centrifuge;
  const client = new Client(
    [{ transport: kind, endpoint: `${address}/connection/${kind}` }],
    {
      ...transportsOf(browser),
      emulationEndpoint: emulation,
      minReconnectDelay: 50,
      maxReconnectDelay: 500,
      ...options,
    },
  );
  client.pack = isProtobuf ? (value) => Buffer.from(JSON.stringify(value ?? null)) : (value) => value;
  client.unpack = isProtobuf
    ? (bytes) => (bytes?.length ? JSON.parse(Buffer.from(bytes).toString()) : undefined)
    : (value) => value;
  client.events = new Events(client);
  opened.push(client);
  return client;
}

/** What node lacks of a browser. */
function transportsOf(headers) {
  const withHeaders = (address, options = {}) =>
    fetch(address, { ...options, headers: { ...options.headers, ...headers } });
  return {
    fetch: withHeaders,
    websocket: class extends WebSocket {
      constructor(address, protocols) {
        super(address, protocols, { headers });
      }
    },
    eventsource: class extends EventSource {
      constructor(address, options) {
        super(address, { ...options, fetch: withHeaders });
      }
    },
  };
}

/** A connected client. */
export async function connect(options) {
  const client = newClient(options);
  client.connect();
  await client.ready();
  return client;
}

/** A client of a new user, connected with a token. */
export async function connectAs(user, options = {}) {
  return connect({ token: await backstage('token', { user }), ...options });
}

/** A subscription that records its events as `sub.events`; not yet asked for. */
export function newSub(client, channel, options = {}) {
  const sub = client.newSubscription(channel, {
    minResubscribeDelay: 50,
    maxResubscribeDelay: 500,
    ...options,
  });
  sub.events = new Events(sub, client.unpack);
  sub.say = (value) => sub.publish(client.pack(value));
  return sub;
}

/** A subscription that the server has confirmed. */
export async function subscribe(client, channel, options) {
  const sub = newSub(client, channel, options);
  sub.subscribe();
  await sub.events.until('subscribed');
  return sub;
}

export async function call(client, method, value) {
  return client.unpack((await client.rpc(method, client.pack(value))).data);
}

const NAMES = [
  'connecting', 'connected', 'disconnected', 'message', 'subscribed', 'subscribing',
  'unsubscribed', 'publication', 'join', 'leave', 'error',
];

/** What an emitter has said, in order, and a way to wait for more. */
export class Events {
  constructor(emitter, unpack = emitter.unpack) {
    this.all = [];
    this.unpack = unpack;
    this.waiting = new Set();
    for (const name of NAMES) {
      emitter.on(name, (context) => {
        // The channel of everybody comes along with one's own; tests speak of that.
        if (name === 'subscribed' && context.channel === 'broadcast') return;
        this.all.push([name, context]);
        this.waiting.forEach((look) => look());
      });
    }
  }

  /** All of a kind. */
  of(name) {
    return this.all.filter(([kind]) => kind === name).map(([, context]) => context);
  }

  /** What was published, as values. */
  get payloads() {
    return this.of('publication').map(({ data }) => this.unpack(data));
  }

  /** Wait until there are so many of a kind; gives the last of these. */
  async until(name, times = 1) {
    await this.untilTrue(() => this.of(name).length >= times, `${times} × ${name}`);
    return this.of(name)[times - 1];
  }

  untilTrue(condition, what = String(condition)) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.waiting.delete(look);
        reject(new Error(`waited for ${what}, got ${JSON.stringify(this.all)}`));
      }, PATIENCE_MS);
      const look = () => {
        if (condition()) {
          clearTimeout(timer);
          this.waiting.delete(look);
          resolve();
        }
      };
      this.waiting.add(look);
      look();
    });
  }
}
