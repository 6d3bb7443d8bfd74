// The bell in the page's head: rings when there is a notice for whoever looks at it.

import { report } from "../chat/status.js";
import { live } from "../redis_pubsub/redis_pubsub.js";

const bell = document.querySelector("[data-bell]");
const text = bell.querySelector("[data-bell-text]");

function ring({ data }) {
  // Who is new to a channel gets its last notice: the page may show that one, or a newer.
  if (data.at <= Number(bell.dataset.at)) return;
  bell.dataset.at = data.at;
  text.textContent = data.text;
  bell.classList.remove("rings");
  void bell.offsetWidth; // So that it rings again.
  bell.classList.add("rings");
}

report("bell", "connecting");
let wasLive = false;
live().on("state", ({ state }) => {
  if (state === "disconnected") report("bell", "over");
  else if (state === "connected") report("bell", "live");
  else if (wasLive) report("bell", "waiting");
  wasLive ||= state === "connected";
});

for (const channel of JSON.parse(document.querySelector("#bell-channels").textContent)) {
  live().subscribe(channel, ring);
}
