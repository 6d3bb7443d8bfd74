// Starts what the page has.

import { startAlerts } from "./alerts.js";
import { startSubscriptions } from "./subscriptions.js";
import { startThread } from "./thread.js";
import { showTimes } from "./times.js";

showTimes(document);

const starts = [
  ["[data-alerts]", startAlerts],
  ["[data-thread]", startThread],
  ["[data-subscriptions]", startSubscriptions],
];
for (const [selector, start] of starts) {
  const element = document.querySelector(selector);
  if (element) start(element);
}
