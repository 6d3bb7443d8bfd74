// One light for the whole page: live when everything that should be live is.

const TEXTS = {
  connecting: "Connecting",
  live: "Live",
  waiting: "Reconnecting",
  offline: "Offline",
  over: "Not live",
};
const states = new Map();

addEventListener("online", show);
addEventListener("offline", show);

/**
 * @param {string} part What speaks, e.g. "alerts".
 * @param {string} state "connecting", "live" or "waiting"; "over" if it does not matter
 *     any more. Where nothing is left that does, the page is not live.
 */
export function report(part, state) {
  if (state === "over") states.delete(part);
  // The first attempt is not one to come back.
  else if (state !== "connecting" || !states.has(part)) states.set(part, state);
  show();
}

function show() {
  const light = document.querySelector("[data-status]");
  light.dataset.status = worst();
  light.querySelector("[data-status-text]").textContent = TEXTS[light.dataset.status];
}

function worst() {
  if (!navigator.onLine) return "offline";
  const found = [...states.values()];
  const worst = ["waiting", "connecting"].find((state) => found.includes(state));
  return worst ?? (found.length ? "live" : "over");
}
