// What stands where no hits do: before anything is asked, while the index is empty, and while hits are on their way.

import { element } from "./dom.js";
import { many, sentence } from "./format.js";
import { encodingNotice } from "./live.js";

const WAYS = [
  ["search", "Type", "a few words for what the moment shows. Hits come as you pause."],
  ["picture", "Drop or paste a picture", "to find moments that look like it, alone or with words."],
  ["like", "More like this", "on a hit, or on what the player shows, goes on from there."],
];

export function landing(status, isPictureLost) {
  const ways = WAYS.map(([name, what, why]) => element("li", { data: { icon: name } }, element("p", {}, element("b", { text: what }), ` ${why}`)));
  const size = status ? `${many(status.videos, "video")} to look through, ${many(status.super_images, "super image")}.` : "";
  const lost = isPictureLost && element("p", { class: "hint", text: "This link was made from a picture, which a link does not hold. Drop it here again." });
  return element("div", { class: "landing" }, element("h2", { text: "Find the moment, then watch it" }), element("p", { class: "quiet", text: size }), lost, element("ul", { class: "ways" }, ways), encodingNotice(status));
}

export function nothingEncoded(status) {
  const why = `${status.waiting ? `${sentence(status.waiting)} ` : ""}Hits will come as soon as the first videos are encoded; this page looks again every few seconds.`;
  const failed = status.failed ? element("p", {}, `${many(status.failed, "video")} could not be read. `, element("a", { href: "?view=index", text: "See why" })) : null;
  return element("div", { class: "landing" }, element("h2", { text: "Nothing is encoded yet" }), element("p", { class: "quiet", text: why }), failed, encodingNotice(status));
}

/** Places for hits that are on their way. */
export function skeletons(number = 8) {
  return Array.from({ length: number }, () => element("li", { class: "ghost", "aria-hidden": "true" }, element("div", { class: "picture" }), element("div", { class: "bone" }), element("div", { class: "bone short" })));
}
