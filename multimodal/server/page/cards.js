// One item as a card of the grid.

import * as api from "./api.js";
import { icon, iconButton, make, meter, percent } from "./dom.js";
import { CONFIDENT, cut, isPlayable, isVideoPart, locationOf, nameOf } from "./items.js";

/** @import { Item, State } from "./types.d.ts" */

/**
 * @typedef {object} CardActions
 * @property {(item: Item) => string} href address of the page with the item open
 * @property {(item: Item) => void} open
 * @property {(item: Item, button: HTMLElement) => void} play
 * @property {(item: Item) => void} more
 * @property {(item: Item, selected: boolean, range: boolean) => void} select
 * @property {(id: string) => boolean} isSelected
 */

/**
 * The image, text or waveform of an item, without controls.
 * @param {string} index
 * @param {Item} item
 */
export function preview(index, item) {
  if (item.modality === "text") return make("span", { className: "preview quote", "aria-hidden": "true" }, cut(item.text ?? "", 320));
  if (item.modality === "audio") return make("span", { className: "preview sound" }, waveform(index, item));
  const image = make("img", { alt: "", loading: "lazy", decoding: "async", width: 256, height: 256 });
  image.addEventListener("error", () => image.replaceWith(make("span", { className: "gone" }, icon(item.modality))));
  image.src = api.thumb(index, item.id);
  return make("span", { className: "preview picture" }, image);
}

/**
 * A waveform in the colour of audio: the drawing is a mask, so that it follows light and dark.
 * @param {string} index
 * @param {Item} item
 */
export function waveform(index, item) {
  const wave = make("span", { className: "wave" });
  const url = `url("${new URL(api.wave(index, item.id), document.baseURI).href.replace(/["\\\n]/g, "")}")`;
  wave.style.maskImage = url;
  return wave;
}

/**
 * The number that orders the hits: the probability over several modalities, the cosine within one.
 * @param {Item} item
 * @param {boolean} mixed
 * @returns {{share: number, shown: string, other: string} | null} null if the item is no hit
 */
export function scoreOf(item, mixed) {
  if (typeof item.score !== "number") return null;
  const probable = percent(item.probability), cosine = item.score.toFixed(2);
  if (!mixed || !probable) return { share: item.score, shown: cosine, other: probable && `${probable} probable` };
  return { share: item.probability ?? 0, shown: probable, other: `cosine ${cosine}` };
}

/**
 * @param {State} state
 * @param {Item} item
 * @param {boolean} mixed
 * @param {CardActions} actions
 */
export function card(state, item, mixed, actions) {
  const name = nameOf(item), place = locationOf(item), score = scoreOf(item, mixed);
  const link = make(
    "a",
    { className: "open", href: actions.href(item), tabIndex: -1 },
    preview(state.index, item),
    make("span", { className: "name", title: name }, name),
    score && meter(score.share, score.shown),
    score && make("span", { className: "other" }, score.other),
    make("span", { className: score ? "hidden" : "other" }, isVideoPart(item) ? "video" : item.modality),
    place && make("span", { className: "place" }, place),
  );
  link.addEventListener("click", (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return; // a new tab, as for any link
    event.preventDefault();
    actions.open(item);
  });
  const box = make("input", { type: "checkbox", className: "pick", "aria-label": `Select ${name}`, tabIndex: -1 });
  box.checked = actions.isSelected(item.id);
  box.addEventListener("click", (event) => actions.select(item, box.checked, event.shiftKey));
  const play = isPlayable(item) && iconButton("play", `Play ${name}`, (event) => {
    actions.play(item, /** @type {HTMLElement} */ (event.currentTarget));
  }, "play");
  const more = make(
    "button",
    { type: "button", className: "more", title: "More like this (m)", onclick: () => actions.more(item) },
    "More like this",
  );
  if (play) play.tabIndex = -1;
  more.tabIndex = -1;
  const sure = (item.probability ?? 0) >= CONFIDENT ? " sure" : "";
  return make("li", { className: `card ${item.modality}${sure}`, "data-id": item.id }, link, box, play, more);
}
