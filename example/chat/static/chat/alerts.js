// Alerts on every page: a toast, the list in order, a badge where something is unread.

import { reloadedPart } from "./page.js";
import { LiveSocket } from "./socket.js";
import { report } from "./status.js";
import { showTime } from "./times.js";

const TOAST_MS = 6_000;
const MOST_TOASTS = 3;

export function startAlerts(list) {
  const { current } = list.dataset;
  forgetUnread(current);
  for (const entry of list.children) showBadge(entry);
  let wasLive = false;
  report("alerts", "connecting");
  new LiveSocket(list.dataset.alerts, {
    waiting: () => report("alerts", "waiting"),
    refused: () => report("alerts", "over"),
    message(alert) {
      if (alert.ready) {
        report("alerts", "live");
        // A handler's socket does not say what it missed.
        if (wasLive) reload(list);
        wasLive = true;
        return;
      }
      const isShown = String(alert.correspondence) === current && !document.hidden;
      if (!alert.is_own && !isShown) {
        countUnread(alert.correspondence);
        showToast(alert);
      }
      moveUp(list, alert);
    },
  });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return;
    forgetUnread(current);
    for (const entry of list.children) showBadge(entry);
  });
}

async function reload(list) {
  const loaded = await reloadedPart("[data-alerts]");
  list.replaceChildren(...loaded.children);
  document.querySelector("[data-empty]").hidden = list.children.length > 0;
  for (const entry of list.children) showBadge(entry);
}

function moveUp(list, alert) {
  let entry = list.querySelector(`[data-correspondence="${Number(alert.correspondence)}"]`);
  if (!entry) {
    entry = document.getElementById("entry").content.firstElementChild.cloneNode(true);
    entry.dataset.correspondence = alert.correspondence;
    entry.querySelector("a").href = alert.url;
    entry.querySelector("[data-subject]").textContent = alert.subject;
    document.querySelector("[data-empty]").hidden = true;
  }
  entry.querySelector("[data-excerpt]").textContent = alert.excerpt;
  showTime(entry.querySelector("time"), alert.sent_at);
  showBadge(entry);
  if (list.firstElementChild === entry) return;
  const focused = entry.contains(document.activeElement) ? document.activeElement : null;
  list.prepend(entry);
  focused?.focus();
}

function showToast(alert) {
  const toasts = document.querySelector("[data-toasts]");
  const toast = document.getElementById("toast").content.firstElementChild.cloneNode(true);
  toast.href = alert.url;
  toast.querySelector("[data-message]").textContent = alert.message;
  toast.querySelector("[data-excerpt]").textContent = alert.excerpt;
  toasts.append(toast);
  while (toasts.children.length > MOST_TOASTS) toasts.firstElementChild.remove();
  setTimeout(() => toast.remove(), TOAST_MS);
}

// Unread counts belong to the tab: they survive from page to page.

function keyOf(correspondence) {
  return `unread:${correspondence}`;
}

function countUnread(correspondence) {
  const key = keyOf(correspondence);
  sessionStorage.setItem(key, Number(sessionStorage.getItem(key)) + 1);
}

function forgetUnread(correspondence) {
  if (correspondence && !document.hidden) sessionStorage.removeItem(keyOf(correspondence));
}

function showBadge(entry) {
  const count = Number(sessionStorage.getItem(keyOf(entry.dataset.correspondence)));
  const badge = entry.querySelector("[data-badge]");
  badge.hidden = count === 0;
  badge.querySelector("[data-count]").textContent = count;
}
