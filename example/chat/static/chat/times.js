// Times as the reader's clock and language have them.

const sameDay = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const otherDay = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const inFull = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });

/** Show a moment in a <time>; without one, show the moment it has already. */
export function showTime(element, moment = element.dateTime) {
  const date = new Date(moment);
  if (Number.isNaN(date.valueOf())) return;
  const isToday = date.toDateString() === new Date().toDateString();
  element.dateTime = moment;
  element.textContent = (isToday ? sameDay : otherDay).format(date);
  element.title = inFull.format(date);
}

/** Show all moments below an element, as the server wrote them. */
export function showTimes(element) {
  for (const time of element.querySelectorAll("time[datetime]")) showTime(time);
}
