// Selected items, and their export.

import { byId, counted, make } from "./dom.js";

/** @import { Item } from "./types.d.ts" */

const COLUMNS = /** @type {const} */ (["id", "uri", "modality", "score", "probability", "start_s", "end_s", "text"]);

/** @type {Map<string, Item>} */
const chosen = new Map();

/** @param {string} id */
export const has = (id) => chosen.has(id);

/**
 * @param {Item} item
 * @param {boolean} selected
 */
export function set(item, selected) {
  if (selected) chosen.set(item.id, item);
  else chosen.delete(item.id);
}

export const clear = () => chosen.clear();

/**
 * @param {object} actions
 * @param {(items: Item[]) => void} actions.more search for what is like all of them
 * @param {() => void} actions.clear
 */
export function draw(actions) {
  const bar = byId("selection"), items = [...chosen.values()];
  bar.hidden = !items.length;
  const button = (/** @type {string} */ label, /** @type {() => void} */ onclick) =>
    make("button", { type: "button", onclick }, label);
  bar.replaceChildren(make("strong", { role: "status" }, `${counted(items.length, "item")} selected`),
    button("More like these", () => actions.more(items)),
    button("Export JSON", () => save("selection.json", "application/json", JSON.stringify(items, null, 2))),
    button("Export CSV", () => save("selection.csv", "text/csv", csv(items))),
    button("Clear", actions.clear));
}

/**
 * RFC 4180. A text that a spreadsheet would take for a formula is preceded by an apostrophe.
 * @param {Item[]} items
 */
export function csv(items) {
  const cell = (/** @type {unknown} */ value) => {
    let text = value === null || value === undefined ? "" : typeof value === "object" ? JSON.stringify(value) : String(value);
    if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const rows = items.map((item) => [...COLUMNS.map((column) => cell(item[column])), cell(item.metadata ?? {})].join(","));
  return [[...COLUMNS, "metadata"].join(","), ...rows, ""].join("\r\n");
}

/**
 * @param {string} name
 * @param {string} type
 * @param {string} text
 */
function save(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type })), link = make("a", { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
