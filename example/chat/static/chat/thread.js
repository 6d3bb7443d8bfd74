// The live page of one correspondence: its channel's messages, people, and who is typing.

import { live } from "../redis_pubsub/redis_pubsub.js";
import { startComposer } from "./composer.js";
import { Messages } from "./messages.js";
import { People } from "./people.js";
import { report } from "./status.js";
import { Typing } from "./typing.js";

const MESSAGE = "chat.message";

export function startThread(thread) {
  const { channel, typingChannel, user } = thread.dataset;
  const messages = new Messages(thread.querySelector("[data-messages]"), user);

  // Begins where the server read the messages of this page: what was published since comes
  // first. So does, after a lost connection, what was missed.
  const subscription = live().subscribe(channel, ({ model, data, recovered }) => {
    if (model !== MESSAGE) return;
    messages.show(data, { wasMissed: recovered && isBack });
    typing.stopped(String(data.author.id));
  });

  const people = new People(thread.querySelector("[data-people]"), subscription);
  const typing = new Typing(thread.querySelector("[data-typing]"), {
    channel: typingChannel,
    user,
    nameOf: (each) => people.nameOf(each),
  });

  let wasLive = false;
  let isBack = false;
  report("messages", "connecting");
  subscription.on("state", ({ state }) => {
    if (state === "subscribed") {
      isBack = wasLive;
      wasLive = true;
      report("messages", "live");
      people.ask();
      return;
    }
    people.forget();
    if (state === "subscribing") {
      messages.leave();
      report("messages", "waiting");
    } else {
      report("messages", "over");
      say(thread, "You do not take part in this correspondence any more.");
    }
  });
  subscription.on("reset", () => {
    if (subscription.state !== "unsubscribed") messages.reload();
  });
  live().on("connected", ({ transport }) => (thread.dataset.transport = transport));
  live().on("state", ({ state }) => {
    if (state !== "disconnected") return;
    report("messages", "over");
    say(thread, "The server sent this page away: you may be logged out. Reload it.");
  });

  startComposer(thread.querySelector("[data-composer]"), {
    changed: (text) => typing.changed(text),
    sent: () => typing.sent(),
  });
}

function say(thread, text) {
  const notice = thread.querySelector("[data-notice]");
  notice.textContent = text;
  notice.hidden = false;
}
