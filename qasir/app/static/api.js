// Asks the server. Errors carry the server's own words; a token is asked for where it wants one.

/** What the server refused, in its words. status 0: it did not answer at all. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Says "lost" when the server stops answering and "found" when it answers again. */
export const connection = new EventTarget();
let isLost = false;
let askForToken = null;

/** What to do for a token: a function that resolves once the server has taken one. */
export function onToken(ask) {
  askForToken = ask;
}

/** The JSON that the server answers with. parameters: a URLSearchParams; body: a picture, which makes it a POST. */
export async function ask(path, parameters = new URLSearchParams(), { signal, body } = {}) {
  const text = parameters.toString();
  const response = await request(text ? `${path}?${text}` : path, { signal, ...(body ? sent(body) : {}) });
  return response.json();
}

/** The file that the server makes for a picture, and its name. */
export async function fileOf(address, picture) {
  const response = await request(address, sent(picture));
  const said = response.headers.get("Content-Disposition") ?? "";
  const name = /filename\*=UTF-8''([^;]+)/.exec(said)?.[1] ?? /filename="([^"]+)"/.exec(said)?.[1] ?? "hits";
  return { blob: await response.blob(), name: decodeURIComponent(name) };
}

/** A response that went well; raises Refused otherwise. */
export async function request(url, options = {}) {
  let response;
  try {
    response = await fetch(url, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    lost(true);
    throw new Refused(0, "The server does not answer.");
  }
  lost(false);
  if (response.status === 401 && askForToken) {
    await askForToken();
    return request(url, options);
  }
  if (!response.ok) throw new Refused(response.status, await reason(response));
  return response;
}

/** Give the server its token; raises Refused for a wrong one. */
export async function giveToken(token) {
  const headers = { "Content-Type": "application/json" };
  const response = await fetch("api/session", { method: "POST", headers, body: JSON.stringify({ token }) });
  if (!response.ok) throw new Refused(response.status, await reason(response));
}

function sent(picture) {
  return { method: "POST", body: picture, headers: { "Content-Type": picture.type || "application/octet-stream" } };
}

async function reason(response) {
  try {
    const { error } = await response.json();
    if (error) return String(error);
  } catch {
    // Not the API's own answer; then the status has to do.
  }
  return `The server answered ${response.status} ${response.statusText}`.trim();
}

function lost(now) {
  if (now === isLost) return;
  isLost = now;
  connection.dispatchEvent(new Event(now ? "lost" : "found"));
}
