/**
 * `<live-progress channel="…">`: shows how far something is, as Python's
 * `redis_pubsub.progress` says it.
 *
 * ```html
 * <script type="module" src="{% static 'redis_pubsub/progress.js' %}"></script>
 * <live-progress channel="user:1:import" label="Importing"></live-progress>
 * ```
 *
 * Attributes: `channel`; `label`, else what Python said. `state` is one of `LiveProgressState`;
 * `indeterminate` is there while nobody knows how much there is. Parts for CSS: `head`,
 * `label`, `value`, `track`, `bar`; properties `--live-progress-track`, `-bar`, `-done` and
 * `-failed`.
 */

import type { Live } from "./redis_pubsub.js";

/** `waiting` before the first state; `unavailable`: the server refused the channel. */
export type LiveProgressState = "waiting" | "progress" | "done" | "failed" | "unavailable";

/** What Python said. */
export interface ProgressState {
  state: "progress" | "done" | "failed";
  current: number;
  /** Null while nobody knows. */
  total: number | null;
  label: string;
  reason: string;
}

/** Goes with the events `progress`, `done` and `failed`, which bubble. */
export interface ProgressDetail extends ProgressState {
  /** Whether it was said before the page listened: `done` of a finished import, say. */
  recalled: boolean;
}

/** What people read of a state. */
export function describe(state: ProgressState): string;

/** How much of the bar is full, from 0 to 1; null where nobody knows. */
export function share(state: ProgressState): number | null;

export class LiveProgress extends HTMLElement {
  /** The connection; by default the page's. Set it before the element is in the page. */
  connection: Live | undefined;
  /** What was said last; null before. */
  readonly value: ProgressState | null;
}

declare global {
  interface HTMLElementTagNameMap {
    "live-progress": LiveProgress;
  }
}
