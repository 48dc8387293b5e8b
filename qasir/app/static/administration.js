// The view for whoever runs the index: what is encoded, what failed and why, the runs, the versions. It only reads.

import { ask } from "./api.js";
import { byId, element } from "./dom.js";
import { count, length, many, moment } from "./format.js";

const LIVE_MS = 2500;
const CALM_MS = 10000;

export class Administration {
  constructor(page) {
    this.page = page;
    this.root = byId("index-view");
    this.opened = new Set();
    document.addEventListener("visibilitychange", () => document.hidden || this.isShown && this.look());
  }

  show(state) {
    const wasShown = this.isShown && this.index === state.index;
    this.isShown = state.view === "index";
    this.index = state.index;
    if (!this.isShown) clearTimeout(this.timer);
    else if (!wasShown) {
      this.root.replaceChildren(element("p", { class: "notice slim", text: "Looking at the index …" }));
      this.drawn = null;
      this.look();
    }
  }

  async look() {
    clearTimeout(this.timer);
    const { index } = this;
    let isLive = false;
    try {
      if (!document.hidden) {
        const found = await ask("api/administration", new URLSearchParams(index ? { index } : {}));
        if (!this.isShown || this.index !== index) return;
        isLive = found.runs.some((run) => run.live);
        this.draw(found);
      }
    } catch (error) {
      if (error.status !== 0 && this.isShown) this.root.replaceChildren(element("div", { class: "notice wrong", role: "alert" }, element("p", { text: error.message })));
      this.drawn = null;
    }
    if (this.isShown) this.timer = setTimeout(() => this.look(), isLive ? LIVE_MS : CALM_MS);
  }

  /** Draw what is new; what is as it was stays, with its folds and the reader's place. */
  draw(found) {
    const key = JSON.stringify(found);
    if (key === this.drawn) return;
    this.drawn = key;
    const live = found.runs.find((run) => run.live);
    this.root.replaceChildren(
      element("header", { class: "index-head" }, element("h1", { text: "Index" }), element("p", { class: "uri", text: found.uri }), element("p", { class: "quiet", text: `${found.version === null ? "Being made" : `Version ${count(found.version)}`}${encoder(found.spec)}` })),
      this.figures(found),
      live ? this.going(live) : "",
      this.failures(found.failures),
      this.runs(found.runs),
      this.versions(found.versions, found.tags),
      this.encoderSpec(found.spec),
    );
  }

  figures({ videos }) {
    const named = [["encoded", "can be searched", ""], ["stale", "changed; the old version is searched", "middling"], ["failed", "could not be read", "wrong"]];
    const figure = ([status, means, kind]) => element("div", { class: `figure ${videos[status] ? kind : ""}` }, element("dt", { text: status }), element("dd", {}, element("b", { text: count(videos[status] ?? 0) }), element("span", { text: means })));
    return element("section", { "aria-label": "Videos by status" }, element("dl", { class: "figures" }, named.map(figure)));
  }

  going(run) {
    const { progress } = run;
    const isKnown = progress && progress.of > 0;
    const bar = element("progress", { "aria-label": "Progress of the run", ...(isKnown ? { value: progress.done, max: progress.of } : {}) });
    const said = [isKnown ? `${count(progress.done)} of ${many(progress.of, "video")}` : progress ? `${many(progress.done, "video")} so far` : "begun", rate(run), run.bottleneck && `held up by ${run.bottleneck}`, progress?.left_s && `about ${length(progress.left_s)} left`].filter(Boolean);
    return element("section", { class: "going", "aria-label": "The run that is going" }, element("h2", {}, element("span", { class: "pulse", "aria-hidden": "true" }), `${run.job} is running`), bar, element("p", { class: "quiet", text: said.join(" · ") }));
  }

