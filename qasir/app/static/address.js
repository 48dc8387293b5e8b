// The state of the page is its address: what is asked, how it is shown, and what plays.

/** Every part of the state by its name in the address, with the value that is left out of it. */
const DEFAULTS = {
  view: "search",
  index: 0,
  q: "",
  like: "",
  picture: "",
  by: "video",
  sort: "fit",
  top_k: 20,
  per_video: 3,
  min_duration_s: null,
  max_duration_s: null,
  from: "",
  to: "",
  folder: "",
  codec: [],
  where: "",
  exact: false,
  aggregation: "",
  numbers: {},
  cut: null,
  video: "",
  t: null,
};
const NUMBERS = new Set(["index", "top_k", "per_video", "min_duration_s", "max_duration_s", "cut", "t"]);
const CHOICES = { view: ["search", "index"], by: ["video", "moment"], sort: ["fit", "date", "video"] };
const NUMBER_PREFIX = "n.";

export const FILTERS = ["min_duration_s", "max_duration_s", "from", "to", "folder", "codec", "where"];
/** What is sent with a search, beside the picture and the methods' numbers. */
const SENT = ["q", "like", "by", "sort", "top_k", ...FILTERS, "exact", "aggregation", "index"];

/** The state that an address's query string says; what it says wrongly is as if it were not there. */
export function read(search) {
  const given = new URLSearchParams(search);
  const state = { ...DEFAULTS, codec: given.getAll("codec"), numbers: {} };
  for (const name of Object.keys(DEFAULTS)) {
    const value = given.get(name);
    if (value === null || name === "codec" || name === "numbers") continue;
    if (NUMBERS.has(name)) {
      const number = Number(value);
      if (value !== "" && Number.isFinite(number)) state[name] = number;
    } else if (name === "exact") state.exact = value === "true";
    else if (!(name in CHOICES) || CHOICES[name].includes(value)) state[name] = value;
  }
  for (const [name, value] of given) {
    if (name.startsWith(NUMBER_PREFIX)) state.numbers[name.slice(NUMBER_PREFIX.length)] = value;
  }
  return state;
}

/** The address of a state, relative to the page. */
export function write(state) {
  const said = new URLSearchParams();
  for (const [name, usual] of Object.entries(DEFAULTS)) {
    if (name === "codec") for (const codec of state.codec) said.append("codec", codec);
    else if (name === "numbers") for (const [key, value] of Object.entries(state.numbers)) said.set(NUMBER_PREFIX + key, value);
    else if (state[name] !== usual && state[name] !== null && state[name] !== "") said.set(name, String(state[name]));
  }
  const text = said.toString();
  return text ? `?${text}` : "./";
}

/** The parameters of a search as the server takes them; `only` names those that are wanted. */
export function asked(state, only = SENT) {
  const said = new URLSearchParams();
  for (const name of only) {
    if (name === "codec") for (const codec of state.codec) said.append("codec", codec);
    else if (state[name] !== "" && state[name] !== null && state[name] !== false) said.set(name, String(state[name]));
  }
  if (only.includes("by") && state.by === "moment") said.set("per_video", String(state.per_video));
  if (only.includes("aggregation")) for (const [name, value] of Object.entries(state.numbers)) said.set(name, value);
  return said;
}

export const isAsking = (state) => Boolean(state.q.trim() || state.like || state.picture);

/** Seconds for an address: rounded up to thousandths, so that a moment's start stays inside the moment. */
export const seconds = (value) => Math.ceil(value * 1000 - 1e-6) / 1000;

/** Of VIDEO@SECONDS, its two parts. */
export function place(like) {
  const at = like.lastIndexOf("@");
  return { video: like.slice(0, at), seconds: Number(like.slice(at + 1)) };
}
