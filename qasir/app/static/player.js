// The player: the video, its time line with this query's moments, and what one does with the second that is shown.

import { asked, seconds, write } from "./address.js";
import { ask } from "./api.js";
import { copy } from "./clipboard.js";
import { byId, element, say } from "./dom.js";
import { clock, count, day, score, span, timeCode } from "./format.js";
import { withLines } from "./hit.js";
import { placeIcons, setIcon } from "./icons.js";
import { keep, kept } from "./kept.js";
import { Playback, clipAddress } from "./playback.js";
import { Timeline } from "./timeline.js";
import { toast } from "./toast.js";

const RATES = [0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 3, 4];
const POSTER_LINES = 720;
const TIP_LINES = 90;
const LOOSE_CLIP_S = 10;
const REMEMBER_MS = 1000;
const QUESTION = ["q", "like", "aggregation", "exact", "index"];

export class Player {
  constructor(page) {
    this.page = page;
    this.root = byId("watch");
    this.id = null;
    this.moments = [];
    this.build();
    this.playback = new Playback(this.video);
    this.wire();
  }

  get isOpen() {
    return !this.root.hidden;
  }

  /** Show what the state says: a video at a second, or nothing. */
  show(state, play) {
    if (!state.video) {
      this.shut();
      return;
    }
    const at = state.t ?? 0;
    const question = `${asked(state, QUESTION)}\n${state.picture}`;
    const isOther = state.video !== this.id || state.index !== this.index;
    if (isOther || !this.isOpen) this.open(state, at, play);
    else if (Math.abs(at - this.said) > 0.0005) {
      this.said = at;
      this.playback.seek(at);
      if (play) this.playback.play();
    }
    if (isOther || question !== this.question) {
      this.question = question;
      this.draw(state, play);
    }
  }

  open(state, at, play) {
    const wasOpen = this.isOpen;
    this.id = state.video;
    this.index = state.index;
    this.said = at;
    this.question = null;
    this.facts = null;
    this.moments = [];
    this.root.hidden = false;
    this.timeline.clear(0);
    this.listMoments();
    this.message(null);
    this.playback.clear();
    this.video.removeAttribute("poster");
    const hit = this.page.search.hitAt(state.video, at);
    this.name(hit ?? { title: state.video.split("/").pop() });
    if (hit) this.begin(hit, at, play);
    if (play) {
      this.root.focus({ preventScroll: true });
      const { top, bottom } = this.stage.getBoundingClientRect();
      if (top < 0 || bottom > innerHeight) this.root.scrollIntoView({ block: wasOpen ? "start" : "nearest" });
    }
  }

  /** Start with what a hit, or the answer for this video, says of the file. */
  begin(facts, at, play) {
    this.facts = facts;
    this.name(facts);
    this.timeline.clear(facts.duration_s);
    const within = Math.min(at, Math.max(0, (facts.duration_s ?? Infinity) - 0.05));
    this.showStill(within);
    const { media, media_offset_s: offset, duration_s: duration, problem } = facts;
    this.playback.setRate(this.rate);
    this.playback.open({ id: this.id, index: this.index, media, offset: offset ?? 0, duration, problem }, within, play);
  }

  /** The frame of a second, which is seen until the video itself is there. */
  showStill(at) {
    const address = this.frameAt(at, POSTER_LINES, this.facts.thumbnail ?? this.facts.placeholder);
    if (address && this.video.poster !== address) this.video.poster = address;
  }

  /** Ask where this query's moments are, and draw the time line. */
  async draw(state, play) {
    this.aborter?.abort();
    const aborter = (this.aborter = new AbortController());
    const parameters = asked(state, QUESTION);
    parameters.set("video_id", state.video);
    try {
      const found = await ask("api/moments", parameters, { signal: aborter.signal, body: this.page.box.picture(state) });
      if (!this.facts) this.begin(found, this.said, play);
      this.facts = { ...this.facts, ...found };
      if (found.duration_s && found.duration_s !== this.timeline.duration) this.timeline.clear(found.duration_s);
      this.moments = [...found.moments].sort((a, b) => a.start_s - b.start_s);
      this.best = found.moments[0];
      this.timeline.show(found);
      this.listMoments();
      say(this.legend, legendOf(found));
      this.moved();
    } catch (error) {
      if (error.name === "AbortError") return;
      if (this.facts) say(this.legend, error.message);
      else this.message(error.message);
    }
  }

