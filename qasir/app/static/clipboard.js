// Puts text where it can be pasted.

import { element } from "./dom.js";
import { toast } from "./toast.js";

export async function copy(text, said) {
  if (await byClipboard(text)) toast(said);
  else toast(bySelection(text) ? said : "This browser does not let the page copy");
}

/** Browsers have it only where a page comes by HTTPS or from this machine. */
async function byClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

function bySelection(text) {
  const held = element("textarea", { class: "unseen", "aria-hidden": "true", tabindex: -1 });
  const before = document.activeElement;
  held.value = text;
  document.body.append(held);
  held.select();
  const done = document.execCommand("copy");
  held.remove();
  before?.focus?.();
  return done;
}
