// The server's endpoints. All calls of the page go through this module.

import * as store from "./store.js";
import { partsOf } from "./state.js";

/** @import { Answer, Config, Facets, Item, Page, Part, PointMap, State, Upload } from "./types.d.ts" */

/** An error answered by the server, with its own words. */
export class ServerError extends Error {
  /**
   * @param {number} status
   * @param {string} message
   */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/**
 * @param {string} path relative to the page
 * @param {RequestInit} [options]
 */
async function call(path, options = {}) {
  const answer = await fetch(path, { credentials: "same-origin", ...options });
  if (answer.ok) return answer;
  const reason = await answer.json().then((body) => body.error.message, () => `the server answered ${answer.status}`);
  throw new ServerError(answer.status, reason);
}

/**
 * @param {string} path
 * @param {RequestInit} [options]
 * @returns {Promise<any>}
 */
const request = async (path, options) => (await call(path, options)).json();

/**
 * @param {unknown} value
 * @param {AbortSignal} [signal]
 * @returns {RequestInit}
 */
const posting = (value, signal) => ({
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify(value),
  ...(signal ? { signal } : {}),
});

/**
 * @param {string} path
 * @param {unknown} value
 * @param {AbortSignal} [signal]
 */
const post = (path, value, signal) => request(path, posting(value, signal));

/** @param {Record<string, string | number>} values those that are empty are left out */
function query(values) {
  const pairs = Object.entries(values).filter(([, value]) => value !== "").map(([key, value]) => [key, String(value)]);
  const text = new URLSearchParams(pairs).toString();
  return text ? `?${text}` : "";
}

/** @returns {Promise<Config>} */
export const config = () => request("page/config");

/** @param {string} key the key of the server; kept as a cookie that scripts cannot read */
export const signIn = (key) => post("page/key", { key });

/**
 * The parts of a query as the server takes them. A file that this browser does not have is left out.
 * @param {Part[]} parts
 */
async function bodyParts(parts) {
  const bodies = await Promise.all(parts.map(async ({ kind, value, weight }) => {
    if (kind === "text") return { text: value, weight };
    if (kind === "item") return { id: value, weight };
    const kept = await store.find(value);
    return kept ? { [kept.kind]: kept.uri, weight } : null;
  }));
  return bodies.filter((body) => body !== null);
}

/** @param {State} state */
const filtersOf = (state) => ({
  ...(state.index ? { index: state.index } : {}),
  ...(state.modality.length ? { modality: state.modality } : {}),
  ...(Object.keys(state.where).length ? { where: state.where } : {}),
});

/**
 * A page of hits, or of all items if there is no query.
 * @param {State} state
 * @param {number} offset
 * @param {number} limit
 * @param {AbortSignal} [signal]
 * @returns {Promise<Page>}
 */
export async function search(state, offset, limit, signal) {
  const started = performance.now(), parts = await bodyParts(partsOf(state));
  if (!parts.length) return browse(state, offset, limit, signal);
  const body = { parts, k: limit, offset, ...filtersOf(state), ...(state.least ? { min_probability: state.least } : {}) };
  const answer = await post("v1/search", body, signal);
  return { items: answer.hits, total: null, note: answer.note ?? "", ms: performance.now() - started };
}

/**
 * @param {State} state
 * @param {number} offset
 * @param {number} limit
 * @param {AbortSignal} [signal]
 * @returns {Promise<Page>}
 */
async function browse(state, offset, limit, signal) {
  const started = performance.now();
  const answer = await post("page/items", { offset, limit, ...filtersOf(state) }, signal);
  return { items: answer.data, total: answer.total, note: "", ms: performance.now() - started };
}

/**
 * The cosine and the probability of one item for each part of the query by itself.
 * @param {State} state
 * @param {string} id
 * @param {Part[]} parts
 * @returns {Promise<(Item | null)[]>}
 */
export const explain = (state, id, parts) =>
  Promise.all(parts.map(async (part) => {
    const bodies = await bodyParts([{ ...part, weight: 1 }]);
    if (!bodies.length || (part.kind === "item" && part.value === id)) return null;
    const body = { parts: bodies, k: 1, ids: [id], ...(state.index ? { index: state.index } : {}) };
    return (await post("v1/search", body)).hits[0] ?? null;
  }));

/**
 * @param {State} state
 * @param {AbortSignal} [signal]
 * @returns {Promise<Facets>}
 */
export const facets = (state, signal) => post("page/facets", filtersOf(state), signal);

/**
 * @param {string} index
 * @param {string} id
 * @returns {Promise<Item>}
 */
export const item = (index, id) => request(`v1/items/${encodeURIComponent(id)}${query({ index })}`);

/**
 * Items before and after one in time: of the same recording, or else by the time of their files.
 * @param {string} index
 * @param {string} id
 * @returns {Promise<{kind: "document" | "time", items: Item[]}>}
 */
export const neighbours = (index, id) => post("page/neighbours", { id, ...(index ? { index } : {}) });

/**
 * @param {string} index
 * @param {string} id
 */
export const thumb = (index, id) => `v1/items/${encodeURIComponent(id)}/thumb${query({ index })}`;

/**
 * @param {string} index
 * @param {string} id
 */
export const media = (index, id) => `v1/items/${encodeURIComponent(id)}/media${query({ index })}`;

/**
 * A drawing of the waveform of an audio item.
 * @param {string} index
 * @param {string} id
 */
export const wave = (index, id) => `page/wave${query({ index, id })}`;

/**
 * @param {string} index
 * @param {string} id
 * @returns {Promise<{text: string}>}
 */
export const caption = (index, id) => post("page/caption", { id, ...(index ? { index } : {}) });

/**
 * Draws an image from a query.
 * @param {string} index
 * @param {Part[]} parts
 * @param {number} seed
 * @param {AbortSignal} [signal]
 */
export async function draw(index, parts, seed, signal) {
  const body = { parts: await bodyParts(parts), seed, ...(index ? { index } : {}) };
  return (await call("page/draw", posting(body, signal))).blob();
}

/**
 * @param {string} index
 * @param {AbortSignal} [signal]
 * @returns {Promise<PointMap>}
 */
export const map = (index, signal) => request(`page/map${query({ index })}`, signal ? { signal } : {});

/**
 * Adds one file to an index.
 * @param {string} index
 * @param {File} file
 * @returns {Promise<Upload>}
 */
export async function upload(index, file) {
  const form = new FormData();
  form.append("file", file, file.name);
  if (index) form.append("index", index);
  try {
    const answer = await request("v1/items", { method: "POST", body: form });
    const failure = answer.failed?.[0];
    return { name: file.name, ok: !failure, reason: failure?.reason ?? (answer.unchanged ? "already there" : "added") };
  } catch (error) {
    return { name: file.name, ok: false, reason: error instanceof Error ? error.message : String(error) };
  }
}

/**
 * @param {string} index
 * @param {string} id
 */
export const remove = (index, id) =>
  request(`v1/items/${encodeURIComponent(id)}${query({ index })}`, { method: "DELETE" });

/**
 * The answer of an index to a question.
 * @param {string} index "" for the first one
 * @param {string} question
 * @returns {Promise<Answer>}
 */
export async function ask(index, question) {
  const reply = await post("v1/chat/completions", { model: `index:${index}`, messages: [{ role: "user", content: question }] });
  const { message } = reply.choices[0], about = reply.answer;
  const citations = (message.annotations ?? []).map((/** @type {any} */ { url_citation: { url, title, quote } }) =>
    ({ id: decodeURIComponent(url.replace("multimodal://item/", "")), title, quote }));
  return { text: message.content ?? message.refusal, citations, refused: about.refused, model: about.model, removed: about.dropped.citations };
}
