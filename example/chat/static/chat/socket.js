// The socket of a handler of one's own, which comes back: JSON in, JSON out, reconnecting
// with backoff. Knows nothing of pages. What it missed it does not know: that is what the
// live endpoint is for.

const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 30_000;
const REFUSED = 1008; // The server's "not for you": asking again would not help.

/** Of a logout, say: these codes ask not to come back. */
function isFinal(code) {
  return code === REFUSED || (code >= 3500 && code < 4000) || code >= 4500;
}

export class LiveSocket {
  #path;
  #handlers;
  #socket = null;
  #attempt = 0;
  #timer = null;

  /**
   * @param {string} path On this site, e.g. "/ws/read_messages/".
   * @param {object} handlers Any of: open(), message(value), waiting(), refused(reason):
   *     it stays closed.
   */
  constructor(path, handlers) {
    this.#path = path;
    this.#handlers = handlers;
    if (!globalThis.WebSocket) {
      handlers.refused?.("this browser has no WebSocket");
      return;
    }
    addEventListener("online", () => this.#timer && this.#hurry());
    this.#connect();
  }

  /** Send a value; false if there is no connection just now. */
  send(value) {
    if (this.#socket?.readyState !== 1) return false; // open
    this.#socket.send(JSON.stringify(value));
    return true;
  }

  #connect() {
    const url = new URL(this.#path, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = new WebSocket(url);
    this.#socket = socket;
    this.#timer = null;
    socket.onopen = () => {
      this.#attempt = 0;
      this.#handlers.open?.();
    };
    socket.onmessage = (event) => this.#handlers.message?.(JSON.parse(event.data));
    socket.onclose = (event) => {
      if (isFinal(event.code)) this.#handlers.refused?.(event.reason);
      else this.#wait();
    };
  }

  #wait() {
    this.#handlers.waiting?.();
    // Half of the delay is random: many pages must not come back at the same moment.
    const delay = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** this.#attempt++);
    this.#timer = setTimeout(() => this.#connect(), delay * (0.5 + Math.random() / 2));
  }

  #hurry() {
    if (this.#socket?.readyState !== WebSocket.CLOSED) return;
    clearTimeout(this.#timer);
    this.#attempt = 0;
    this.#connect();
  }
}
