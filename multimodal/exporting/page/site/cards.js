// One item: as a card of the results, and with its media and metadata in a dialog.

import { dialog, icon, iconButton, make, meter, percent } from "./dom.js";

/** @import { Hit, Item } from "./types.d.ts" */

const SVG = "http://www.w3.org/2000/svg", CONFIDENT = 0.87;

/**
 * @typedef {object} Actions
 * @property {(row: number) => void} open
 * @property {(row: number) => void} more
 * @property {(row: number, button: HTMLElement) => void} play
 */

export const isPlayable = (/** @type {Item} */ item) => Boolean(item.media) && (item.modality === "audio" || isVideo(item));
const isVideo = (/** @type {Item} */ item) => /\.(mp4|webm|ogv|mov)$/i.test(item.media ?? "");

/** An address that cannot run a script: relative to the page, or of a web server.
 * @param {string | undefined} address
 */
export function safe(address) {
  if (!address) return null;
  const url = new URL(address, document.baseURI);
  return url.protocol === "http:" || url.protocol === "https:" ? url.href : null;
}

/** @param {number[]} peaks */
function waveform(peaks) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${4 * peaks.length - 1.6} 64`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  svg.classList.add("bars");
  for (const [k, peak] of peaks.entries()) {
    const bar = document.createElementNS(SVG, "rect"), height = Math.max(3, 60 * peak);
    for (const [name, value] of Object.entries({ x: 4 * k, y: 32 - height / 2, width: 2.4, height, rx: 1.2 })) bar.setAttribute(name, String(value));
    svg.append(bar);
  }
  return svg;
}

/** @param {Item} item */
function preview(item) {
  if (item.modality === "text") return make("span", { className: "preview quote", "aria-hidden": "true" }, (item.text ?? "").slice(0, 320));
  if (!item.thumb) return make("span", { className: "preview sound" }, item.peaks ? waveform(item.peaks) : icon(item.modality));
  return make("span", { className: "preview picture" }, make("img", { alt: "", loading: "lazy", decoding: "async", width: 256, height: 256, src: item.thumb }));
}

/**
 * The number that orders the hits: the probability over several modalities, the cosine within one.
 * @param {Hit} hit
 * @param {boolean} mixed
 */
function score({ score, probability }, mixed) {
  const probable = percent(probability);
  if (mixed && probable) return [meter(probability ?? 0, probable), make("span", { className: "other" }, `cosine ${score.toFixed(2)}`)];
  return [meter(score, score.toFixed(2)), make("span", { className: "other" }, probable && `${probable} probable`)];
}

/**
 * @param {Item} item
 * @param {number} row
 * @param {Hit | null} hit null where the items are listed without a query
 * @param {boolean} mixed
 * @param {Actions} actions
 */
export function card(item, row, hit, mixed, actions) {
  const link = make("a", { className: "open", href: `?item=${row}` }, preview(item), make("span", { className: "name", title: item.name }, item.name),
    ...(hit ? score(hit, mixed) : []), make("span", { className: hit ? "hidden" : "other" }, item.modality),
    item.place && make("span", { className: "place" }, item.place));
  link.addEventListener("click", (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return; // a new tab, as for any link
    event.preventDefault();
    actions.open(row);
  });
  const play = isPlayable(item) && item.modality === "audio" && iconButton("play", `Play ${item.name}`, (event) => {
    actions.play(row, /** @type {HTMLElement} */ (event.currentTarget));
  }, "play");
  const more = make("button", { type: "button", className: "more", title: "More like this (m)", onclick: () => actions.more(row) }, "More like this");
  const sure = (hit?.probability ?? 0) >= CONFIDENT ? " sure" : "";
  return make("li", { className: `card ${item.modality}${sure}`, "data-row": row }, link, play, more);
}

/**
 * The large view of an item.
 * @param {Item} item
 */
function stage(item) {
  const address = safe(item.media);
  if (item.modality === "text") return make("blockquote", {}, item.text ?? "");
  if (address && isPlayable(item)) {
    const player = make(isVideo(item) ? "video" : "audio", { controls: true, src: address, preload: "metadata", "aria-label": item.name });
    if (item.start_s) player.addEventListener("loadedmetadata", () => player.currentTime = item.start_s ?? 0, { once: true });
    return make("div", { className: "player" }, item.peaks && waveform(item.peaks), player);
  }
  const shown = address && item.modality === "image" && !/\.pdf$/i.test(address) ? address : item.thumb;
  if (!shown) return item.peaks ? make("div", { className: "player" }, waveform(item.peaks)) : make("p", {}, item.text ?? item.name);
  const image = make("img", { src: shown, alt: item.name });
  image.addEventListener("error", () => image.src = item.thumb ?? "", { once: true }); // a format that the browser does not show
  return image;
}

/**
 * @param {Item} item
 * @param {number} row
 * @param {{more: (row: number) => void, step: (by: number) => void, closed: () => void}} actions
 */
export function detail(item, row, actions) {
  const box = dialog(item.name, "detail", actions.closed), address = safe(item.media);
  const facts = Object.entries(item.metadata ?? {}).flatMap(([key, value]) => [make("dt", {}, key), make("dd", {}, String(value))]);
  const head = make("header", {},
    make("div", {}, make("h2", {}, item.name), make("p", { className: "soft" }, [item.modality, item.place].filter(Boolean).join(" · "))),
    make("div", { className: "tools" }, iconButton("previous", "Previous result (←)", () => actions.step(-1)),
      iconButton("next", "Next result (→)", () => actions.step(1)), iconButton("close", "Close (Esc)", () => box.close(), "tool close")));
  const like = () => {
    box.close();
    actions.more(row);
  };
  box.append(head, make("div", { className: "columns" },
    make("div", { className: `stage ${item.modality}` }, stage(item)),
    make("div", { className: "facts" },
      make("div", { className: "buttons" }, make("button", { type: "button", className: "primary", onclick: like }, "More like this"),
        address && make("a", { className: "button", href: address, target: "_blank", rel: "noopener" }, "Open the file")),
      facts.length > 0 && make("dl", {}, ...facts))));
  box.addEventListener("keydown", (event) => {
    if (event.target instanceof HTMLMediaElement) return;
    if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
      event.preventDefault();
      actions.step(event.key === "ArrowLeft" ? -1 : 1);
    } else if (event.key === "m") like();
  });
  return box;
}
