// Names and places of items.

import { clock } from "./dom.js";

/** @import { Item } from "./types.d.ts" */

export const CONFIDENT = 0.87; // probability from which a hit is outlined, as in the report of the demo
export const DOUBTFUL = 0.2; // a best hit below it is called no match

/**
 * The last part of a path or of an address.
 * @param {string} uri
 */
export const baseName = (uri) => {
  const path = uri.replace(/[?#].*$/, "").replace(/\/+$/, "");
  return path.slice(path.lastIndexOf("/") + 1) || uri;
};

/**
 * A short name: the file, or the start of a text.
 * @param {Pick<Item, "id" | "uri" | "text" | "metadata">} item
 */
export function nameOf(item) {
  if (typeof item.metadata?.["name"] === "string") return item.metadata["name"]; // of an uploaded file
  if (item.uri) return baseName(item.uri);
  return item.text ? cut(item.text, 60) : baseName(item.id);
}

/**
 * @param {string} text
 * @param {number} length
 */
export function cut(text, length) {
  const line = text.slice(0, 2 * length).replace(/\s+/g, " ").trim();
  return line.length <= length ? line : `${line.slice(0, length - 1)}…`;
}

/**
 * Which part of a longer document an item is: "0:08–0:18", "page 3", "characters 300–590", or "".
 * @param {Item} item
 */
export function locationOf(item) {
  if (item.start_s !== null && item.start_s !== undefined) {
    return item.end_s === null ? clock(item.start_s) : `${clock(item.start_s)}–${clock(item.end_s)}`;
  }
  const page = /#page=(\d+)/.exec(item.id);
  const characters = typeof item.start_char === "number" ? `characters ${item.start_char}–${item.end_char}` : "";
  return [page ? `page ${page[1]}` : "", characters].filter(Boolean).join(", ");
}

/**
 * Whether an item is part of a video: a frame, a window of its sound, or a subtitle.
 * @param {Item} item
 */
export const isVideoPart = (item) =>
  item.modality === "video" || (item.start_s !== null && /#(?:frame|sound|words)=[^#]*$/.test(item.id));

/** @param {Item} item */
export const isPlayable = (item) => item.modality === "audio" || item.modality === "video" || isVideoPart(item);
