// <live-progress channel="…">: shows how far something is, as redis_pubsub.progress says it.
//
// A module beside redis_pubsub.js, whose connection it shares. Types: progress.d.ts.

import { live } from "./redis_pubsub.js";

const EVENTS = ["progress", "done", "failed"];
const STYLE = `
:host { display: block; }
:host([hidden]) { display: none; }
[part="head"] { display: flex; justify-content: space-between; gap: 1em; }
[part="track"] {
  overflow: hidden; height: 0.5em; border-radius: 0.25em;
  background: var(--live-progress-track, color-mix(in srgb, currentColor 15%, transparent));
}
[part="bar"] {
  width: 0; height: 100%; border-radius: inherit;
  background: var(--live-progress-bar, #3f51d9); transition: width 0.2s;
}
:host([indeterminate]) [part="bar"] { width: 30%; animation: go 1.5s infinite ease-in-out; }
:host([state="done"]) [part="bar"] { background: var(--live-progress-done, #17804a); }
:host([state="failed"]) [part="bar"] { background: var(--live-progress-failed, #b3261e); }
@keyframes go { from { transform: translateX(-110%); } to { transform: translateX(350%); } }
@media (prefers-reduced-motion: reduce) {
  [part="bar"] { transition: none; }
  :host([indeterminate]) [part="bar"] { width: 100%; opacity: 0.5; animation: none; }
}`;
const INSIDE = `<div part="head"><span part="label"></span><span part="value"></span></div>
<div part="track"><div part="bar"></div></div>`;

/** What people read of a state. */
export function describe({ state, current, total, reason }) {
  if (state === "failed") return reason ? `Failed: ${reason}` : "Failed";
  if (state === "done") return "Done";
  return total === null ? `${current}` : `${current} of ${total}`;
}

/** How much of the bar is full, from 0 to 1; null where nobody knows. */
export function share({ state, current, total }) {
  if (state === "done") return 1;
  if (total === null) return state === "failed" ? 1 : null;
  return total ? Math.min(1, Math.max(0, current / total)) : 1;
}

const HTMLElement = globalThis.HTMLElement ?? class {};
let looks;

/** One sheet for all elements, and none that a content security policy forbids. */
function sheet() {
  if (!looks) {
    looks = new CSSStyleSheet();
    looks.replaceSync(STYLE);
  }
  return looks;
}

export class LiveProgress extends HTMLElement {
  static observedAttributes = ["channel", "label"];

  /** The connection; by default the page's. Set it before the element is in the page. */
  connection = undefined;
  /** What was said last; null before. */
  value = null;
  #root;
  #subscription = null;
  #heard = 0;

  constructor() {
    super();
    this.#root = this.attachShadow({ mode: "open" });
    this.#root.innerHTML = INSIDE;
    this.#root.adoptedStyleSheets = [sheet()];
  }

  connectedCallback() {
    for (const [name, value] of [
      ["role", "progressbar"],
      ["aria-valuemin", "0"],
      ["state", "waiting"],
    ]) {
      if (!this.hasAttribute(name)) this.setAttribute(name, value);
    }
    this.#draw();
    this.#follow();
  }

  disconnectedCallback() {
    this.#unfollow();
  }

  attributeChangedCallback(name, before, after) {
    if (!this.isConnected || before === after) return;
    if (name === "label") return this.#draw();
    this.#unfollow();
    this.value = null;
    this.setAttribute("state", "waiting");
    this.#draw();
    this.#follow();
  }

  #follow() {
    const channel = this.getAttribute("channel");
    if (!channel) return;
    const subscription = (this.connection ?? live()).subscribe(channel, this.#hear);
    this.#subscription = subscription;
    // Where messages were missed, what was said last is all there is to know.
    subscription.on("reset", this.#recall);
    subscription.on("state", this.#ended);
    subscription.ready.then(this.#recall, () => {});
  }

  #unfollow() {
    const subscription = this.#subscription;
    if (!subscription) return;
    this.#subscription = null;
    subscription.off("reset", this.#recall);
    subscription.off("state", this.#ended);
    subscription.unsubscribe(this.#hear);
  }

  #hear = (publication) => {
    if (!EVENTS.includes(publication.data?.state)) return;
    this.#heard++;
    this.#show(publication.data, false);
  };

  #recall = async () => {
    const subscription = this.#subscription;
    const heard = this.#heard;
    let last;
    try {
      const { publications } = await subscription.history({ limit: 1, reverse: true });
      last = publications[0]?.data;
    } catch {
      return; // The connection was lost again: the next reset asks again.
    }
    // What came live meanwhile is newer.
    if (subscription !== this.#subscription || heard !== this.#heard) return;
    if (EVENTS.includes(last?.state)) this.#show(last, true);
  };

  #ended = ({ state, code }) => {
    if (state !== "unsubscribed" || code === 0) return;
    this.setAttribute("state", "unavailable");
    this.#draw();
  };

  /** Shows a state and tells the page; `recalled`: it was said before the page listened. */
  #show(value, recalled) {
    this.value = value;
    this.setAttribute("state", value.state);
    this.#draw();
    const detail = { ...value, recalled };
    this.dispatchEvent(new CustomEvent(value.state, { detail, bubbles: true }));
  }

  #draw() {
    const { value } = this;
    const label = this.getAttribute("label") || value?.label || "";
    const text = value ? describe(value) : "";
    const full = value ? share(value) : null;
    const isOver = ["failed", "done", "unavailable"].includes(this.getAttribute("state"));
    this.#part("label").textContent = label;
    this.#part("value").textContent = text;
    this.#part("bar").style.width = full === null ? "" : `${full * 100}%`;
    this.toggleAttribute("indeterminate", full === null && !isOver);
    this.#set("aria-label", label || "Progress");
    this.#set("aria-valuetext", text);
    this.#set("aria-valuemax", value?.total ? String(value.total) : "");
    this.#set("aria-valuenow", full === null ? "" : String(Math.round(full * (value.total || 1))));
  }

  #part(name) {
    return this.#root.querySelector(`[part="${name}"]`);
  }

  #set(name, value) {
    if (value) this.setAttribute(name, value);
    else this.removeAttribute(name);
  }
}

const { customElements } = globalThis;
if (customElements && !customElements.get("live-progress")) {
  customElements.define("live-progress", LiveProgress);
}
