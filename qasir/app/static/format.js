// Numbers as people read them.

/** 0:07, 12:03, 1:02:03; with tenths where they are asked for. */
export function clock(seconds, tenths = false) {
  const whole = Math.max(0, tenths ? Math.round(seconds * 10) / 10 : Math.floor(seconds + 1e-6));
  const h = Math.floor(whole / 3600);
  const m = Math.floor((whole % 3600) / 60);
  const s = whole % 60;
  const end = tenths ? s.toFixed(1).padStart(4, "0") : String(Math.floor(s)).padStart(2, "0");
  return h ? `${h}:${String(m).padStart(2, "0")}:${end}` : `${m}:${end}`;
}

/** 00:12:03.480, as editors take it. */
export function timeCode(seconds) {
  const thousandths = Math.max(0, Math.round(seconds * 1000));
  const parts = [Math.floor(thousandths / 3600000), Math.floor(thousandths / 60000) % 60, Math.floor(thousandths / 1000) % 60];
  return `${parts.map((part) => String(part).padStart(2, "0")).join(":")}.${String(thousandths % 1000).padStart(3, "0")}`;
}

/** Both ends of a moment; tenths where whole seconds would show nothing. */
export function span(start, end) {
  const tenths = end - start < 2;
  return `${clock(start, tenths)}–${clock(end, tenths)}`;
}

/** "3 min", "1 h 20 min": how long something is, roughly. */
export function length(seconds) {
  if (!(seconds >= 0)) return "";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h${minutes % 60 ? ` ${minutes % 60} min` : ""}`;
}

/** A day; null where there is none. */
export function day(iso) {
  const date = iso ? new Date(iso) : null;
  if (!date || Number.isNaN(date.getTime())) return null;
  return date.toLocaleDateString(undefined, { day: "numeric", month: "short", year: "numeric" });
}

/** A day and a time of day. */
export function moment(iso) {
  const date = iso ? new Date(iso) : null;
  if (!date || Number.isNaN(date.getTime())) return "";
  return date.toLocaleString(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
}

export const score = (value) => value.toFixed(3).replace("-", "−");

export const count = (value) => Number(value).toLocaleString();

/** "1 video", "40 videos". */
export const many = (value, one, several = `${one}s`) => `${count(value)} ${value === 1 ? one : several}`;

/** What the server says of itself in passing, as a sentence. */
export const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;
