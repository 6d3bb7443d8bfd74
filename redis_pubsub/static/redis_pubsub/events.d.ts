/**
 * The browser's side of an event socket.
 *
 * ```js
 * import { EventSocket } from "./events.js";
 *
 * const room = new EventSocket("/room/kitchen/");
 * room.on("open", () => room.emit("join"));
 * room.on("said", (data) => show(data.text));
 * ```
 *
 * A lost connection is opened again, after a random time that grows up to 30 seconds, until
 * `close()` is called or the server closes for good (1000, 3500 to 3999, 4500 to 4999). A
 * server that restarts says when each client is wanted back, and that is waited for first.
 * What was emitted meanwhile is not made up for: load the state in `open`.
 *
 * The same name is at `window.redisPubSub` where `events.classic.js` was loaded.
 */

export as namespace redisPubSub;

/** Before its first connect and for good: `closed`. Lost and about to try again: `waiting`. */
export type State = "connecting" | "open" | "waiting" | "closed";

/** Of the `open` event. */
export interface Opened {
  /** The subprotocol that was agreed on; "" for none. */
  protocol: string;
}

/** Of the `close` event. */
export interface Closed {
  code: number;
  reason: string;
  /** Whether the socket stays closed. */
  final: boolean;
}

/** Of the `error` event: the server did not obey something; the socket is still open. */
export interface Refused {
  code: number;
  reason: string;
  /** The event that was emitted; "" where the server could not read one. */
  event: string;
}

export interface Options {
  /** Instead of the page's: "live.example.com" or "localhost:8000". */
  host?: string;
  /** `wss` or `ws`; by default as the page came. */
  secure?: boolean;
  /** Subprotocols, best first. */
  protocols?: string | string[];
  /** Whether to connect at once; by default yes. */
  autoConnect?: boolean;
  /** Longest wait before the first attempt to come back; 500 by default. */
  minDelayMs?: number;
  /** Longest wait, and longest that a server may ask for (jitter is added to that);
   *  30,000 by default. */
  maxDelayMs?: number;
  /** Instead of `globalThis.WebSocket`. */
  WebSocket?: unknown;
}

/** The events of a module: `bind("chat").emit("say")` emits `chat.say`. */
export interface EventModule {
  on(event: string, callback: (data: any) => void): () => void;
  off(event: string, callback?: (data: any) => void): void;
  emit(event: string, data?: unknown): boolean;
}

export class EventSocket {
  /**
   * @param path Of the socket, e.g. "/room/kitchen/"; a whole URL is taken as well, such as
   * that of `{% socket_url %}`.
   */
  constructor(path: string, options?: Options);
  readonly url: string;
  readonly state: State;
  /** Open it, if it is closed. */
  connect(): void;
  /** Close it, and do not come back. */
  close(code?: number, reason?: string): void;
  /** Hear an event; several callbacks are told in order. Returns what takes it back. */
  on(event: "open", callback: (opened: Opened) => void): () => void;
  on(event: "close", callback: (closed: Closed) => void): () => void;
  on(event: "error", callback: (refused: Refused) => void): () => void;
  on(event: string, callback: (data: any) => void): () => void;
  /** Hear it no more: one callback, or without one all of the event. */
  off(event: string, callback?: (data: any) => void): void;
  /** Send an event; `false` if the socket is not open: it is not kept. */
  emit(event: string, data?: unknown): boolean;
  /** Send what is no event: text, or bytes. */
  send(data: string | ArrayBuffer | ArrayBufferView | Blob): boolean;
  /** Be told of each change of `state`. */
  onState(callback: (state: State) => void): () => void;
  /** Hear messages that are no events: text, or bytes. */
  onMessage(callback: (data: string | ArrayBuffer) => void): () => void;
  /** A module's events. */
  bind(name: string): EventModule;
}
