// Plays a video in a <video> element: its file where the browser shows it, else clips of it that the server makes.
//
// Whether it shows is judged by the picture's width: browsers play the sound of what they cannot show, on black, and
// report no error. Seconds here count from the video's first displayed frame. The element's own time is that plus the
// file's offset; of a clip it is the time since where the clip starts.

import { Refused, request } from "./api.js";

const CLIP_S = 120;
const JUDGE_MS = 600;
const GIVE_UP_MS = 10000;
const BUSY_TRIES = 8;
const GIVEN_TRIES = 2;
const REST_MS = 250;

export class Playback extends EventTarget {
  constructor(element) {
    super();
    this.element = element;
    this.unshown = new Set();
    this.rate = 1;
    this.clear();
    for (const name of ["loadedmetadata", "loadeddata", "error", "ended", "seeked", "playing"]) {
      element.addEventListener(name, () => this.isResting || this[name]());
    }
    // Played or paused by other means too, as by the keys of a headset.
    element.addEventListener("play", () => (this.wantsPlay = !element.paused));
    element.addEventListener("pause", () => {
      if (element.paused && !element.ended) this.wantsPlay = false;
    });
  }

  /** Play nothing. */
  clear() {
    this.stopTimers();
    clearTimeout(this.rest);
    this.isResting = false;
    this.video = null;
    this.mode = "none"; // or "file", or "clip"
    this.pending = null; // where it will be, or would be if anything could be shown
    this.soughtAt = -Infinity;
    this.origin = 0;
    this.clipEnd = 0;
    this.wantsPlay = false;
    if (this.element.hasAttribute("src")) {
      this.element.removeAttribute("src");
      this.element.load();
    }
  }

  /** Open a video {id, media, offset, duration, index} at a second. */
  open(video, at, play) {
    this.clear();
    this.video = video;
    this.wantsPlay = play;
    this.pending = at;
    if (!video.media) this.fail(video.problem || "The file of this video is gone.");
    else if (this.unshown.has(video.media)) this.clip(at);
    else this.file(at);
  }

  /** Where it is. */
  get position() {
    if (this.pending !== null) return this.pending;
    return Math.max(0, this.element.currentTime + this.shift);
  }

  /** What is added to the element's time. */
  get shift() {
    return this.mode === "clip" ? this.origin : -(this.video?.offset ?? 0);
  }

  /** Go to a second. isPassing: on the way to another, as while the time line is dragged. */
  seek(to, isPassing = false) {
    if (!this.video) return;
    const at = Math.min(Math.max(0, to), Math.max(0, this.video.duration - 0.05));
    const isAtOnce = !isPassing && performance.now() - this.soughtAt > REST_MS;
    if (!isPassing) this.soughtAt = performance.now();
    this.pending = at;
    clearTimeout(this.rest);
    this.isResting = false;
    if (this.mode === "clip" && !this.reaches(at)) {
      // Of many seeks in a row only the first and the last are worth a clip, and none while it only passes by.
      if (isAtOnce) this.clip(at);
      else {
        this.isResting = true;
        this.stopTimers();
        this.rest = setTimeout(() => this.clip(at), REST_MS);
        this.tell("moved");
      }
      return;
    }
    if (this.mode !== "none" && this.element.readyState > 0) this.element.currentTime = at - this.shift;
    this.tell("moved");
  }

  play() {
    if (!this.video?.media) return;
    this.wantsPlay = true;
    if (this.mode === "none") this.clip(this.position);
    else if (this.mode === "clip" && this.element.ended && !this.isResting && this.pending === null) this.clip(0);
    else this.start();
  }

  start() {
    // What starts without a press of the person's may be refused; then it stays paused.
    this.element.play().catch((error) => {
      if (error.name === "NotAllowedError") this.wantsPlay = false;
      this.tell("moved");
    });
  }

  pause() {
    this.wantsPlay = false;
    this.element.pause();
  }

  setRate(rate) {
    this.rate = rate;
    this.element.defaultPlaybackRate = rate;
    this.element.playbackRate = rate;
  }

  // Where the pictures come from.

  file(at) {
    this.mode = "file";
    this.pending = at;
    this.load(this.video.media);
    this.timer = setTimeout(() => this.judge(), GIVE_UP_MS);
  }

