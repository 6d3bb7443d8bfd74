// Writing a message: Enter sends, without a reload.

/**
 * @param {HTMLFormElement} form Works without this script as well.
 * @param {object} handlers changed(text), sent().
 */
export function startComposer(form, { changed, sent }) {
  const field = form.querySelector("textarea");
  const button = form.querySelector("button");
  const error = form.querySelector("[data-error]");
  field.addEventListener("input", () => changed(field.value));
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.disabled) return;
    button.disabled = true;
    error.textContent = await send(form);
    button.disabled = false;
    if (!error.textContent) {
      field.value = "";
      sent();
    }
    field.focus();
  });
  field.focus({ preventScroll: true });
}

// What went wrong, or nothing. The message itself comes by the channel, as everybody's.
async function send(form) {
  try {
    const response = await fetch(form.action, {
      method: "POST",
      body: new FormData(form),
      headers: { Accept: "application/json" },
      redirect: "manual",
    });
    if (response.status === 201) return "";
    if (response.status === 400) return (await response.json()).error;
    if (response.status === 404) return "Not sent: you do not take part here any more.";
    if (response.type === "opaqueredirect" || response.status === 403) {
      return "Not sent: you are logged out. Reload the page and log in.";
    }
  } catch {
    // No connection: said below.
  }
  return "Not sent. Try again in a moment.";
}
