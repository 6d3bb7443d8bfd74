// A room: what is said in it, who is typing, and who is here.

import { report } from "../chat/status.js";
import { EventSocket } from "../redis_pubsub/events.js";

const TELL_AGAIN_MS = 2_000;
const FORGET_MS = 5_000; // above the other: one that is lost does no harm
const ASK_AGAIN_MS = 30_000;

const section = document.querySelector("[data-room]");
const part = (name) => section.querySelector(`[data-${name}]`);
const people = new Map(); // names by connection
const room = new EventSocket(section.dataset.room);

const STATUS = { open: "live", closed: "over" };
room.onState((state) => report("room", STATUS[state] ?? state));
room.on("close", ({ final }) => {
  if (final) part("error").textContent = "You may be logged out: reload the page.";
});
report("room", "connecting");

// -- who is here --------------------------------------------------------------------

room.on("open", () => room.emit("who"));
setInterval(() => room.emit("who"), ASK_AGAIN_MS);
room.on("here", (all) => {
  people.clear();
  for (const { id, by } of all) people.set(id, by);
  showPeople();
});
room.on("joined", ({ id, by }) => {
  people.set(id, by);
  showPeople();
});
room.on("left", ({ id, by }) => {
  people.delete(id);
  showPeople();
  stopped(by);
});

function showPeople() {
  const names = [...new Set(people.values())].sort();
  part("here").replaceChildren(...names.map((name) => element("li", name)));
}

// -- saying -------------------------------------------------------------------------

part("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const { text } = event.target.elements;
  const isSent = room.emit("say", { text: text.value });
  part("error").textContent = isSent ? "" : "Not connected: nobody would have heard it.";
  if (isSent) text.value = "";
  toldAt = 0;
});
room.on("error", ({ reason }) => (part("error").textContent = reason));
room.on("said", ({ by, text }) => {
  stopped(by);
  const item = document.createElement("li");
  item.append(element("p", by, "meta"), element("p", text, "body"));
  part("said").append(item);
  item.scrollIntoView({ block: "end" });
});

// -- typing -------------------------------------------------------------------------

let toldAt = 0;
const timers = new Map(); // by the name of who is typing

part("say").addEventListener("input", () => {
  if (Date.now() - toldAt < TELL_AGAIN_MS) return;
  toldAt = Date.now();
  room.emit("typing");
});
room.on("typing", ({ by }) => {
  clearTimeout(timers.get(by));
  timers.set(by, setTimeout(() => stopped(by), FORGET_MS));
  showTyping();
});

function stopped(name) {
  clearTimeout(timers.get(name));
  timers.delete(name);
  showTyping();
}

function showTyping() {
  const names = [...timers.keys()];
  part("typing").dataset.typing = names.length ? "yes" : "";
  part("typing-text").textContent = names.length
    ? `${names.join(" and ")} ${names.length === 1 ? "is" : "are"} typing`
    : "";
}

function element(name, text, className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = className;
  return made;
}
