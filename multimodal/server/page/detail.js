// One item: its media at the second of the hit, why it was found, what lies before and after it, its metadata.

import * as api from "./api.js";
import { clock, dialog, iconButton, make, meter, percent, toast } from "./dom.js";
import { isPlayable, isVideoPart, locationOf, nameOf } from "./items.js";
import { preview, waveform } from "./cards.js";
import { partsOf } from "./state.js";

/** @import { Config, Item, Part, State } from "./types.d.ts" */

/**
 * @typedef {object} DetailActions
 * @property {() => void} close
 * @property {(step: number) => void} step to the previous or next result
 * @property {(item: Item) => void} open another item
 * @property {(item: Item) => void} more
 * @property {(item: Item, weight: number) => void} add to the query
 * @property {(item: Item) => void} draw
 * @property {(part: Part) => Promise<string>} nameOf a part of the query
 */

/** @type {HTMLDialogElement | null} */
let shown = null;
let shownId = "";
let closing = false; // because the address changed, not by the user

export const isOpen = () => shown !== null;

export function close() {
  if (!shown) return;
  closing = true;
  shown.close();
}

/**
 * @param {State} state
 * @param {Item} item
 * @param {Config} config
 * @param {DetailActions} actions
 */
export function open(state, item, config, actions) {
  if (shown && shownId === item.id) return;
  if (!shown) {
    const element = dialog("Item", "detail", () => {
      shown = null;
      shownId = "";
      if (!closing) actions.close();
      closing = false;
    });
    element.addEventListener("keydown", (event) => keys(event, element, actions));
    shown = element;
    element.showModal();
  }
  shownId = item.id;
  shown.setAttribute("aria-label", nameOf(item));
  shown.replaceChildren(...content(state, item, config, actions));
  shown.scrollTop = 0;
  /** @type {HTMLElement | null} */ (shown.querySelector("button.close"))?.focus();
}

/**
 * @param {KeyboardEvent} event
 * @param {HTMLElement} element
 * @param {DetailActions} actions
 */
function keys(event, element, actions) {
  if (event.target instanceof HTMLMediaElement || event.target instanceof HTMLInputElement) return;
  if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
    event.preventDefault();
    actions.step(event.key === "ArrowLeft" ? -1 : 1);
  } else if (event.key === "p") {
    const player = element.querySelector("audio, video");
    if (player instanceof HTMLMediaElement) void (player.paused ? player.play() : player.pause());
  } else if (event.key === "m") {
    /** @type {HTMLElement | null} */ (element.querySelector("button.like"))?.click();
  }
}

/**
 * @param {State} state
 * @param {Item} item
 * @param {Config} config
 * @param {DetailActions} actions
 */
function content(state, item, config, actions) {
  const place = locationOf(item), kind = isVideoPart(item) ? "video" : item.modality;
  const head = make("header", {},
    make("div", {}, make("h2", {}, nameOf(item)),
      make("p", { className: "soft" }, [kind, place].filter(Boolean).join(" · "))),
    make("div", { className: "tools" },
      iconButton("previous", "Previous result (←)", () => actions.step(-1)),
      iconButton("next", "Next result (→)", () => actions.step(1)),
      iconButton("close", "Close (Esc)", () => shown?.close(), "tool close")));
  const said = make("p", { className: "caption", role: "status" });
  const button = (/** @type {string} */ label, /** @type {() => void} */ onclick, className = "") =>
    make("button", { type: "button", className, onclick }, label);
  const buttons = make("div", { className: "buttons" },
    button("More like this", () => actions.more(item), "like primary"),
    button("Add to query", () => actions.add(item, 1)),
    button("Exclude", () => actions.add(item, -0.5)),
    config.captions && button("Caption", () => void showCaption(state, item, said)),
    config.drawing && button("Draw", () => actions.draw(item)),
    item.modality !== "text" && make("a", { className: "button", href: api.media(state.index, item.id), download: nameOf(item) },
      "Download"));
  const why = make("section", { className: "why", "aria-label": "Why it was found" });
  void explain(state, item, why, actions);
  const around = make("section", { className: "around", "aria-label": "Before and after" });
  void showNeighbours(state, item, around, actions);
  return [head, make("div", { className: "columns" },
    make("div", { className: `stage ${item.modality}` }, stage(state, item)),
    make("div", { className: "facts" }, buttons, said, why, metadata(item))), around];
}

/**
 * @param {State} state
 * @param {Item} item
 */
