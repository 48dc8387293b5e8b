// Runs before the page is drawn: the look that was chosen here last, else the system's.
"use strict";
try {
  const chosen = localStorage.getItem("qasir.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // Storage may be forbidden; then the system's look it is.
}
