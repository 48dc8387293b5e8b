// The time line of a whole video: how well each part fits, where the attention lies, the moments, and where one is.

import { element, say, vary, vector } from "./dom.js";
import { clock, score, span } from "./format.js";

const WIDTH = 1000;
const HEIGHT = 100;
const STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];

export class Timeline {
  /** seek(second, isPassing): go there, or pass by there while it is dragged. frameAt(second): the address of a small frame there, or null. */
  constructor({ seek, frameAt }) {
    this.seek = seek;
    this.frameAt = frameAt;
    this.duration = 0;
    this.fit = vector("path", { class: "fit" });
    this.attention = vector("path", { class: "attention" });
    const chart = vector("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" }, this.fit, this.attention);
    this.bands = element("div", { class: "bands", "aria-hidden": "true" });
    this.head = element("div", { class: "head" });
    this.cursor = element("div", { class: "cursor", hidden: true });
    this.tip = element("div", { class: "tip", hidden: true }, element("img", { alt: "" }), element("span"));
    this.track = element("div", { class: "track", role: "slider", tabindex: 0, "aria-label": "Time", "aria-valuemin": 0 }, chart, this.bands, this.cursor, this.head);
    this.ticks = element("div", { class: "ticks", "aria-hidden": "true" });
    this.root = element("div", { class: "timeline" }, this.tip, this.track, this.ticks);
    this.wire();
  }

  /** Another video, of which nothing but its length is known yet. */
  clear(duration) {
    this.duration = duration || 0;
    this.units = [];
    this.fit.setAttribute("d", "");
    this.attention.setAttribute("d", "");
    this.bands.replaceChildren();
    this.track.setAttribute("aria-valuemax", this.duration.toFixed(1));
    this.drawTicks();
    this.at(0);
  }

  /** units: {start_s, end_s, score, attention}; moments: {start_s, end_s, score}, best first. */
  show({ units, moments }) {
    this.units = units;
    const scored = units.filter((unit) => typeof unit.score === "number");
    const scores = scored.map((unit) => unit.score);
    const least = Math.min(...scores);
    const spread = Math.max(1e-6, Math.max(...scores) - least);
    const most = Math.max(1e-9, ...scored.map((unit) => unit.attention ?? 0));
    this.fit.setAttribute("d", this.area(scored, (unit) => 0.06 + (0.8 * (unit.score - least)) / spread));
    // Attention falls off so fast that its square root is drawn; else only the peak would be seen.
    this.attention.setAttribute("d", this.area(scored, (unit) => 0.86 * Math.sqrt((unit.attention ?? 0) / most)));
    this.bands.replaceChildren(...moments.map((moment, rank) => this.band(moment, rank)));
  }

  /** Where one is. */
  at(position) {
    vary(this.head, { at: this.share(position) });
    this.track.setAttribute("aria-valuenow", position.toFixed(1));
    this.track.setAttribute("aria-valuetext", `${clock(position)} of ${clock(this.duration)}`);
  }

  share(value) {
    return this.duration > 0 ? Math.min(1, Math.max(0, value / this.duration)).toFixed(5) : 0;
  }

  band(moment, rank) {
    const band = element("span", { class: rank ? "band" : "band best", title: span(moment.start_s, moment.end_s) });
    vary(band, { from: this.share(moment.start_s), to: this.share(moment.end_s) });
    return band;
  }

  /** A stepped area under the units' heights (0 to 1): of those that share a pixel the highest, and gaps stay gaps. */
  area(units, height) {
    const columns = new Float64Array(WIDTH);
    for (const unit of units) {
      const first = Math.min(WIDTH - 1, Math.floor(WIDTH * this.share(unit.start_s)));
      const last = Math.max(first + 1, Math.round(WIDTH * this.share(unit.end_s)));
      for (let x = first; x < Math.min(last, WIDTH); x += 1) columns[x] = Math.max(columns[x], height(unit));
    }
    let path = `M0 ${HEIGHT}`;
    let before = null;
    columns.forEach((value, x) => {
      if (value === before) return;
      const y = (HEIGHT * (1 - value)).toFixed(1);
      path += `H${x}V${y}`;
      before = value;
    });
    return `${path}H${WIDTH}V${HEIGHT}Z`;
  }

  drawTicks() {
    const wide = this.root.clientWidth || 600;
    const step = STEPS_S.find((one) => (wide * one) / (this.duration || 1) > 64) ?? STEPS_S.at(-1);
    const marks = [];
    for (let t = 0; t < this.duration && marks.length < 100; t += step) {
      if (t > 0 && (this.duration - t) / (this.duration || 1) < 0.04) break;
      const mark = element("span", { text: clock(t) });
      vary(mark, { at: this.share(t) });
      marks.push(mark);
    }
    this.ticks.replaceChildren(...marks);
  }

  wire() {
    const { track } = this;
    const secondOf = (event) => {
      const { left, width } = track.getBoundingClientRect();
      return Math.min(1, Math.max(0, (event.clientX - left) / Math.max(1, width))) * this.duration;
    };
    let isHeld = false;
    track.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      isHeld = true;
      track.setPointerCapture(event.pointerId);
      this.seek(secondOf(event), true);
    });
    track.addEventListener("pointermove", (event) => {
      this.hover(secondOf(event));
      if (isHeld) this.seek(secondOf(event), true);
    });
    track.addEventListener("pointerup", (event) => {
      if (isHeld) this.seek(secondOf(event));
      isHeld = false;
    });
    track.addEventListener("pointercancel", () => (isHeld = false));
    track.addEventListener("pointerleave", () => this.hover(null));
    track.addEventListener("keydown", (event) => this.pressed(event));
    new ResizeObserver(() => this.drawTicks()).observe(this.root);
  }

  pressed(event) {
    const now = Number(this.track.getAttribute("aria-valuenow"));
    const to = { ArrowLeft: now - 5, ArrowDown: now - 5, ArrowRight: now + 5, ArrowUp: now + 5, PageDown: now - this.duration / 10, PageUp: now + this.duration / 10, Home: 0, End: this.duration }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.seek(Math.min(this.duration, Math.max(0, to)));
  }

  /** Show what is at a second; null: nothing. */
  hover(second) {
    const isShown = second !== null && this.duration > 0;
    this.cursor.hidden = this.tip.hidden = !isShown;
    if (!isShown) return;
    const wide = this.root.clientWidth;
    vary(this.cursor, { at: this.share(second) });
    vary(this.tip, { left: `${Math.min(wide - 82, Math.max(82, wide * this.share(second)))}px` });
    const [image, label] = this.tip.children;
    const unit = this.units?.find((one) => one.start_s <= second && second < one.end_s);
    say(label, unit && typeof unit.score === "number" ? `${clock(second, true)}  fit ${score(unit.score)}` : clock(second, true));
    // One frame a unit: those are the seconds that the index has, and the server keeps the pictures.
    const address = this.frameAt(unit ? unit.start_s : Math.floor(second));
    clearTimeout(this.timer);
    if (image.dataset.source === (address ?? "")) return;
    this.timer = setTimeout(() => {
      image.dataset.source = address ?? "";
      image.hidden = !address;
      if (address) image.src = address;
    }, 60);
  }
}
