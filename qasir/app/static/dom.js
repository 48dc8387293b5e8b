// Makes elements. Text becomes text nodes and values become properties or attributes: nothing is ever parsed as markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element. `text` is its text, `on` its listeners by event, `data` its data attributes, a property otherwise an
 * attribute (true: an empty one; false, null and undefined: none). Children that are null are left out. */
export function element(name, { text, on, data, ...attributes } = {}, ...children) {
  const made = document.createElement(name);
  setAttributes(made, attributes);
  for (const [key, value] of Object.entries(data ?? {})) made.dataset[key] = value;
  for (const [event, listener] of Object.entries(on ?? {})) made.addEventListener(event, listener);
  if (text !== undefined && text !== null) made.append(String(text));
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

/** The same for SVG. */
export function vector(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  setAttributes(made, attributes);
  made.append(...children);
  return made;
}

export const byId = (id) => document.getElementById(id);

/** Set the text of an element only when it differs, so that a screen reader says nothing twice. */
export function say(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

/** Set CSS variables of an element; unlike a style attribute this is allowed by the page's policy. */
export function vary(target, variables) {
  for (const [name, value] of Object.entries(variables)) target.style.setProperty(`--${name}`, String(value));
}

function setAttributes(made, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    made.setAttribute(name, value === true ? "" : String(value));
  }
}
