// Asks for hits when what is asked changes, and shows them: those above the cut-off, the line, those below.

import { asked, isAsking } from "./address.js";
import { ask, fileOf } from "./api.js";
import { byId, element, say } from "./dom.js";
import { isFiltered } from "./filters.js";
import { count, many, score } from "./format.js";
import { hitCard, playing } from "./hit.js";
import { placeIcons } from "./icons.js";
import { landing, nothingEncoded, skeletons } from "./landing.js";
import { encodingNotice } from "./live.js";
import { toast } from "./toast.js";

const PAGE = 20;
const MOST = 200;

export class Search {
  constructor(page) {
    this.page = page;
    this.answer = null;
    this.isBelowShown = false;
    this.wireCut();
    this.wireExport();
  }

  /** Show the hits of a state: ask the server when the question is another one, lay them out again otherwise. */
  show(state) {
    const key = `${asked(state)}\n${state.picture}`;
    if (key === this.key) {
      if (this.answer && state.cut !== this.shownCut) this.layOut();
      return;
    }
    this.key = key;
    this.isBelowShown = false;
    this.run(state);
  }

  forget() {
    this.key = null;
  }

  async run(state) {
    this.aborter?.abort();
    const picture = this.page.box.picture(state);
    if (!isAsking(state) || (state.picture && !picture && !state.q && !state.like)) {
      this.answer = null;
      this.busy(false);
      this.land(state);
      return;
    }
    const aborter = (this.aborter = new AbortController());
    this.busy(true);
    if (!this.answer) byId("hits").replaceChildren(...skeletons());
    try {
      const answer = await ask("api/search", asked(state), { signal: aborter.signal, body: picture });
      this.answer = answer;
      this.question = state;
      this.shownVersion = answer.version;
      this.layOut();
    } catch (error) {
      if (error.name === "AbortError") return;
      this.answer = null;
      this.failed(error);
    }
    this.busy(false);
  }

  busy(is) {
    byId("waiting").hidden = !is;
    byId("found").classList.toggle("busy", is);
    byId("found").setAttribute("aria-busy", String(is));
  }

  clear() {
    for (const id of ["hits", "hits-below", "line", "more", "notices"]) byId(id).replaceChildren();
    byId("hits-below").hidden = true;
    byId("cut").hidden = true;
    byId("export").hidden = true;
    byId("tools").classList.toggle("idle", true);
  }

  /** Nothing is asked for. */
  land(state) {
    say(byId("summary"), "");
    const status = this.page.live?.current;
    const isLost = state.picture && !this.page.box.picture(state);
    const key = JSON.stringify([status, isLost]);
    if (this.landed === key && byId("notices").querySelector(".landing")) return;
    this.landed = key;
    this.clear();
    byId("notices").replaceChildren(status && !status.videos ? nothingEncoded(status) : landing(status, isLost));
    placeIcons(byId("notices"));
  }

  failed(error) {
    this.clear();
    say(byId("summary"), "");
    if (error.status === 0) return; // the banner says so
    const way = isFiltered(this.page.state) && element("button", { type: "button", class: "tool", text: "Search without filters", on: { click: () => this.page.unfiltered() } });
    byId("notices").replaceChildren(element("div", { class: "notice wrong", role: "alert" }, element("p", { text: error.message }), way));
  }

  /** Lay the answer out by the line that holds now. */
  layOut() {
    const { answer, page } = this;
    const { hits, cutoff } = answer;
    this.clear();
    byId("tools").classList.toggle("idle", false);
    this.shownCut = page.state.cut;
    const isAbove = (hit) => (!cutoff ? true : page.state.cut === null ? hit.above_cutoff : hit.score >= page.state.cut);
    const above = hits.filter(isAbove);
    const below = hits.filter((hit) => !isAbove(hit));
    const card = (hit) => hitCard(hit, { page, question: this.question, number: hits.indexOf(hit) + 1 });
    byId("hits").replaceChildren(...above.map(card));
    byId("hits-below").replaceChildren(...below.map(card));
    byId("export").hidden = !hits.length;
    this.showCut(hits, cutoff);
    this.showLine(above, below, cutoff);
    this.showMore(hits);
    this.showNotices(hits);
    say(byId("summary"), this.summary(hits, above));
    this.mark(page.state);
  }

  summary(hits, above) {
    const what = this.answer.by === "moment" ? "moment" : "video";
    if (!hits.length) return "";
    const found = above.length === hits.length ? many(hits.length, what) : `${count(above.length)} of ${many(hits.length, what)} above the line`;
    const took = this.answer.took_ms ? `, ${Math.max(1, Math.round(this.answer.took_ms))} ms` : "";
    return `${found}${took}`;
  }