  shut() {
    if (!this.isOpen) return;
    const hadFocus = this.root.contains(document.activeElement);
    this.aborter?.abort();
    this.playback.clear();
    this.root.hidden = true;
    const card = [...document.querySelectorAll(".hit")].find((one) => one.dataset.video === this.id);
    if (hadFocus) (card?.querySelector("a.open") ?? byId("query")).focus({ preventScroll: true });
    card?.scrollIntoView({ block: "nearest" });
    this.id = null;
  }

  // What is done with it.

  toggle() {
    if (this.video.paused) this.playback.play();
    else this.playback.pause();
  }

  step(by) {
    this.playback.seek(this.playback.position + by);
  }

  /** A frame on or back, which pauses. */
  frame(by) {
    this.playback.pause();
    this.step(by / (this.facts?.fps || 25));
  }

  /** The moment after, or before, the one that plays. */
  toMoment(by) {
    const now = this.playback.position;
    const later = this.moments.filter((moment) => moment.start_s > now + 0.05);
    const earlier = this.moments.filter((moment) => moment.start_s < now - 1);
    const next = by > 0 ? later[0] : earlier.at(-1);
    if (next) this.playback.seek(next.start_s);
    else toast(by > 0 ? "This was the last moment of this video" : "This was the first moment of this video");
  }

  get rate() {
    return Number(this.rates.value);
  }

  faster(by) {
    const at = Math.min(RATES.length - 1, Math.max(0, RATES.indexOf(this.rate) + by));
    this.rates.value = String(RATES[at]);
    this.useRate();
    toast(`${RATES[at]} times the speed`);
  }

  useRate() {
    this.playback.setRate(this.rate);
    keep("rate", this.rates.value);
  }

  mute() {
    this.video.muted = !this.video.muted;
  }

  full() {
    if (document.fullscreenElement) document.exitFullscreen();
    else this.stage.requestFullscreen?.().catch(() => toast("Full screen is not allowed here"));
  }

  like() {
    this.playback.pause();
    this.page.like(this.id, this.playback.position);
  }

  copyLink() {
    const address = write({ ...this.page.state, t: seconds(this.playback.position) });
    copy(new URL(address, location.href).href, "Link copied");
    if (this.page.state.picture) toast("Link copied; the picture is not in it");
  }

  copyTimeCode() {
    copy(timeCode(this.playback.position), `${timeCode(this.playback.position)} copied`);
  }

  /** The moment that plays; some seconds from here where none does. */
  clipSpan() {
    const at = this.playback.position;
    const inside = this.moments.find((moment) => moment.start_s - 0.05 <= at && at < moment.end_s);
    if (inside) return [inside.start_s, inside.end_s];
    const end = Math.min(this.timeline.duration, at + LOOSE_CLIP_S);
    return [Math.max(0, Math.min(at, end - 1)), end];
  }

  // What is seen.

  name(facts) {
    say(this.title, facts.title ?? "");
    this.title.title = facts.uri ?? "";
    const said = [facts.duration_s && clock(facts.duration_s), day(facts.date), facts.width && facts.height && `${facts.width} × ${facts.height}`, facts.codec].filter(Boolean);
    say(this.meta, said.join(" · "));
  }

  /** Say something over the picture; null: nothing. */
  message(text, isWaiting = false) {
    this.over.hidden = text === null && !isWaiting;
    this.over.classList.toggle("waits", isWaiting);
    say(this.over.lastChild, text ?? "");
  }

