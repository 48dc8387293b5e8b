// A short word at the foot of the page, read out too.

import { byId, say } from "./dom.js";

const SHOWN_MS = 2600;
let timer = null;

export function toast(text) {
  clearTimeout(timer);
  say(byId("toast"), text);
  byId("toast").classList.add("there");
  timer = setTimeout(() => {
    byId("toast").classList.remove("there");
    say(byId("toast"), "");
  }, SHOWN_MS);
}