  showNotices(hits) {
    const { answer } = this;
    const notices = [];
    const status = this.page.live.current;
    if (!hits.length) notices.push(this.none());
    if (answer.exact === false) notices.push(this.slim("These come from the vector index, which may miss a video.", "Score every video", () => this.page.go({ exact: true })));
    if (answer.left_out) notices.push(this.slim(`${many(answer.left_out, "video")} that only one of the indexes has ${answer.left_out === 1 ? "is" : "are"} left out.`));
    if (this.question.picture && !this.page.box.picture(this.question)) notices.push(this.slim("The picture is not in the link; only the rest was searched for."));
    byId("notices").replaceChildren(...notices);
    this.showEncoding(status);
    this.offerNewer(status);
  }

  /** What is being encoded, above the notices; where nothing is yet, what stands there says so itself. */
  showEncoding(status) {
    const before = byId("notices").querySelector(":scope > .being-encoded");
    const now = status?.videos ? encodingNotice(status) : null;
    if (before && now?.isEqualNode(before)) return;
    before?.remove();
    if (now) byId("notices").prepend(now);
  }

  none() {
    const status = this.page.live.current;
    if (status && !status.videos) return nothingEncoded(status);
    const way = isFiltered(this.question) && element("button", { type: "button", class: "tool", text: "Search without filters", on: { click: () => this.page.unfiltered() } });
    const text = way ? "No video passes the filters." : "No video of this index can be searched.";
    return element("div", { class: "notice" }, element("h2", { text: "No hits" }), element("p", { text }), way);
  }

  slim(text, action, act) {
    const button = action && element("button", { type: "button", class: "link-button", text: action, on: { click: act } });
    return element("div", { class: "notice slim" }, element("p", { text }), button);
  }

  // The cut-off: where it lies, what it means, and what lies below it.

  wireCut() {
    const range = byId("cut-range");
    range.addEventListener("input", () => this.page.go({ cut: Number(range.value) }, { replace: true }));
    byId("cut-reset").addEventListener("click", () => this.page.go({ cut: null }, { replace: true }));
  }

  showCut(hits, cutoff) {
    byId("cut").hidden = !cutoff || !hits.length;
    if (!cutoff || !hits.length) return;
    const scores = [...hits.map((hit) => hit.score), cutoff.score];
    const least = Math.floor(Math.min(...scores) * 100 - 1) / 100;
    const most = Math.ceil(Math.max(...scores) * 100 + 1) / 100;
    const at = this.page.state.cut ?? cutoff.score;
    const range = byId("cut-range");
    Object.assign(range, { min: least, max: most, step: (most - least) / 200 });
    if (document.activeElement !== range || this.page.state.cut === null) range.value = at;
    range.setAttribute("aria-valuetext", `scores from ${score(at)}`);
    say(byId("cut-value"), score(at));
    byId("cut").title = cutoff.explained;
    byId("cut-reset").hidden = this.page.state.cut === null;
  }

  showLine(above, below, cutoff) {
    const list = byId("hits-below");
    if (!cutoff || !below.length) return;
    const noneFits = !above.length;
    const { video, t } = this.page.state;
    const plays = (hit) => hit.video_id === video && (t === null || (hit.start_s <= t && t <= hit.end_s));
    if (noneFits || below.some(plays)) this.isBelowShown = true;
    const isShown = this.isBelowShown;
    list.hidden = !isShown;
    list.classList.toggle("alone", noneFits);
    const at = this.page.state.cut ?? cutoff.score;
    const meaning = this.page.state.cut === null ? cutoff.explained : `You set the line to ${score(at)}. By itself it lies at ${score(cutoff.score)}: ${lower(cutoff.explained)}`;
    const best = Math.max(...below.map((hit) => hit.score));
    const head = noneFits ? `Nothing fits well. The best reaches ${score(best)}, the line lies at ${score(at)}.` : `${many(below.length, "hit")} below the line`;
    const toggle = element("button", { type: "button", class: "tool", "aria-expanded": String(isShown), "aria-controls": "hits-below", text: isShown ? "Hide" : "Show" });
    toggle.addEventListener("click", () => {
      this.isBelowShown = list.hidden;
      list.hidden = !list.hidden;
      toggle.textContent = list.hidden ? "Show" : "Hide";
      toggle.setAttribute("aria-expanded", String(!list.hidden));
    });
    const title = element("h2", { class: "line-title", text: head });
    byId("line").replaceChildren(element("div", { class: noneFits ? "cut-line alone" : "cut-line" }, element("div", {}, title, element("p", { class: "hint", text: meaning })), noneFits ? null : toggle));
  }