  clip(at) {
    clearTimeout(this.rest);
    this.isResting = false;
    const { duration } = this.video;
    const from = Math.min(Math.max(0, at), Math.max(0, duration - 0.5));
    this.mode = "clip";
    this.origin = Math.floor(from * 1000) / 1000;
    this.clipEnd = Math.min(duration, this.origin + CLIP_S);
    this.pending = from;
    this.busyTries = 0;
    this.givenTries = 0;
    this.load(clipAddress(this.video, this.origin, this.clipEnd));
  }

  load(source) {
    this.stopTimers();
    this.element.src = source;
    this.element.playbackRate = this.rate;
    this.tell("loading");
    if (this.wantsPlay) this.start();
  }

  /** Whether one can go to a second of the clip that is loaded. While it is being made one cannot: what is buffered
   * looks as if, but goes to the clip's start. */
  reaches(at) {
    const { seekable } = this.element;
    const end = seekable.length ? seekable.end(seekable.length - 1) : 0;
    return at >= this.origin && at < this.clipEnd && end > 0 && at - this.origin <= end;
  }

  // What the element says.

  loadedmetadata() {
    if (this.pending !== null && this.pending - this.shift > 0) this.element.currentTime = this.pending - this.shift;
    this.stopTimers();
    if (this.mode === "file" && !this.element.videoWidth) this.timer = setTimeout(() => this.judge(), JUDGE_MS);
  }

  loadeddata() {
    this.judge();
    if (!this.element.seeking) this.seeked();
  }

  playing() {
    this.judge();
  }

  seeked() {
    if (this.element.readyState < 1) return;
    this.pending = null;
    this.tell("moved");
    this.tell("settled");
  }

  judge() {
    this.stopTimers();
    if (this.mode !== "file") return;
    if (this.element.videoWidth > 0) {
      this.tell("shown");
      return;
    }
    this.unshown.add(this.video.media);
    this.clip(this.position);
  }

  async error() {
    if (!this.element.hasAttribute("src") || !this.video) return;
    const at = this.position;
    if (this.mode === "file") {
      this.unshown.add(this.video.media);
      this.clip(at);
      return;
    }
    if (this.mode !== "clip") return;
    const { video, origin } = this;
    const refusal = await this.refusal(clipAddress(video, origin, this.clipEnd));
    if (this.video !== video || this.origin !== origin || this.mode !== "clip" || this.isResting) return;
    if (refusal?.status === 503 && this.busyTries < BUSY_TRIES) {
      this.busyTries += 1;
      this.tell("busy");
      this.timer = setTimeout(() => this.load(clipAddress(video, origin, this.clipEnd)), 1000);
      return;
    }
    if (!refusal && this.givenTries < GIVEN_TRIES) {
      this.givenTries += 1; // a place has become free in between
      this.load(clipAddress(video, origin, this.clipEnd));
      return;
    }
    this.fail(refusal?.message ?? "Neither the file nor a clip of it can be shown here.");
  }

  ended() {
    if (this.mode === "clip" && this.clipEnd < this.video.duration - 0.1) {
      this.wantsPlay = true;
      this.clip(this.clipEnd);
    } else this.wantsPlay = false;
  }

  /** What the server says to an address; null when it gives it. */
  async refusal(address) {
    const aborter = new AbortController();
    try {
      await request(address, { signal: aborter.signal });
      return null;
    } catch (error) {
      return error instanceof Refused ? error : null;
    } finally {
      aborter.abort();
    }
  }

  fail(reason) {
    this.stopTimers();
    this.pending = this.position;
    this.mode = "none";
    if (this.element.hasAttribute("src")) {
      this.element.removeAttribute("src");
      this.element.load(); // so that the poster is seen again
    }
    this.reason = reason;
    this.tell("failed");
  }

  stopTimers() {
    clearTimeout(this.timer);
  }

  tell(name) {
    this.dispatchEvent(new Event(name));
  }
}

/** The address of a clip; `download` for one that is kept. */
export function clipAddress({ id, index }, start, end, download = false) {
  const parameters = new URLSearchParams({ start: start.toFixed(3), end: end.toFixed(3) });
  if (index) parameters.set("index", index);
  if (download) parameters.set("download", "true");
  return `clips/${encodeURIComponent(id)}?${parameters}`;
}