function stage(state, item) {
  if (isPlayable(item)) return player(state, item);
  if (item.modality === "text") return make("blockquote", {}, item.text ?? "");
  const image = make("img", { alt: nameOf(item), src: api.media(state.index, item.id) });
  image.addEventListener("error", () => {
    const smaller = api.thumb(state.index, item.id); // a page of a document, or a format that the browser does not show
    if (image.src.endsWith(smaller)) image.replaceWith(make("p", {}, "The file is gone, or cannot be shown."));
    else image.src = smaller;
  });
  return image;
}

/**
 * The browser's player, at the second at which the hit starts.
 * @param {State} state
 * @param {Item} item
 */
function player(state, item) {
  const start = item.start_s ?? 0, video = isVideoPart(item);
  const media = make(video ? "video" : "audio", { controls: true, preload: "metadata" });
  media.setAttribute("aria-label", nameOf(item));
  media.addEventListener("loadedmetadata", () => {
    if (start) media.currentTime = start;
  }, { once: true });
  media.src = api.media(state.index, item.id);
  const failure = make("p", { className: "soft", hidden: true }, "This browser cannot play the file.");
  media.addEventListener("error", () => (failure.hidden = false));
  const jump = start > 0 && make("button", {
    type: "button", className: "primary", onclick: () => {
      media.currentTime = start;
      void media.play();
    },
  }, `Play from ${clock(start)}`);
  const quote = item.modality === "text" && item.text && make("blockquote", {}, item.text);
  return make("div", { className: "player" }, !video && waveform(state.index, item), quote, media, jump, failure);
}

/** @param {Item} item */
function metadata(item) {
  const pairs = Object.entries(item.metadata ?? {}).filter(([, value]) => value !== null);
  if (item.uri) pairs.push(["file", item.uri]);
  if (item.id !== item.uri) pairs.push(["id", item.id]);
  return make("dl", {}, ...pairs.flatMap(([key, value]) => [make("dt", {}, key), make("dd", {}, String(value))]));
}

/**
 * @param {State} state
 * @param {Item} item
 * @param {HTMLElement} section
 * @param {DetailActions} actions
 */
async function explain(state, item, section, actions) {
  const parts = partsOf(state);
  if (!parts.length) return section.remove();
  try {
    const hits = await api.explain(state, item.id, parts);
    const names = await Promise.all(parts.map((part) => actions.nameOf(part)));
    const rows = hits.flatMap((hit, k) => {
      const cosine = hit?.score, name = names[k] ?? "", weight = parts[k]?.weight ?? 1;
      if (typeof cosine !== "number") return [];
      const sign = weight < 0 ? "− " : parts.length > 1 ? "+ " : "";
      return [make("dt", {}, `${sign}${name}`), make("dd", {}, meter(cosine, cosine.toFixed(2)))];
    });
    const whole = typeof item.probability === "number" && make("p", { className: "probable" },
      make("strong", {}, percent(item.probability)), " probability that this is what the query means");
    if (!rows.length && !whole) return section.remove();
    section.replaceChildren(...[make("h3", {}, "Why"), whole,
      rows.length > 0 && make("dl", { className: "cosines" }, ...rows),
      rows.length > 0 && make("p", { className: "hint" }, "Cosine similarity with each part of the query, −1 to 1.")]
      .filter((part) => part !== false));
  } catch {
    section.remove(); // an item that was deleted meanwhile
  }
}

/**
 * @param {State} state
 * @param {Item} item
 * @param {HTMLElement} section
 * @param {DetailActions} actions
 */
async function showNeighbours(state, item, section, actions) {
  try {
    const { kind, items } = await api.neighbours(state.index, item.id);
    if (items.length < 2) return section.remove();
    const title = kind === "document" ? "In the same recording or document" : "Around the same time";
    const list = make("ol", { role: "list" }, ...items.map((other) => make("li", { className: other.modality },
      make("button", {
        type: "button", "aria-current": other.id === item.id ? "true" : null, onclick: () => actions.open(other),
      }, preview(state.index, other), make("span", { className: "name" }, locationOf(other) || nameOf(other))))));
    section.replaceChildren(make("h3", {}, title), list);
    list.querySelector("[aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });
  } catch {
    section.remove();
  }
}

/**
 * @param {State} state
 * @param {Item} item
 * @param {HTMLElement} said
 */
async function showCaption(state, item, said) {
  said.textContent = "…";
  try {
    said.textContent = `“${(await api.caption(state.index, item.id)).text}”`;
  } catch (error) {
    said.textContent = "";
    toast(error instanceof Error ? error.message : String(error), true);
  }
}
