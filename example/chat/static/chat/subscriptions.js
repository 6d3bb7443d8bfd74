// "All subscriptions": switches that subscribe and unsubscribe, and what arrives.

import { LiveSocket } from "./socket.js";

const MOST_LINES = 50;

export function startSubscriptions(section) {
  const switches = section.querySelectorAll("[data-channel]");
  const error = section.querySelector("[data-error]");
  const log = section.querySelector("[data-log]");
  const quiet = section.querySelector("[data-quiet]");

  function write(kind, value) {
    const line = document.createElement("li");
    line.className = kind;
    line.textContent = JSON.stringify(value);
    log.append(line);
    while (log.children.length > MOST_LINES) log.firstElementChild.remove();
    log.scrollTop = log.scrollHeight;
    quiet.hidden = true;
  }

  function enable(isOpen) {
    for (const each of switches) each.disabled = !isOpen;
  }

  const socket = new LiveSocket(section.dataset.subscriptions, {
    open: () => enable(true),
    waiting: () => enable(false),
    message(value) {
      write("received", value);
      if (value.ok) error.textContent = "";
      if (!value.error) return;
      error.textContent = `The server says: ${value.error}`;
      for (const each of switches) {
        if (each.dataset.channel === value.channel) each.checked = !each.checked;
      }
    },
  });

  for (const each of switches) {
    each.addEventListener("change", () => {
      const action = each.checked ? "subscribe" : "unsubscribe";
      const command = { action, channel: each.dataset.channel };
      if (socket.send(command)) write("sent", command);
      else each.checked = !each.checked;
    });
  }
}
