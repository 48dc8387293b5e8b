// Filters for those who know no SQL, SQL for those who do, and the ways of ranking.

import { FILTERS, read } from "./address.js";
import { ask } from "./api.js";
import { byId, element } from "./dom.js";
import { count, day, length, many } from "./format.js";
import { icon } from "./icons.js";

const USUAL = read("");

export class Filters {
  constructor(page) {
    this.page = page;
    this.panel = byId("filters");
    this.button = byId("filters-open");
    this.button.addEventListener("click", () => (this.isOpen ? this.close() : this.open()));
    byId("index").addEventListener("change", (event) => this.choose(Number(event.target.value)));
    byId("sort").addEventListener("change", (event) => page.go({ sort: event.target.value }));
    byId("by").addEventListener("change", (event) => page.go({ by: event.target.value, cut: null }));
  }

  get isOpen() {
    return !this.panel.hidden;
  }

  open() {
    this.panel.hidden = false;
    this.button.setAttribute("aria-expanded", "true");
    this.panel.querySelector("input, select")?.focus();
  }

  close() {
    this.panel.hidden = true;
    this.button.setAttribute("aria-expanded", "false");
    this.button.focus();
  }

  /** Another index: what its videos are called, and so what is like a place in one, and how they are ranked is its own. */
  choose(index) {
    this.page.go({ index, like: "", aggregation: "", numbers: {}, folder: "", codec: [], cut: null, video: "", t: null });
  }

  forget() {
    this.askedOf = null;
  }

  show(state) {
    byId("sort").value = state.sort;
    for (const radio of byId("by").querySelectorAll("input")) radio.checked = radio.value === state.by;
    byId("index").value = String(state.index);
    if (this.askedOf !== state.index) this.load(state.index);
    else if (this.facets) this.fill(state);
    this.chips(state);
  }

  async load(index) {
    this.askedOf = index;
    try {
      this.facets = await ask("api/facets", new URLSearchParams(index ? { index } : {}));
    } catch (error) {
      this.facets = null;
      this.panel.replaceChildren(element("p", { class: "quiet", text: error.message }));
      return;
    }
    if (this.askedOf !== index) return;
    this.showIndexes(index);
    this.draw();
    this.fill(this.page.state);
  }

  showIndexes(index) {
    const { indexes } = this.facets;
    // Two that are searched together are one to whoever searches.
    byId("index-choice").hidden = indexes.length < 2 || Boolean(this.facets.hybrid);
    const options = indexes.map((one, i) => element("option", { value: i, title: one.uri, text: one.name }));
    byId("index").replaceChildren(...options);
    byId("index").value = String(index);
  }

  /** Make the panel for what this index has. */
  draw() {
    const { duration_s: duration, dates, folders, codecs, columns, allow_sql: allowsSql } = this.facets;
    const parts = [];
    if (duration) {
      const fields = [
        this.field("from", { type: "number", min: 0, step: "any", id: "filter-least" }, (value) => ({ min_duration_s: minutes(value) })),
        this.field("to", { type: "number", min: 0, step: "any", id: "filter-most" }, (value) => ({ max_duration_s: minutes(value) })),
      ];
      parts.push(this.range("Length, in minutes", `${length(duration.least)} to ${length(duration.most)}`, fields));
    }
    if (dates) {
      const fields = [
        this.field("from", { type: "date", id: "filter-from" }, (value) => ({ from: value })),
        this.field("to", { type: "date", id: "filter-to" }, (value) => ({ to: value })),
      ];
      parts.push(this.range("Date, recorded or else file changed", `${day(dates.first)} to ${day(dates.last)}`, fields));
    }
    if (folders.length) parts.push(this.folders(folders));
    if (codecs.length > 1) parts.push(this.codecs(codecs));
    if (allowsSql) parts.push(this.sql(columns));
    parts.push(this.ranking());
    this.panel.replaceChildren(...parts);
  }

  range(name, note, fields) {
    const legend = element("legend", { text: name });
    return element("fieldset", { class: "pair" }, legend, element("div", { class: "pair-fields" }, fields), note && element("p", { class: "hint", text: note }));
  }

  field(name, attributes, change) {
    const input = element("input", attributes);
    input.addEventListener("change", () => this.page.go(change(input.value)));
    return element("label", { class: "field" }, element("span", { text: name }), input);
  }

  folders(folders) {
    const options = folders
      .filter(({ folder }) => folder)
      .map(({ folder, videos }) => element("option", { value: folder, text: `${folder} (${count(videos)})` }));
    const select = element("select", { id: "filter-folder" }, element("option", { value: "", text: "all" }), options);
    select.addEventListener("change", () => this.page.go({ folder: select.value }));
    return element("label", { class: "field" }, element("span", { text: "Folder" }), select);
  }

  codecs(codecs) {
    const boxes = codecs.map(({ codec, videos }) => {
      const box = element("input", { type: "checkbox", value: codec, name: "codec" });
      box.addEventListener("change", () => {
        const chosen = [...this.panel.querySelectorAll("[name=codec]:checked")].map((one) => one.value);
        this.page.go({ codec: chosen });
      });
      return element("label", { class: "check" }, box, ` ${codec} `, element("span", { class: "quiet", text: count(videos) }));
    });
    return element("fieldset", { class: "checks" }, element("legend", { text: "Codec" }), element("div", { class: "checks-fields" }, boxes));
  }