  showMore(hits) {
    const { top_k: asked } = this.question;
    if (hits.length < asked || asked >= MOST) return;
    const next = Math.min(MOST, asked + PAGE);
    const button = element("button", { type: "button", class: "tool", text: `Show ${next - asked} more` });
    button.addEventListener("click", () => this.page.go({ top_k: next }, { replace: true }));
    byId("more").replaceChildren(button);
  }

  wireExport() {
    const menu = byId("export");
    document.addEventListener("click", (event) => {
      if (menu.open && (!menu.contains(event.target) || event.target.closest("a"))) menu.open = false;
    });
    menu.addEventListener("toggle", () => {
      if (!menu.open || !this.answer) return;
      const shown = this.cards().map((card) => Number(card.dataset.number));
      say(byId("export-what"), shown.length < this.answer.hits.length ? `${many(shown.length, "hit")} above the line` : `All ${many(shown.length, "hit")}`);
      for (const link of menu.querySelectorAll("a")) {
        const parameters = asked(this.question);
        parameters.set("format", link.dataset.format);
        if (shown.length < this.answer.hits.length) parameters.set("select", shown.sort((a, b) => a - b).join(","));
        link.href = `api/export?${parameters}`;
      }
    });
    menu.addEventListener("click", (event) => {
      const link = event.target.closest("a");
      const picture = link && this.question && this.page.box.picture(this.question);
      if (!picture) return;
      event.preventDefault(); // a link cannot carry the picture
      this.save(link.getAttribute("href"), picture);
    });
  }

  async save(address, picture) {
    try {
      const { blob, name } = await fileOf(address, picture);
      const url = URL.createObjectURL(blob);
      element("a", { href: url, download: name }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60000);
    } catch (error) {
      toast(error.message);
    }
  }

  // The hit that plays, and the way from one to the next.

  cards() {
    return [...byId("hits").querySelectorAll(".hit"), ...(byId("hits-below").hidden ? [] : byId("hits-below").querySelectorAll(".hit"))];
  }

  /** Mark the hit that plays. */
  mark(state) {
    byId("columns").classList.toggle("watching", Boolean(state.video) && state.view === "search");
    const cards = [...document.querySelectorAll(".hit")];
    const plays = state.video ? playing(cards, state) : null;
    for (const card of cards) {
      const is = card === plays;
      card.classList.toggle("current", is);
      if (is) card.setAttribute("aria-current", "true");
      else card.removeAttribute("aria-current");
    }
  }

  /** The next or the previous hit: open it while the player is open, else give it the focus. */
  step(by) {
    const cards = this.cards();
    if (!cards.length) return;
    const isOpen = this.page.player.isOpen;
    const focused = document.activeElement.closest?.(".hit");
    const at = cards.findIndex((card) => (isOpen ? card.classList.contains("current") : card === focused));
    const next = cards[at < 0 ? (by > 0 ? 0 : cards.length - 1) : Math.min(cards.length - 1, Math.max(0, at + by))];
    const link = next.querySelector("a.open");
    if (isOpen) link.click();
    else link.focus();
    next.scrollIntoView({ block: "nearest" });
  }

  /** The hit of a video at a second, if it is among those shown. */
  hitAt(video, t) {
    const of = (this.answer?.hits ?? []).filter((hit) => hit.video_id === video);
    return of.find((hit) => t !== null && hit.start_s <= t && t < hit.end_s) ?? of[0] ?? null;
  }

  // The index lives on while the page is open.

  statusChanged(status) {
    if (this.page.state.view !== "search") return;
    if (!this.answer) {
      if (!isAsking(this.page.state)) this.land(this.page.state);
      return;
    }
    if (!this.answer.hits.length && status?.version !== this.shownVersion) {
      this.page.again();
      return;
    }
    if (status && !status.videos) {
      this.showNotices(this.answer.hits);
      return;
    }
    this.showEncoding(status);
    this.offerNewer(status);
  }

  offerNewer(status) {
    byId("notices").querySelector(".newer")?.remove();
    if (!this.answer || !status || status.version === null || status.version === this.shownVersion) return;
    const notice = this.slim("The index has changed since.", "Search again", () => this.page.again());
    notice.classList.add("newer");
    byId("notices").prepend(notice);
  }
}

const lower = (sentence) => sentence.charAt(0).toLowerCase() + sentence.slice(1);


