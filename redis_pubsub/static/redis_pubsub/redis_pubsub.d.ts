/**
 * Live channels in the browser.
 *
 * ```js
 * import { live, upsert } from "./redis_pubsub.js";
 *
 * const orders = new Map();
 * const subscription = live().subscribe("shop.orders", (publication) => {
 *   upsert(orders, publication);
 * });
 * subscription.on("reset", () => location.reload());
 * ```
 *
 * Order: a channel's publications come in the order the server gave them, each once, also
 * over a lost connection as long as the channel's history reaches back far enough; where
 * it does not, `reset` says so. What a page reads together with its position may come
 * again, so handlers must bear a repeat: `upsert` does.
 *
 * The same names are at `window.redisPubSub` where `redis_pubsub.classic.js` was loaded.
 */

export as namespace redisPubSub;

/** A place in a channel's history. */
export interface Position {
  epoch: string;
  offset: number;
}

/** One connection of somebody, as presence, `join`, `leave` and publications show it. */
export interface ClientInfo {
  /** The user's id as a string; "" for an anonymous one. */
  user: string;
  /** The connection's id. */
  client: string;
  /** What the server tells about the connection. */
  conn_info?: unknown;
  /** What the server tells about the connection in this channel. */
  chan_info?: unknown;
}

/** One message of a channel. */
export interface Publication<Data = any> {
  channel: string;
  data: Data;
  /** Its number in the channel's history; undefined in a channel without. */
  offset?: number;
  /** What happened, for instance "create", "update" or "delete". */
  event?: string;
  /** The model's label, for instance "shop.order". */
  model?: string;
  /** The primary key, always as a string. */
  pk?: string;
  /** The connection that published it, if a client did. */
  info?: ClientInfo;
  tags: Record<string, string>;
  /** Whether it was missed, and came with a recovery. */
  recovered: boolean;
}

/** A client came to a channel, or left it. */
export interface Presence {
  channel: string;
  info: ClientInfo;
}

/** The state kept of a channel may be wrong: load it anew. */
export interface Reset {
  channel: string;
  reason: string;
}

/** Ids of connections and who they are. */
export type PresenceResult = Record<string, ClientInfo>;

export interface PresenceStats {
  num_clients: number;
  num_users: number;
}

export interface HistoryOptions {
  /** How many; 0 or none for the position alone, -1 for all. */
  limit?: number;
  /** Read from here on, without the publication at this place itself. */
  since?: Position;
  /** The newest first. */
  reverse?: boolean;
}

export interface HistoryResult<Data = any> extends Position {
  /** `epoch` and `offset` beside it are those of the newest stored publication. */
  publications: Publication<Data>[];
}

/**
 * What a promise rejects with, and what `error` events carry.
 *
 * Codes from 100 are the server's. Below: 1 no authorization (`getToken` threw
 * `UnauthorizedError` or gave nothing), 10 `getToken` failed, 11 timeout, 12 the connection
 * closed before the reply, 13 disconnected.
 */
export class LiveError extends Error {
  constructor(code: number, message: string, temporary?: boolean);
  readonly code: number;
  /** Whether the same may succeed later. */
  readonly temporary: boolean;
}

/** Throw it in `getToken`: this user gets no token, do not ask again. */
export class UnauthorizedError extends Error {}

export type LiveState = "disconnected" | "connecting" | "connected";
export type SubscriptionState = "unsubscribed" | "subscribing" | "subscribed";

/**
 * A change of the connection's state.
 *
 * `connecting`: 0 connect called, 1 transport closed, 2 no ping, 3 subscribe timeout,
 * 4 unsubscribe error, 10 no token. `disconnected`: 0 disconnect called, 1 unauthorized,
 * 3 message size limit. Other codes are the server's.
 */
export interface StateChange {
  state: LiveState;
  code: number;
  reason: string;
}

/** What the server said to a subscription. */
export interface Subscribed {
  /** Whatever the server adds. */
  data?: unknown;
  /** Whether all that was missed follows. */
  recovered: boolean;
}

/** A change of a subscription's state; `unsubscribed` by code 0 is the app's own doing. */
export interface SubscriptionStateChange extends Partial<Subscribed> {
  channel: string;
  state: SubscriptionState;
  code: number;
  reason: string;
}

/** The connection stands. */
export interface Connected {
  /** The connection's id. */
  client: string;
  /** Whatever the server adds. */
  data?: unknown;
  transport: TransportName;
  /** Channels the server subscribed this connection to. */
  channels: string[];
}

/** `publication`, `join`, `leave` and `reset` are of the server's own subscriptions. */
export interface LiveEvents {
  state: StateChange;
  connected: Connected;
  /** The data of a message to this connection, outside any channel. */
  message: any;
  error: LiveError;
  publication: Publication;
  join: Presence;
  leave: Presence;
  reset: Reset;
}

export interface SubscriptionEvents<Data = any> {
  publication: Publication<Data>;
  join: Presence;
  leave: Presence;
  state: SubscriptionStateChange;
  /**
   * Messages may be missing: a recovery failed, there was none to be had after a lost
   * connection, or the server ended the subscription.
   */
  reset: Reset;
  error: LiveError;
}

export type TransportName = "websocket" | "sse";

