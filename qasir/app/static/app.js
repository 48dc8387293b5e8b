// The page: holds its state, which is its address, and tells the parts when it changes.

import { Administration } from "./administration.js";
import { FILTERS, isAsking, read, write } from "./address.js";
import { connection, onToken } from "./api.js";
import { askForToken, wireHelp, wireToken } from "./dialogs.js";
import { byId } from "./dom.js";
import { Filters } from "./filters.js";
import { placeIcons } from "./icons.js";
import { wireKeyboard } from "./keyboard.js";
import { Live } from "./live.js";
import { Player } from "./player.js";
import { QueryBox } from "./querybox.js";
import { Search } from "./search.js";
import { wireTheme } from "./look.js";

class Page {
  constructor() {
    this.state = read(location.search);
    this.box = new QueryBox(this);
    this.filters = new Filters(this);
    this.search = new Search(this);
    this.player = new Player(this);
    this.administration = new Administration(this);
    this.live = new Live(this);
  }

  start() {
    addEventListener("popstate", () => this.show(read(location.search)));
    document.addEventListener("click", (event) => this.followed(event));
    connection.addEventListener("found", () => this.again());
    this.show(this.state);
    if (this.state.view === "search" && !isAsking(this.state) && matchMedia("(hover: hover)").matches) this.box.focus();
  }

  /** Change the state and its address. replace: without a new entry in the history. */
  go(changes, { replace = false, play = false } = {}) {
    const next = { ...this.state, ...changes };
    const address = write(next);
    if (address !== write(this.state)) history[replace ? "replaceState" : "pushState"](null, "", address);
    this.show(next, play);
  }

  /** Show a state, which the address has already. */
  show(next, play = false) {
    const before = this.shown;
    this.state = this.shown = next;
    const isSearch = next.view === "search";
    byId("search-view").hidden = !isSearch;
    byId("index-view").hidden = isSearch;
    for (const link of document.querySelectorAll("[data-view]")) {
      if (link.dataset.view === next.view) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    this.administration.show(next);
    this.filters.show(next, before);
    this.box.show(next);
    if (isSearch) this.search.show(next);
    this.player.show(isSearch ? next : { ...next, video: "" }, play);
    this.search.mark(next);
    document.title = this.title(next);
  }

  /** Everything again, after the server was away or the index has changed. */
  again() {
    this.search.forget();
    this.filters.forget();
    this.show(this.state);
  }

  /** Open a video at a second. */
  open(video, t) {
    this.go({ video, t }, { play: true });
  }

  /** Keep in the address where the player is. Nothing is filled in again: someone may be typing in a field. */
  keepSecond(t) {
    const next = { ...this.state, t };
    if (write(next) === write(this.state)) return;
    history.replaceState(null, "", write(next));
    this.state = this.shown = next;
    this.search.mark(next);
  }

  close() {
    this.go({ video: "", t: null });
  }

  /** Look for what is like a place in a video. */
  like(video, at) {
    this.go({ like: `${video}@${at.toFixed(2)}`, q: "", picture: "", cut: null, video: "", t: null });
    scrollTo({ top: 0 });
  }

  title(state) {
    if (state.view === "index") return "Index · qasir";
    return isAsking(state) ? `${state.q.trim() || "A picture"} · qasir` : "qasir";
  }

  /** Links to the page itself change its state instead of loading it again. */
  followed(event) {
    const link = event.target.closest?.("a[href]");
    if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const there = new URL(link.href);
    if (link.hasAttribute("download") || link.hash || there.origin !== location.origin) return;
    if (there.pathname !== new URL("./", location.href).pathname) return;
    event.preventDefault();
    const wanted = read(there.search);
    if ("view" in link.dataset) wanted.index = this.state.index;
    if (link.classList.contains("brand")) Object.assign(wanted, { index: this.state.index });
    history.pushState(null, "", write(wanted));
    this.show(wanted, Boolean(wanted.video));
  }

  /** Without filters. */
  unfiltered() {
    const usual = read("");
    this.go(Object.fromEntries(FILTERS.map((name) => [name, usual[name]])));
  }
}

const page = new Page();
placeIcons();
wireTheme();
wireHelp();
wireToken();
wireKeyboard(page);
onToken(askForToken);
page.start();
