// What is looked for: a text, a picture, a place in a video. The last two stand as chips beside the text.

import { place } from "./address.js";
import { byId, element } from "./dom.js";
import { clock } from "./format.js";
import { icon } from "./icons.js";

const PAUSE_MS = 220;

export class QueryBox {
  constructor(page) {
    this.page = page;
    this.input = byId("query");
    this.pictures = new Map();
    this.isTyping = false;
    this.input.addEventListener("input", () => this.typed());
    this.input.addEventListener("blur", () => this.settled());
    this.input.addEventListener("keydown", (event) => this.pressed(event));
    byId("ask").addEventListener("submit", (event) => {
      event.preventDefault();
      this.settled();
    });
    this.wirePictures();
  }

  /** The picture that is looked for; undefined for none, or for one that this page has not seen. */
  picture(state) {
    return this.pictures.get(state.picture)?.file;
  }

  focus() {
    this.input.focus();
    this.input.select();
  }

  show(state) {
    if (this.input.value.trim() !== state.q.trim()) this.input.value = state.q;
    const chips = [this.likeChip(state), this.pictureChip(state)].filter(Boolean);
    const key = `${state.like}\n${state.picture}\n${state.index}`;
    if (key === this.shownChips) return;
    this.shownChips = key;
    byId("parts").replaceChildren(...chips);
    byId("parts").hidden = !chips.length;
    this.input.placeholder = chips.length ? "and what else?" : "What does the moment show?";
  }

  typed() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.ask(), PAUSE_MS);
  }

  /** Ask now; typing on changes the entry in the history that it began with. */
  ask() {
    clearTimeout(this.timer);
    const q = this.input.value;
    if (q.trim() === this.page.state.q.trim()) return;
    this.page.go({ q: q.trim(), cut: null, video: "", t: null }, { replace: this.isTyping });
    this.isTyping = true;
  }

  settled() {
    this.ask();
    this.isTyping = false;
  }

  pressed(event) {
    if (event.key === "Backspace" && !this.input.value && (this.page.state.like || this.page.state.picture)) {
      this.page.go({ cut: null, ...(this.page.state.picture ? { picture: "" } : { like: "" }) });
    } else if (event.key === "/" && !this.input.value) {
      event.preventDefault(); // who presses it to come here is here already
    } else if (event.key === "ArrowDown") {
      event.preventDefault();
      this.settled();
      this.page.search.step(1);
    }
  }

  likeChip(state) {
    if (!state.like) return null;
    const { video, seconds } = place(state.like);
    const title = video.split("/").pop();
    const at = new URLSearchParams({ at: seconds, height: 72, ...(state.index ? { index: state.index } : {}) });
    const image = element("img", { src: `frames/${encodeURIComponent(video)}?${at}`, alt: "" });
    image.addEventListener("error", () => image.replaceWith(icon("like")));
    const words = [element("span", { class: "chip-name", text: title }), element("span", { class: "quiet", text: clock(seconds) })];
    return this.chip(image, words, `Do not look for what is like ${title} at ${clock(seconds)}`, { like: "" });
  }

  pictureChip(state) {
    if (!state.picture) return null;
    const known = this.pictures.get(state.picture);
    const name = known?.file.name || "picture";
    const image = known ? element("img", { src: known.url, alt: "" }) : icon("picture");
    const words = [element("span", { class: "chip-name", text: known ? name : "a picture that is not in the link" })];
    return this.chip(image, words, "Do not look for what is like the picture", { picture: "" });
  }

  chip(image, words, without, changes) {
    const remove = element("button", { type: "button", class: "chip-remove", "aria-label": without, title: "Remove" }, icon("close"));
    remove.addEventListener("click", () => {
      this.page.go({ cut: null, ...changes });
      this.focus();
    });
    return element("li", { class: "chip" }, image, ...words, remove);
  }

  wirePictures() {
    const file = byId("picture-file");
    byId("picture-choose").addEventListener("click", () => file.click());
    file.addEventListener("change", () => {
      if (file.files.length) this.lookFor(file.files[0]);
      file.value = "";
    });
    document.addEventListener("paste", (event) => {
      const pasted = [...(event.clipboardData?.files ?? [])].find(isPicture);
      if (!pasted || document.querySelector("dialog[open]")) return;
      event.preventDefault();
      this.lookFor(pasted);
    });
    const drop = byId("drop");
    const brings = (event) => event.dataTransfer?.types.includes("Files");
    document.addEventListener("dragenter", (event) => {
      if (brings(event)) drop.hidden = false;
    });
    document.addEventListener("dragover", (event) => brings(event) && event.preventDefault());
    document.addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) drop.hidden = true;
    });
    document.addEventListener("drop", (event) => {
      drop.hidden = true;
      if (!brings(event)) return;
      event.preventDefault();
      if (event.dataTransfer.files.length) this.lookFor(event.dataTransfer.files[0]);
    });
  }

  /** Look for what is like a picture, whatever it is: what is none, the server says. */
  lookFor(file) {
    const id = `${Date.now().toString(36)}${this.pictures.size}`;
    this.pictures.set(id, { file, url: URL.createObjectURL(file) });
    this.page.go({ view: "search", picture: id, like: "", cut: null, video: "", t: null });
  }
}

const isPicture = (file) => file.type.startsWith("image/");