export interface LiveOptions {
  /** Where the live endpoint is; http, https, ws, wss or relative. Default: the page's. */
  url?: string | URL;
  /** Where commands go while server-sent events are in use. Default: the page's. */
  emulation?: string | URL;
  /** Asked when there is no token, when the server calls it expired, and at its expiry. */
  getToken?: () => string | Promise<string>;
  token?: string;
  /** Goes with the connect command. */
  data?: unknown;
  /** What the server sees this client called. */
  name?: string;
  /** To be tried in this order; one that worked is kept. Default: both. */
  transports?: TransportName[];
  /** Milliseconds; the first wait before a new attempt is below it. Default 500. */
  minDelay?: number;
  /** Milliseconds; no wait is longer, and none that a server asks for (jitter is added to
   *  that). Default 20,000. */
  maxDelay?: number;
  /** Milliseconds a connection, or the reply to a command, may take. Default 5,000. */
  timeout?: number;
  /** Stand-ins for the browser's own. */
  WebSocket?: any;
  EventSource?: any;
  fetch?: (url: string, options: any) => Promise<{ status: number }>;
}

export interface SubscribeOptions {
  /** Asked for the channel's token as `LiveOptions.getToken` is for the connection's. */
  getToken?: (channel: string) => string | Promise<string>;
  token?: string;
  /** Goes with the subscribe command. */
  data?: unknown;
  /** Deliver first what came after this place. Default: the page's position. */
  since?: Position;
  /** Ask the server to watch that nothing is missing. */
  positioned?: boolean;
  /** Ask the server to make good what is missing; implies `positioned`. */
  recoverable?: boolean;
  /** Ask the server for `join` and `leave`. */
  joinLeave?: boolean;
}

/** One channel; made by `Live.subscribe`. */
export class Subscription<Data = any> {
  private constructor();
  readonly channel: string;
  readonly state: SubscriptionState;
  /** Resolves when first subscribed, rejects with a `LiveError` if it ends before. */
  readonly ready: Promise<Subscribed>;

  on<E extends keyof SubscriptionEvents>(
    event: E,
    listener: (value: SubscriptionEvents<Data>[E]) => void,
  ): this;
  /** Takes off one listener, or without one all of the event. */
  off<E extends keyof SubscriptionEvents>(
    event: E,
    listener?: (value: SubscriptionEvents<Data>[E]) => void,
  ): this;

  /**
   * Ends the subscription for all its listeners; `Live.subscribe` then begins a new one.
   * With a handler: takes off that one alone, and ends the subscription with the last.
   */
  unsubscribe(handler?: (publication: Publication<Data>) => void): void;

  publish(data: unknown): Promise<void>;
  presence(): Promise<PresenceResult>;
  presenceStats(): Promise<PresenceStats>;
  history(options?: HistoryOptions): Promise<HistoryResult<Data>>;
}

/**
 * One connection to the server, which finds its way back by itself.
 *
 * It connects at the first subscribe or call. Calls made before the connection stands wait
 * for it as long as a reply may take; after `disconnect()`, or after the server sent this
 * client away, they fail at once, and subscriptions wait for `connect()`.
 */
export class Live {
  constructor(options?: LiveOptions);
  readonly state: LiveState;
  /** The connection's id; "" while there is none. */
  readonly id: string;

  connect(): void;
  disconnect(): void;

  on<E extends keyof LiveEvents>(event: E, listener: (value: LiveEvents[E]) => void): this;
  /** Takes off one listener, or without one all of the event. */
  off<E extends keyof LiveEvents>(event: E, listener?: (value: LiveEvents[E]) => void): this;

  /**
   * The channel's one subscription; a second call adds its handler to the first's, and its
   * options count for nothing.
   */
  subscribe<Data = any>(
    channel: string,
    handler?: ((publication: Publication<Data>) => void) | null,
    options?: SubscribeOptions,
  ): Subscription<Data>;

  publish(channel: string, data: unknown): Promise<void>;
  rpc<Result = any>(method: string, data?: unknown): Promise<Result>;
  /** Resolves when sent; there is no reply. */
  send(data: unknown): Promise<void>;
  presence(channel: string): Promise<PresenceResult>;
  presenceStats(channel: string): Promise<PresenceStats>;
  history<Data = any>(channel: string, options?: HistoryOptions): Promise<HistoryResult<Data>>;
}

/** The page's one `Live`, also for a classic script; the first call's options count. */
export function live(options?: LiveOptions): Live;

/** One user of a channel, however many tabs are open. */
export interface User {
  user: string;
  clients: ClientInfo[];
  /** The first `conn_info` there is among the clients. */
  info: unknown;
}

/** Merges the connections of each user. */
export function byUser(presence: PresenceResult): User[];

/**
 * Applies a publication to a map of rows by primary key: a "delete" takes the row out, all
 * else puts it in. Applying one again changes nothing. Keys are strings, as `pk` is.
 */
export function upsert<Key = string, Data = any>(
  map: Map<Key, Data>,
  publication: Publication<Data>,
  key?: Key,
): Map<Key, Data>;

/** The protocol's codes that this module acts on, by the server's names. */
export const codes: {
  readonly errors: { readonly token_expired: 109 };
  readonly disconnects: { readonly expired: 3005; readonly state_invalidated: 3014 };
  readonly unsubscribes: {
    readonly insufficient_state: 2500;
    readonly expired: 2501;
    readonly state_invalidated: 2502;
  };
};