  listMoments() {
    const items = this.moments.map((moment) => {
      const button = element("button", { type: "button", class: moment === this.best ? "moment best" : "moment" }, element("span", { text: span(moment.start_s, moment.end_s) }), element("span", { class: "quiet", text: score(moment.score) }));
      button.addEventListener("click", () => {
        this.playback.seek(moment.start_s);
        this.playback.play();
      });
      return element("li", {}, button);
    });
    this.list.replaceChildren(...items);
    this.list.hidden = !items.length;
    for (const button of [this.previous, this.next]) button.disabled = !items.length;
  }

  /** The time has moved. */
  moved() {
    if (!this.isOpen || !this.id) return;
    const at = this.playback.position;
    this.timeline.at(at);
    say(this.time, `${clock(at, true)} / ${clock(this.timeline.duration)}`);
    const inside = this.moments.findIndex((moment) => moment.start_s - 0.05 <= at && at < moment.end_s);
    [...this.list.children].forEach((item, i) => item.firstChild.toggleAttribute("data-now", i === inside));
    const [start, end] = this.clipSpan();
    this.download.href = clipAddress({ id: this.id, index: this.index }, start, end, true);
    say(this.download.querySelector(".quiet"), span(start, end));
  }

  /** Keep the second in the address, without an entry in the history. */
  remember() {
    clearTimeout(this.remembering);
    if (!this.isOpen || !this.id || this.page.state.video !== this.id || this.playback.mode === "none") return;
    this.rememberedAt = performance.now();
    this.said = seconds(this.playback.position);
    this.page.keepSecond(this.said);
  }

  /** The same, once a second at most. */
  rememberSoon() {
    clearTimeout(this.remembering);
    const wait = Math.max(0, (this.rememberedAt ?? -Infinity) + REMEMBER_MS - performance.now());
    this.remembering = setTimeout(() => this.remember(), wait);
  }

  showState() {
    const isPaused = this.video.paused;
    setIcon(this.playButton, isPaused ? "play" : "pause");
    say(this.playButton.querySelector(".unseen"), isPaused ? "Play" : "Pause");
    setIcon(this.soundButton, this.video.muted ? "muted" : "sound");
    say(this.soundButton.querySelector(".unseen"), this.video.muted ? "Sound on" : "Sound off");
  }

  /** The address of a frame of this video; `like` is one that the server gave, null where there is none. */
  frameAt(at, lines, like) {
    if (!like) return null;
    if (!like.startsWith("frames/")) return like;
    const [path, text] = like.split("?");
    const parameters = new URLSearchParams(text);
    parameters.set("at", at.toFixed(3));
    return withLines(`${path}?${parameters}`, lines);
  }

