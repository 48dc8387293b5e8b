// Light or dark: the system's, until one of them is chosen here.

import { byId, say } from "./dom.js";
import { setIcon } from "./icons.js";
import { keep } from "./kept.js";

export function wireTheme() {
  const button = byId("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const show = () => {
    setIcon(button, isDark() ? "light" : "dark");
    say(button.querySelector(".unseen"), isDark() ? "Light" : "Dark");
    button.title = isDark() ? "Light" : "Dark";
  };
  button.addEventListener("click", () => {
    const chosen = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = chosen;
    keep("theme", chosen);
    show();
  });
  system.addEventListener("change", show);
  show();
}
