// The page's icons: strokes on a grid of 24.

import { vector } from "./dom.js";

const PATHS = {
  back: "M11 6l-6 6 6 6M19 6l-6 6 6 6",
  clock: "M12 7v5l3 2M21 12a9 9 0 11-18 0 9 9 0 0118 0z",
  close: "M6 6l12 12M18 6L6 18",
  dark: "M20 14.5A8 8 0 019.5 4a8 8 0 1010.5 10.5z",
  download: "M12 4v11M7.5 11L12 15.5 16.5 11M5 20h14",
  filter: "M4 6h16M7 12h10M10 18h4",
  forward: "M5 6l6 6-6 6M13 6l6 6-6 6",
  full: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
  gone: "M4 4l16 16M9.5 5H19a1 1 0 011 1v9.5M4 8v10a1 1 0 001 1h10",
  help: "M9.2 9.2a2.9 2.9 0 115 2c-1 1-2.2 1.5-2.2 3M12 17.6v.1",
  light: "M12 3v2M12 19v2M3 12h2M19 12h2M5.6 5.6L7 7M17 17l1.4 1.4M5.6 18.4L7 17M17 7l1.4-1.4M16 12a4 4 0 11-8 0 4 4 0 018 0z",
  like: "M4 10c2.7-3 5.3-3 8 0s5.3 3 8 0M4 16c2.7-3 5.3-3 8 0s5.3 3 8 0",
  link: "M10 14a4 4 0 005.7 0l3-3a4 4 0 00-5.7-5.7l-1 1M14 10a4 4 0 00-5.7 0l-3 3a4 4 0 005.7 5.7l1-1",
  muted: "M4 9.5v5h3.5L12 18.5v-13L7.5 9.5zM16 9.5l5 5M21 9.5l-5 5",
  next: "M6 5.5v13l9-6.5zM18 5.5v13",
  pause: "M8.5 5.5v13M15.5 5.5v13",
  picture: "M4 5h16v14H4zM4 16l4.5-4.5 4 4 2.5-2.5 5 5M15.5 9.5a1 1 0 11-2 0 1 1 0 012 0z",
  play: "M8 5l11 7-11 7z",
  previous: "M18 5.5v13l-9-6.5zM6 5.5v13",
  search: "M20 20l-4.5-4.5M17.5 10.5a7 7 0 11-14 0 7 7 0 0114 0z",
  sound: "M4 9.5v5h3.5L12 18.5v-13L7.5 9.5zM15.5 9a4 4 0 010 6M18 6.5a8 8 0 010 11",
};

/** An icon for the eye only; what holds it says its name. */
export function icon(name) {
  const drawing = vector("path", { d: PATHS[name] });
  return vector("svg", { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" }, drawing);
}

/** Put icons where the markup asks for them. */
export function placeIcons(root = document) {
  for (const place of root.querySelectorAll("[data-icon]")) setIcon(place, place.dataset.icon);
}

/** Give an element this icon in place of the one it has. */
export function setIcon(place, name) {
  if (place.querySelector(":scope > .icon")?.dataset.name === name) return;
  place.querySelector(":scope > .icon")?.remove();
  const made = icon(name);
  made.dataset.name = name;
  place.prepend(made);
}
