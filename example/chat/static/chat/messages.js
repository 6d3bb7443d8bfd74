// The messages of a correspondence on its page: each once, in order, whatever comes twice.

import { reloadedPart } from "./page.js";
import { showTime } from "./times.js";

const NEAR_THE_END_PX = 80;
const PART = "[data-messages]";

export class Messages {
  #list;
  #user;
  #away = null; // the divider above what was missed
  #meanwhile = null; // what comes while the list is loaded

  /**
   * @param {Element} list Has what the server rendered.
   * @param {string} user Whose messages are "own".
   */
  constructor(list, user) {
    this.#list = list;
    this.#user = user;
    list.scrollTop = list.scrollHeight;
  }

  /** Show a message, unless it is there; below the divider if it was missed. */
  show(message, { wasMissed }) {
    this.#meanwhile?.push(message);
    if (this.#find(message.id)) return;
    const item = this.#makeItem(message);
    this.#keepingTheEnd(() => {
      this.#insert(item);
      if (wasMissed && !this.#away) this.#divide(item);
    });
  }

  /** What is missed from now on gets a divider of its own. */
  leave() {
    this.#away?.remove();
    this.#away = null;
  }

  /** Messages were missed and nobody keeps them: take the list from the database. */
  async reload() {
    if (this.#meanwhile) return;
    const last = this.#lastId();
    this.#meanwhile = [];
    const loaded = await reloadedPart(PART);
    const arrived = this.#meanwhile;
    this.#meanwhile = null;
    this.#keepingTheEnd(() => {
      this.leave();
      this.#list.replaceChildren(...loaded.children);
      const missed = [...this.#list.children].find((item) => Number(item.dataset.id) > last);
      if (missed) this.#divide(missed);
    });
    for (const message of arrived) this.show(message, { wasMissed: false });
  }

  #find(id) {
    return this.#list.querySelector(`[data-id="${Number(id)}"]`);
  }

  #lastId() {
    return Number([...this.#list.querySelectorAll("[data-id]")].at(-1)?.dataset.id ?? 0);
  }

  #makeItem(message) {
    const item = document.getElementById("message").content.firstElementChild.cloneNode(true);
    item.dataset.id = message.id;
    item.dataset.author = message.author.id;
    item.classList.toggle("own", String(message.author.id) === this.#user);
    item.querySelector("[data-name]").textContent = message.author.name;
    item.querySelector("[data-body]").textContent = message.body;
    showTime(item.querySelector("time"), message.sent_at);
    return item;
  }

  #insert(item) {
    const later = [...this.#list.querySelectorAll("[data-id]")].find(
      (other) => Number(other.dataset.id) > Number(item.dataset.id),
    );
    this.#list.insertBefore(item, later ?? null);
  }

  #divide(item) {
    this.#away = document.getElementById("away").content.firstElementChild.cloneNode(true);
    item.before(this.#away);
  }

  /** Who reads the end goes on reading it, but not past what he missed. */
  #keepingTheEnd(change) {
    const list = this.#list;
    const isAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < NEAR_THE_END_PX;
    change();
    if (!isAtEnd) return;
    list.scrollTop = list.scrollHeight;
    this.#away?.scrollIntoView({ block: "nearest" });
  }
}
