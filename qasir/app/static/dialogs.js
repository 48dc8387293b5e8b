// The two dialogs: the server's token, and the keyboard.

import { giveToken } from "./api.js";
import { byId, element, say } from "./dom.js";
import { KEYS, areShortcutsOn, turnShortcuts } from "./keyboard.js";

/** The wait for a token, and what ends it; null while none is waited for. */
let asked = null;
let given = null;

/** Resolves once the server has taken a token; many may wait for one. */
export function askForToken() {
  asked ??= new Promise((resolve) => (given = resolve));
  if (!byId("token").open) byId("token").showModal();
  return asked;
}

export function wireToken() {
  const dialog = byId("token");
  const wrong = byId("token-wrong");
  dialog.addEventListener("cancel", (event) => event.preventDefault());
  // Browsers close it on a second Escape all the same; without a token nothing else on the page goes on.
  dialog.addEventListener("close", () => asked && dialog.showModal());
  byId("token-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await giveToken(byId("token-value").value);
    } catch (error) {
      wrong.hidden = false;
      say(wrong, error.message);
      byId("token-value").select();
      return;
    }
    wrong.hidden = true;
    asked = null;
    dialog.close();
    given();
  });
}

export function wireHelp() {
  for (const [keys, meaning] of KEYS) {
    const shown = keys.map((key) => element("kbd", { text: key }));
    byId("help-keys").append(element("div", {}, element("dt", {}, shown), element("dd", { text: meaning })));
  }
  const single = byId("help-single");
  single.checked = areShortcutsOn();
  single.addEventListener("change", () => turnShortcuts(single.checked));
  byId("help-open").addEventListener("click", openHelp);
  byId("help").addEventListener("click", (event) => {
    if (event.target === byId("help")) byId("help").close();
  });
}

export function openHelp() {
  if (!byId("help").open) byId("help").showModal();
}
