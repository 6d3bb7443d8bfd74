// The live page of one correspondence: new messages appear, sending needs no reload.

import { LiveSocket } from "./socket.js";
import { showTime } from "./times.js";

const NEAR_THE_END_PX = 80;

export function startThread(thread) {
  const messages = thread.querySelector("[data-messages]");
  const notice = thread.querySelector("[data-notice]");
  messages.scrollTop = messages.scrollHeight;
  new LiveSocket(thread.dataset.socket, {
    message(value) {
      notice.hidden = true;
      if (!value.latest) show(messages, [value], thread.dataset.user);
      else if (isBehind(messages, value.latest)) location.reload();
      else show(messages, value.latest, thread.dataset.user);
    },
    refused() {
      notice.hidden = false;
    },
  });
  startComposer(thread.querySelector("[data-composer]"));
}

// More was written while this page was away than it gets at once: it has a hole.
function isBehind(messages, latest) {
  const last = Number(messages.lastElementChild?.dataset.id ?? 0);
  return last > 0 && latest.length > 0 && latest[0].id > last;
}

function isShown(messages, message) {
  return messages.querySelector(`[data-id="${Number(message.id)}"]`) !== null;
}

function show(messages, values, user) {
  const isAtEnd =
    messages.scrollHeight - messages.scrollTop - messages.clientHeight < NEAR_THE_END_PX;
  for (const value of values) {
    if (!isShown(messages, value)) insert(messages, makeItem(value, user));
  }
  if (isAtEnd) messages.scrollTop = messages.scrollHeight;
}

function makeItem(message, user) {
  const item = document.getElementById("message").content.firstElementChild.cloneNode(true);
  item.dataset.id = message.id;
  item.dataset.author = message.author.id;
  item.classList.toggle("own", String(message.author.id) === user);
  item.querySelector("[data-name]").textContent = message.author.name;
  item.querySelector("[data-body]").textContent = message.body;
  showTime(item.querySelector("time"), message.sent_at);
  return item;
}

function insert(messages, item) {
  let before = messages.lastElementChild;
  while (before && Number(before.dataset.id) > Number(item.dataset.id)) {
    before = before.previousElementSibling;
  }
  if (before) before.after(item);
  else messages.prepend(item);
}

function startComposer(form) {
  const field = form.querySelector("textarea");
  const button = form.querySelector("button");
  const error = form.querySelector("[data-error]");
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.disabled) return;
    button.disabled = true;
    error.textContent = await send(form);
    button.disabled = false;
    if (!error.textContent) field.value = "";
    field.focus();
  });
  field.focus({ preventScroll: true });
}

// What went wrong, or nothing. The message itself comes over the socket, as everybody's.
async function send(form) {
  try {
    const response = await fetch(form.action, {
      method: "POST",
      body: new FormData(form),
      headers: { Accept: "application/json" },
      redirect: "manual",
    });
    if (response.status === 201) return "";
    if (response.status === 400) return (await response.json()).error;
    if (response.type === "opaqueredirect" || response.status === 403) {
      return "Not sent: you are logged out. Reload the page and log in.";
    }
  } catch {
    // No connection: said below.
  }
  return "Not sent. Try again in a moment.";
}