  failures(failures) {
    const title = element("h2", { text: "Failures by kind" });
    if (!failures.length) return element("section", {}, title, element("p", { class: "quiet", text: "None. Every video that was found could be read." }));
    const folds = failures.map(({ kind, means, videos, examples }) => {
      const fold = element("details", { class: "fold", open: this.opened.has(kind) }, element("summary", {}, element("b", { text: kind }), element("span", { class: "number", text: count(videos) }), element("span", { class: "quiet", text: means ?? "" })));
      const rows = examples.map((one) => element("tr", {}, element("th", { scope: "row", text: one.video_id }), element("td", { text: one.message })));
      fold.append(table("failed-videos", ["video", "message"], rows, "Videos that failed so"));
      if (examples.length < videos) fold.append(element("p", { class: "hint", text: `and ${count(videos - examples.length)} more` }));
      fold.addEventListener("toggle", () => this.opened[fold.open ? "add" : "delete"](kind));
      return fold;
    });
    return element("section", {}, title, folds);
  }

  runs(runs) {
    const rows = runs.flatMap((run) => [this.run(run), run.error && element("tr", { class: "run-error" }, element("td", { colspan: 6, text: run.error }))]).filter(Boolean);
    const names = ["job", "status", "started", "took", "rate", "held up by"];
    return element("section", {}, element("h2", { text: "Runs" }), rows.length ? table("runs", names, rows, "Runs of jobs, newest first", [3, 4]) : element("p", { class: "quiet", text: "No job has run yet." }));
  }

  run(run) {
    return element("tr", {}, element("th", { scope: "row", text: run.job }), element("td", {}, element("span", { class: `state ${run.live ? "live" : run.status}`, text: run.status })), element("td", { text: moment(run.started_at) }), element("td", { class: "right", text: took(run) }), element("td", { class: "right", text: rate(run) ?? "" }), element("td", { text: run.bottleneck ?? "", title: run.seconds.bounds ?? "" }));
  }

  versions(versions, tags) {
    const rows = versions.map(({ version, at, tag }) => element("tr", {}, element("th", { scope: "row", text: count(version) }), element("td", { text: moment(at) }), element("td", {}, tag ? element("span", { class: "tag", text: tag }) : "")));
    const older = tags.filter((tag) => !versions.some((one) => one.tag === (tag.name ?? tag)));
    const note = older.length ? element("p", { class: "hint", text: `Tags of older versions: ${older.map((tag) => tag.name ?? tag).join(", ")}` }) : "";
    return element("section", {}, element("h2", { text: "Versions" }), table("versions", ["version", "since", "tag"], rows, "Versions of the index, newest first"), note);
  }

  encoderSpec(spec) {
    const rows = Object.entries(spec ?? {}).filter(([, value]) => value !== "" && value !== null).map(([name, value]) => element("div", {}, element("dt", { text: name.replaceAll("_", " ") }), element("dd", { text: typeof value === "object" ? JSON.stringify(value) : value })));
    const fold = element("details", { class: "fold", open: this.opened.has("spec") }, element("summary", {}, element("b", { text: "How it was encoded" })), element("dl", { class: "facts" }, rows));
    fold.addEventListener("toggle", () => this.opened[fold.open ? "add" : "delete"]("spec"));
    return element("section", {}, fold);
  }
}

function table(kind, names, rows, caption, right = []) {
  const heads = names.map((name, i) => element("th", { scope: "col", class: right.includes(i) ? "right" : null, text: name }));
  const made = element("table", { class: kind }, element("caption", { class: "unseen", text: caption }), element("thead", {}, element("tr", {}, heads)), element("tbody", {}, rows));
  return element("div", { class: "wide-table", tabindex: 0, role: "group", "aria-label": caption }, made);
}

/** Null until it is known: early in a run nothing is written yet. */
const rate = (run) => (run.rate >= 0.05 ? `${run.rate.toFixed(1)} × real time` : null);

function took({ started_at: start, ended_at: end, live }) {
  const until = end ? new Date(end) : live ? new Date() : null;
  return until && start ? length((until - new Date(start)) / 1000) : "";
}

const sampled = (spec) => (spec.sampling === "keyframes" ? `keyframes, at most ${spec.fps} a second` : `${spec.fps} a second`);
const encoder = (spec) => (spec?.model ? `, encoded by ${spec.model}, ${spec.grid} × ${spec.grid} frames a super image, ${sampled(spec)}` : "");
