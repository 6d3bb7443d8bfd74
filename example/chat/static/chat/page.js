// The page as the server would make it now.

import { showTimes } from "./times.js";

const RETRY_MS = 2_000;

/**
 * Load this page anew, until that succeeds, and give a part of it.
 *
 * @param {string} selector Which part. If the server has none (it asks to log in, say), the
 *     browser goes where the server sends it.
 */
export async function reloadedPart(selector) {
  for (;;) {
    const part = await load(selector).catch(() => undefined);
    if (part) return part;
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

async function load(selector) {
  const response = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (response.status >= 500) return undefined;
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  const part = page.querySelector(selector);
  if (!part) location.reload();
  else showTimes(part);
  return part;
}
