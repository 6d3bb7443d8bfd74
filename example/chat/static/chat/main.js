// Starts what the page has.

import { startAlerts } from "./alerts.js";
import { startSubscriptions } from "./subscriptions.js";
import { startThread } from "./thread.js";
import { showTime } from "./times.js";

for (const element of document.querySelectorAll("time[datetime]")) showTime(element);

const starts = [
  ["[data-alerts]", startAlerts],
  ["[data-thread]", startThread],
  ["[data-subscriptions]", startSubscriptions],
];
for (const [selector, start] of starts) {
  const element = document.querySelector(selector);
  if (element) start(element);
}
