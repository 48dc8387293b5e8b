// A hit: the frames of its moment, lit by how well they fit, and what it is; the whole of it opens the player.

import { seconds, write } from "./address.js";
import { element, vary } from "./dom.js";
import { clock, day, score, span } from "./format.js";
import { icon } from "./icons.js";

const PREVIEW_MS = 420;
const SHARP_LINES = 360;
const still = matchMedia("(prefers-reduced-motion: reduce)");

/** The card of a hit. question: the state it was found by, which its links keep; number: its place in the
 * answer, from 1. */
export function hitCard(hit, { page, question, number }) {
  const address = (t) => write({ ...question, cut: page.state.cut, video: hit.video_id, t: seconds(t) });
  const picture = pictureOf(hit);
  const link = element("a", { class: "open", href: address(hit.start_s), "aria-label": spoken(hit) }, picture, badges(hit));
  const about = element("div", { class: "about" }, element("h3", { class: "title", title: hit.uri, text: hit.title || hit.video_id }), meta(hit), moreLike(hit, page));
  const card = element("li", { class: hit.above_cutoff ? "hit" : "hit under", data: { number, video: hit.video_id, start: hit.start_s, end: hit.end_s } }, link, strip(hit, address, picture), about);
  card.addEventListener("click", (event) => {
    // Links go their own way; the rest of the card does what its picture does.
    if (event.target.closest("a, button") || String(getSelection())) return;
    link.click();
  });
  preview(card, hit, picture);
  return card;
}

/** Of cards, the one whose moment a state plays, or of its video the one that is nearest in time; null for none. */
export function playing(cards, { video, t }) {
  const away = ({ dataset: { start, end } }) => Math.max(0, start - (t ?? 0), (t ?? 0) - end);
  const own = cards.filter((card) => card.dataset.video === video);
  return own.length ? own.reduce((a, b) => (away(b) < away(a) ? b : a)) : null;
}

/** The stored cell, and over it, once it is there, the sharp frame. */
function pictureOf(hit) {
  const box = element("span", { class: "picture" });
  if (hit.width && hit.height) vary(box, { ratio: `${hit.width} / ${hit.height}` });
  if (hit.placeholder) {
    // What the frame leaves free of the card is filled with its own colours.
    if (!(Math.abs(hit.width / hit.height - 16 / 9) < 0.03)) box.append(image(hit.placeholder, "backdrop"));
    box.append(image(hit.placeholder, "stored"));
  }
  if (hit.thumbnail) {
    const sharp = image(withLines(hit.thumbnail, SHARP_LINES), "sharp");
    sharp.addEventListener("load", () => sharp.classList.add("there"));
    box.append(sharp);
  }
  // Over what is still shown, a line; in place of what is not, all of it.
  if (hit.problem) box.append(element("span", { class: hit.media ? "problem noted" : "problem" }, hit.media ? null : icon("gone"), hit.problem));
  return box;
}

function badges(hit) {
  const where = element("span", { class: "where", "aria-hidden": "true" });
  if (hit.duration_s > 0) {
    const share = (value) => `${(100 * Math.min(1, Math.max(0, value / hit.duration_s))).toFixed(2)}%`;
    vary(where, { from: share(hit.start_s), width: share(hit.end_s - hit.start_s) });
  }
  return [element("span", { class: "badge time", text: span(hit.start_s, hit.end_s) }), element("span", { class: "badge score", title: "How well it fits, as a cosine", text: score(hit.score) }), where];
}

function meta(hit) {
  const folder = hit.video_id.includes("/") ? hit.video_id.slice(0, hit.video_id.lastIndexOf("/")) : null;
  const date = day(hit.date);
  const how = hit.date_kind === "recorded" ? "Recorded" : "File changed";
  const parts = [date && element("time", { datetime: hit.date, title: `${how} on ${date}`, text: date }), element("span", { title: "The whole video's length", text: `${clock(hit.duration_s)} long` }), folder && element("span", { class: "folder", title: folder, text: folder }), typeof hit.video_score === "number" && element("span", { title: "How well the whole video fits", text: `video ${score(hit.video_score)}` })];
  return element("p", { class: "meta" }, parts);
}

function moreLike(hit, page) {
  const name = `More like ${hit.title} at ${clock(hit.at_s)}`;
  const button = element("button", { type: "button", class: "quiet-button icon-only more-like", title: "More like this" }, icon("like"), element("span", { class: "unseen", text: name }));
  button.addEventListener("click", () => page.like(hit.video_id, hit.at_s));
  return button;
}

/** The moment's frames in order; each is as bright as it fits, and opens the player there. */
function strip(hit, address, picture) {
  const frames = hit.frames ?? [];
  if (!frames.length) return element("div", { class: "strip", "aria-hidden": "true" });
  const best = frames.reduce((a, b) => (b.fit > a.fit ? b : a));
  const cells = frames.map((frame) => {
    const cell = element("a", { class: frame === best ? "cell best" : "cell", href: address(frame.at_s), tabindex: -1, title: `${clock(frame.at_s, true)}, fit ${score(frame.score)}` });
    vary(cell, { fit: Math.min(1, Math.max(0, frame.fit)).toFixed(3) });
    const source = frame.placeholder ?? frame.thumbnail;
    if (source) cell.append(image(source, "stored"));
    cell.addEventListener("pointerenter", () => showFrame(picture, frame));
    return cell;
  });
  // The same places are reached through the card's link and the player's time line.
  return element("div", { class: "strip", "aria-hidden": "true" }, cells);
}

/** While the pointer rests on a card, its picture goes through the moment. */
function preview(card, hit, picture) {
  const frames = hit.frames ?? [];
  let timer = null;
  let at = 0;
  card.addEventListener("pointerenter", (event) => {
    if (event.pointerType !== "mouse" || still.matches || frames.length < 2 || (hit.problem && !hit.media)) return;
    at = Math.max(0, frames.findIndex((frame) => frame.at_s > hit.at_s));
    timer = setInterval(() => {
      if (card.querySelector(".cell:hover")) return;
      showFrame(picture, frames[at]);
      lightCell(card, at);
      at = (at + 1) % frames.length;
    }, PREVIEW_MS);
  });
  card.addEventListener("pointerleave", () => {
    clearInterval(timer);
    lightCell(card, -1);
    picture.querySelector(".moving")?.remove();
  });
}

function lightCell(card, number) {
  card.querySelectorAll(".cell").forEach((cell, i) => cell.classList.toggle("shown", i === number));
}

/** Show a frame over the card's picture, once it is loaded; what comes later than the next one is dropped. */
function showFrame(picture, frame) {
  const source = frame.thumbnail ?? frame.placeholder;
  if (!source) return;
  const next = image(source, frame.thumbnail ? "sharp moving" : "stored moving", "eager");
  picture.wanted = next;
  next.addEventListener("load", () => {
    if (picture.wanted !== next || !picture.closest(".hit:hover")) return;
    picture.querySelector(".moving")?.remove();
    next.classList.add("there");
    picture.append(next);
  });
}

function image(source, kind, loading = "lazy") {
  const made = element("img", { class: kind, alt: "", loading, decoding: "async", draggable: "false" });
  made.addEventListener("error", () => made.remove());
  made.src = source;
  return made;
}

/** The same frame with so many lines. */
export function withLines(source, lines) {
  return source.startsWith("frames/") ? `${source}&height=${lines}` : source;
}

function spoken(hit) {
  const problem = hit.problem ? `, ${hit.problem}` : "";
  return `${hit.title}, ${clock(hit.start_s)} to ${clock(hit.end_s)}, fit ${score(hit.score)}${problem}`;
}