  build() {
    const button = (name, label, act, extra = "") => {
      const made = element("button", { type: "button", class: `quiet-button icon-only ${extra}`, title: label, data: { icon: name } }, element("span", { class: "unseen", text: label }));
      made.addEventListener("click", act);
      return made;
    };
    const action = (name, label, act) => {
      const made = element("button", { type: "button", class: "tool", data: { icon: name } }, label);
      made.addEventListener("click", act);
      return made;
    };
    this.title = element("h2", { class: "watch-title" });
    this.meta = element("p", { class: "meta" });
    const closing = button("close", "Close the player", () => this.page.close());
    this.video = element("video", { id: "player", playsinline: true, preload: "auto", "aria-label": "Video" });
    this.over = element("div", { class: "over", role: "status", hidden: true }, element("span", { class: "spinner", "aria-hidden": "true" }), element("p"));
    this.stage = element("div", { class: "stage" }, this.video, this.over);
    this.timeline = new Timeline({
      seek: (second, isPassing) => this.playback.seek(second, isPassing),
      frameAt: (second) => this.frameAt(second, TIP_LINES, this.facts?.placeholder && !this.facts.media ? null : (this.facts?.thumbnail ?? null)),
    });
    this.legend = element("p", { class: "hint legend" });
    this.previous = button("previous", "Previous moment (p)", () => this.toMoment(-1));
    this.next = button("next", "Next moment (n)", () => this.toMoment(1));
    this.playButton = button("play", "Play, pause (space)", () => this.toggle(), "large");
    this.soundButton = button("sound", "Sound (m)", () => this.mute());
    this.time = element("span", { class: "time", role: "timer", "aria-live": "off" });
    const rates = RATES.map((rate) => element("option", { value: rate, text: `${rate}×` }));
    this.rates = element("select", { "aria-label": "Speed", title: "Speed (< and >)" }, rates);
    this.rates.value = kept("rate") && RATES.includes(Number(kept("rate"))) ? kept("rate") : "1";
    const controls = element("div", { class: "controls" }, this.previous, button("back", "5 seconds back (←)", () => this.step(-5), "by-seconds"), this.playButton, button("forward", "5 seconds on (→)", () => this.step(5), "by-seconds"), this.next, this.time, element("span", { class: "gap" }), this.rates, this.soundButton, button("full", "Full screen (f)", () => this.full()));
    this.download = element("a", { class: "tool", download: true, data: { icon: "download" } }, "Clip", element("span", { class: "quiet" }));
    const actions = element("div", { class: "actions" }, action("like", "More like this", () => this.like()), action("link", "Copy link", () => this.copyLink()), action("clock", "Copy time code", () => this.copyTimeCode()), this.download);
    this.list = element("ol", { class: "moments", "aria-label": "Moments of this video" });
    this.root.append(element("header", { class: "watch-head" }, element("div", {}, this.title, this.meta), closing), this.stage, this.timeline.root, this.legend, controls, actions, this.list);
    placeIcons(this.root);
  }

  wire() {
    const { video, playback } = this;
    video.addEventListener("click", () => this.toggle());
    video.addEventListener("dblclick", () => this.full());
    for (const name of ["play", "pause", "volumechange"]) video.addEventListener(name, () => this.showState());
    video.addEventListener("play", () => this.follow());
    video.addEventListener("timeupdate", () => this.moved());
    video.addEventListener("pause", () => this.remember());
    video.addEventListener("waiting", () => this.message(null, true));
    video.addEventListener("playing", () => this.message(null));
    playback.addEventListener("loading", () => {
      const isClip = playback.mode === "clip";
      if (isClip) this.showStill(playback.position);
      this.message(isClip ? "This browser does not show the file itself; a clip is being made of it." : null, true);
    });
    playback.addEventListener("settled", () => this.rememberSoon());
    playback.addEventListener("busy", () => this.message("The server makes as many clips as it may; waiting for a place.", true));
    playback.addEventListener("shown", () => this.message(null));
    playback.addEventListener("failed", () => {
      this.message(playback.reason);
      this.showState();
    });
    playback.addEventListener("moved", () => {
      if (video.readyState >= 2) this.message(null);
      this.moved();
      this.showState();
    });
    this.rates.addEventListener("change", () => {
      this.useRate();
      this.root.focus({ preventScroll: true }); // so that the keys do again what they do in the player
    });
    this.root.addEventListener("keydown", (event) => {
      if (event.target === this.root && event.key === "Enter") this.toggle();
    });
  }

  /** The head moves with the pictures while they play. */
  follow() {
    cancelAnimationFrame(this.moving);
    const move = () => {
      if (this.video.paused || !this.isOpen) return;
      this.timeline.at(this.playback.position);
      this.moving = requestAnimationFrame(move);
    };
    move();
  }
}

function legendOf(found) {
  if (!found.units.some((unit) => typeof unit.score === "number")) return "";
  const unit = found.granularity === "cell" ? "frame" : "super image";
  return `Grey: how well each ${unit} fits. Orange: where the attention lies. Bars above: ${count(found.moments.length)} ${found.moments.length === 1 ? "moment" : "moments"} of this query.`;
}
