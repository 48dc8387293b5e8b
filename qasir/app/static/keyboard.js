// Shortcuts. They keep out of fields, buttons and dialogs, and can be turned off.

import { byId } from "./dom.js";
import { openHelp } from "./dialogs.js";
import { keep, kept } from "./kept.js";

export const KEYS = [
  [["/"], "search"],
  [["j"], "next hit"],
  [["k"], "previous hit"],
  [["Enter"], "open the hit"],
  [["Space"], "play, pause"],
  [["←", "→"], "5 seconds back, on"],
  [[",", "."], "a frame back, on"],
  [["p", "n"], "previous, next moment of the video"],
  [["<", ">"], "slower, faster"],
  [["m"], "sound off, on"],
  [["f"], "full screen"],
  [["c"], "copy the link"],
  [["l"], "more like what is shown"],
  [["Esc"], "close the player"],
  [["?"], "these keys"],
];

/** What takes letters itself: they write in it, or choose from it. */
const TAKES_LETTERS = "textarea, select, [contenteditable], input:not([type=checkbox], [type=radio], [type=range])";

let isOn = kept("shortcuts") !== "off";

export const areShortcutsOn = () => isOn;

export function turnShortcuts(on) {
  isOn = on;
  keep("shortcuts", on ? "on" : "off");
}

export function wireKeyboard(page) {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (document.querySelector("dialog[open]")) return;
    const at = event.target;
    if (event.key === "Escape") return escape(page, at);
    if (!isOn || at.closest(TAKES_LETTERS)) return;
    const action = (page.state.view === "search" && actionOf(page, event, at)) || (event.key === "?" && openHelp);
    if (!action) return;
    event.preventDefault();
    action();
  });
}

function actionOf(page, event, at) {
  const common = {
    "/": () => page.box.focus(),
    j: () => page.search.step(1),
    k: () => page.search.step(-1),
  };
  if (common[event.key]) return common[event.key];
  const player = page.player;
  if (!player.isOpen) return null;
  if (at.closest("[role=slider], [type=radio], [type=range]") && event.key.startsWith("Arrow")) return null;
  if (event.key === " ") return at.closest("button, a[href], summary, [type=checkbox], [type=radio]") ? null : () => player.toggle();
  return {
    ArrowLeft: () => player.step(-5),
    ArrowRight: () => player.step(5),
    ",": () => player.frame(-1),
    ".": () => player.frame(1),
    p: () => player.toMoment(-1),
    n: () => player.toMoment(1),
    "<": () => player.faster(-1),
    ">": () => player.faster(1),
    m: () => player.mute(),
    f: () => player.full(),
    c: () => player.copyLink(),
    l: () => player.like(),
  }[event.key];
}

/** Closes what is open, from the inside out. */
function escape(page, at) {
  const menu = at.closest("details.menu[open]");
  if (menu) {
    menu.open = false;
    menu.querySelector("summary").focus();
  } else if (at === byId("query")) at.blur();
  else if (page.filters.isOpen && at.closest("#filters")) page.filters.close();
  else if (page.player.isOpen && !document.fullscreenElement) page.close();
}