  sql(columns) {
    const input = element("input", { id: "filter-where", type: "text", spellcheck: "false", autocomplete: "off", placeholder: "fps > 30 AND video_id LIKE '2024/%'" });
    const apply = () => this.page.go({ where: input.value.trim() });
    input.addEventListener("change", apply);
    input.addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      apply();
    });
    const names = columns.filter((name) => name !== "embedding").join(", ");
    return element("div", { class: "wide" }, element("label", { class: "field" }, element("span", { text: "SQL condition on the videos" }), input), element("p", { class: "hint", text: `Columns: ${names}` }));
  }

  /** The fold with the methods, their numbers, and how many hits. */
  ranking() {
    const { methods, usual } = this.ways();
    const options = methods.map(({ name }) => element("option", { value: name === usual ? "" : name, text: name === usual ? `${name} (usual)` : name }));
    this.method = element("select", { id: "filter-method" }, options);
    this.method.addEventListener("change", () => this.page.go({ aggregation: this.method.value, numbers: {}, cut: null }));
    this.numbers = element("div", { class: "numbers" });
    this.methodDoc = element("p", { class: "hint" });
    const exact = element("input", { type: "checkbox", id: "filter-exact" });
    exact.addEventListener("change", () => this.page.go({ exact: exact.checked }));
    this.exact = exact;
    const each = this.field("Moments of one video, at most", { type: "number", min: 1, max: 50, id: "filter-each" }, (value) => ({ per_video: Math.max(1, Number(value) || USUAL.per_video) }));
    const fields = element("div", { class: "fold-fields" }, element("label", { class: "field" }, element("span", { text: "Method" }), this.method), this.numbers, each, element("label", { class: "check" }, exact, " Score every video, without the vector index"));
    return element("details", { class: "fold wide" }, element("summary", { text: "How hits are ranked" }), this.methodDoc, fields);
  }

  /** The methods to choose from: of two indexes searched together the one that the server was started with. */
  ways() {
    const { methods, default_method: usual, hybrid, hybrid_numbers: numbers } = this.facets;
    return hybrid ? { methods: [{ name: hybrid, doc: "both indexes together", numbers }], usual: hybrid } : { methods, usual };
  }

  /** Put the state's values into the fields. */
  fill(state) {
    const values = {
      "filter-least": state.min_duration_s === null ? "" : rounded(state.min_duration_s / 60),
      "filter-most": state.max_duration_s === null ? "" : rounded(state.max_duration_s / 60),
      "filter-from": state.from,
      "filter-to": state.to,
      "filter-folder": state.folder,
      "filter-where": state.where,
      "filter-method": state.aggregation,
      "filter-each": state.per_video,
    };
    for (const [id, value] of Object.entries(values)) if (byId(id)) byId(id).value = String(value);
    for (const box of this.panel.querySelectorAll("[name=codec]")) box.checked = state.codec.includes(box.value);
    this.exact.checked = state.exact;
    this.fillNumbers(state);
  }

  fillNumbers(state) {
    const { methods, usual } = this.ways();
    const method = methods.find((one) => one.name === (state.aggregation || usual));
    this.methodDoc.textContent = method ? `Every video is ranked by ${method.doc}.` : "";
    const fields = (method?.numbers ?? []).map(({ name: number, default: left, doc }) => {
      const given = state.numbers[number] ?? "";
      const attributes = { type: "text", inputmode: "decimal", value: given, placeholder: String(left ?? ""), title: doc };
      return this.field(number.replaceAll("_", " "), attributes, (value) => {
        const { [number]: _, ...others } = this.page.state.numbers;
        return { numbers: value.trim() ? { ...others, [number]: value.trim() } : others, cut: null };
      });
    });
    this.numbers.replaceChildren(...fields);
  }

  /** What is filtered by, each with a way to be rid of it. */
  chips(state) {
    const said = [
      state.min_duration_s !== null && ["min_duration_s", `at least ${length(state.min_duration_s)}`],
      state.max_duration_s !== null && ["max_duration_s", `at most ${length(state.max_duration_s)}`],
      state.from && ["from", `from ${day(state.from) ?? state.from}`],
      state.to && ["to", `to ${day(state.to) ?? state.to}`],
      state.folder && ["folder", `in ${state.folder}`],
      state.codec.length && ["codec", state.codec.join(" or ")],
      state.where && ["where", state.where],
    ].filter(Boolean);
    const number = byId("filters-number");
    number.hidden = !said.length;
    number.textContent = said.length || "";
    if (said.length) number.setAttribute("aria-label", `, ${many(said.length, "filter")} in use`);
    const chips = said.map(([name, text]) => {
      const remove = element("button", { type: "button", class: "chip-remove", "aria-label": `Without the filter ${text}`, title: "Remove" }, icon("close"));
      remove.addEventListener("click", () => this.page.go({ [name]: USUAL[name] }));
      return element("li", { class: "chip" }, element("span", { class: "chip-name", text }), remove);
    });
    byId("active").replaceChildren(...chips);
    byId("active").hidden = !chips.length;
  }
}

export const isFiltered = (state) => FILTERS.some((name) => String(state[name] ?? "") !== String(USUAL[name] ?? ""));

const rounded = (value) => Number(value.toFixed(3));

const minutes = (value) => (value === "" ? null : rounded(Math.max(0, Number(value) * 60)));
