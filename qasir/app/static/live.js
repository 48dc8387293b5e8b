// Follows the index: how much there is, whether it is being encoded, and whether the hits shown are of an older version.

import { ask, connection } from "./api.js";
import { byId, element, say } from "./dom.js";

const CALM_MS = 10000;
const LIVELY_MS = 3000;

export class Live {
  constructor(page) {
    this.page = page;
    this.indexes = null;
    connection.addEventListener("lost", () => this.lost(true));
    connection.addEventListener("found", () => this.lost(false));
    document.addEventListener("visibilitychange", () => document.hidden || this.look());
    this.look();
  }

  /** Of the index that is searched: what the server says of it; null while it has not said. */
  get current() {
    return this.indexes?.[this.page.state.index] ?? null;
  }

  async look() {
    clearTimeout(this.timer);
    if (this.isLooking) return;
    this.isLooking = true;
    try {
      if (!document.hidden) {
        this.indexes = (await ask("api/status")).indexes;
        this.changed();
      }
    } catch {
      // Said by the banner where the server is gone; a refusal shows where something is asked for.
    } finally {
      this.isLooking = false;
      const now = this.current;
      const isLively = this.isLost || !now || now.waiting || now.encoding || !now.videos;
      this.timer = setTimeout(() => this.look(), isLively ? LIVELY_MS : CALM_MS);
    }
  }

  /** The index has another version, or more is encoded of it. */
  changed() {
    const now = this.current;
    const key = `${this.page.state.index} ${now?.version}`;
    if (this.seen !== undefined && key !== this.seen) {
      this.page.filters.forget();
      this.page.filters.show(this.page.state);
    }
    this.seen = key;
    this.page.search.statusChanged(now);
  }

  lost(isLost) {
    this.isLost = isLost;
    const banner = byId("lost");
    banner.hidden = !isLost;
    say(banner, isLost ? "The server does not answer. The page goes on by itself when it does." : "");
    if (isLost) this.look();
  }
}

/** "Encoding: 12 of 40 videos", with a bar where both are known; null when nothing goes on. */
export function encodingNotice(status) {
  const going = status?.encoding;
  if (!going) return null;
  const done = going.videos_done;
  const of = going.videos_of;
  const known = Number.isFinite(done) && Number.isFinite(of) && of > 0;
  const text = known ? `Being encoded: ${done} of ${of} videos so far.` : "Being encoded: more videos are on their way.";
  const bar = known ? element("progress", { max: of, value: done, "aria-label": "Videos encoded" }) : null;
  return element("div", { class: "notice slim being-encoded" }, element("p", { text }), bar);
}
