// What this browser remembers of how the page is used. Storage may be forbidden; then nothing is remembered.

export function keep(name, value) {
  try {
    localStorage.setItem(`qasir.${name}`, value);
  } catch {
    // As said above.
  }
}

export function kept(name) {
  try {
    return localStorage.getItem(`qasir.${name}`);
  } catch {
    return null;
  }
}
