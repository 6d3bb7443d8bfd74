// "… is typing": pages tell each other on a channel that keeps nothing.

import { live } from "../redis_pubsub/redis_pubsub.js";

const TELL_AGAIN_MS = 2_000;
const FORGET_MS = 5_000; // above the other: one that is lost does no harm

export class Typing {
  #element;
  #channel;
  #nameOf;
  #timers = new Map(); // by the user who is typing
  #toldAt = 0;

  /**
   * @param {Element} element Where it is shown.
   * @param {object} options channel; user: whose own typing is not shown; nameOf(user).
   */
  constructor(element, { channel, user, nameOf }) {
    this.#element = element;
    this.#channel = channel;
    this.#nameOf = nameOf;
    live().subscribe(channel, ({ data, info }) => {
      // Who it is the server says, not the page that sent it.
      if (info.user === user) return;
      if (data.is_typing) this.#started(info.user);
      else this.stopped(info.user);
    });
  }

  /** The own text has changed. */
  changed(text) {
    if (!text.trim()) return this.sent();
    if (Date.now() - this.#toldAt < TELL_AGAIN_MS) return;
    this.#toldAt = Date.now();
    this.#tell(true);
  }

  /** The own text is sent, or gone. */
  sent() {
    if (this.#toldAt) this.#tell(false);
    this.#toldAt = 0;
  }

  /** Somebody has stopped. */
  stopped(user) {
    clearTimeout(this.#timers.get(user));
    if (this.#timers.delete(user)) this.#show();
  }

  #started(user) {
    clearTimeout(this.#timers.get(user));
    this.#timers.set(user, setTimeout(() => this.stopped(user), FORGET_MS));
    this.#show();
  }

  #tell(isTyping) {
    if (live().state !== "connected") return;
    // Nobody waits for it, and the next one comes soon.
    live().publish(this.#channel, { is_typing: isTyping }).catch(() => {});
  }

  #show() {
    const names = [...this.#timers.keys()].map(this.#nameOf).filter(Boolean);
    this.#element.dataset.typing = names.length ? "yes" : "";
    const who = names.length < 3 ? names.join(" and ") : "Several people";
    this.#element.querySelector("[data-typing-text]").textContent = names.length
      ? `${who} ${names.length === 1 ? "is" : "are"} typing`
      : "";
  }
}
