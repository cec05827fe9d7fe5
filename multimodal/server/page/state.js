// What the address of the page records, so that links, reload and Back work.

/** @import { Part, State } from "./types.d.ts" */

const KINDS = { text: "t", item: "i", file: "f" };

/** @returns {State} */
export const empty = () => ({ index: "", q: "", parts: [], modality: [], where: {}, least: 0, item: "", view: "grid" });

/**
 * @param {string} search the query string of an address
 * @returns {State}
 */
export function parse(search) {
  const state = empty(), values = new URLSearchParams(search);
  state.index = values.get("index") ?? "";
  state.q = values.get("q") ?? "";
  state.parts = values.getAll("p").map(parsePart).filter((part) => part !== null);
  state.modality = values.getAll("m").filter((name) => /^[a-z]+$/.test(name));
  state.where = parseWhere(values.get("where"));
  const least = Number(values.get("least"));
  state.least = least > 0 && least <= 1 ? least : 0;
  state.item = values.get("item") ?? "";
  state.view = values.get("view") === "map" ? "map" : "grid";
  return state;
}

/**
 * @param {State} state
 * @returns {string} an address relative to the page
 */
export function serialise(state) {
  const values = new URLSearchParams();
  if (state.index) values.set("index", state.index);
  if (state.q) values.set("q", state.q);
  for (const { kind, value, weight } of state.parts) values.append("p", `${KINDS[kind]}~${weight}~${value}`);
  for (const name of state.modality) values.append("m", name);
  if (Object.keys(state.where).length) values.set("where", JSON.stringify(state.where));
  if (state.least) values.set("least", String(state.least));
  if (state.view !== "grid") values.set("view", state.view);
  if (state.item) values.set("item", state.item);
  const query = values.toString();
  return query ? `?${query}` : "./";
}

/**
 * All parts of the query, the text of the field first.
 * @param {State} state
 * @returns {Part[]}
 */
export function partsOf(state) {
  const text = state.q.trim();
  return text ? [{ kind: "text", value: text, weight: 1 }, ...state.parts] : state.parts;
}

/**
 * What decides which items are shown, as a key; the open item and the view do not.
 * @param {State} state
 */
export const queryKey = (state) =>
  JSON.stringify([state.index, partsOf(state), state.modality, state.where, state.least]);

/**
 * @param {string} text such as "t~-0.7~people"
 * @returns {Part | null}
 */
function parsePart(text) {
  const match = /^([tif])~(-?[0-9.]+)~(.+)$/s.exec(text);
  if (!match) return null;
  const weight = Number(match[2]), value = match[3] ?? "";
  if (!Number.isFinite(weight) || weight === 0) return null;
  return { kind: match[1] === "t" ? "text" : match[1] === "i" ? "item" : "file", value, weight };
}

/**
 * @param {string | null} text
 * @returns {State["where"]}
 */
function parseWhere(text) {
  if (!text) return {};
  try {
    const where = JSON.parse(text);
    const pairs = Object.entries(where).filter(([, values]) => Array.isArray(values) && values.length);
    return Object.fromEntries(pairs);
  } catch {
    return {};
  }
}
