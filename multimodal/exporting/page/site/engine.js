// Runs in a worker: encodes queries with the towers of the model, and searches. A tower is loaded when it is first used.

import { unit } from "./network.js";
import { rank } from "./ranking.js";
import { bytes, fromHalf } from "./tensors.js";
import { TextTower } from "./text.js";

/** @import { PageIndex, Query, Reply, Request } from "./types.d.ts" */

const ABOUT = "index.json";

/** @type {Map<string, Promise<any>>} */
const loading = new Map();

/**
 * Starts a job once; it may be tried again after a failure.
 * @template T
 * @param {string} name
 * @param {() => Promise<T>} start
 * @returns {Promise<T>}
 */
function once(name, start) {
  const running = loading.get(name);
  if (running) return running;
  const job = start();
  loading.set(name, job);
  job.catch(() => loading.delete(name));
  return job;
}

/** @returns {Promise<PageIndex>} */
const about = () => once(ABOUT, async () => JSON.parse(new TextDecoder().decode(await bytes(ABOUT))));
const weights = (/** @type {string} */ name) => bytes(`model/${name}.safetensors`);

const text = () => once("text", async () => {
  const [file, vocabulary] = await Promise.all([weights("text"), bytes("model/vocabulary.json")]);
  return new TextTower(file, JSON.parse(new TextDecoder().decode(vocabulary)));
});
const image = () => once("image", async () => {
  const [{ ImageTower }, file] = await Promise.all([import("./image.js"), weights("image")]);
  return new ImageTower(file);
});
const audio = () => once("audio", async () => {
  const [{ AudioTower }, file] = await Promise.all([import("./audio.js"), weights("audio")]);
  return new AudioTower(file);
});

/** The vectors of all items, one after the other. */
const vectors = () => once("vectors", async () => {
  const [{ vectors: kind, dim, items }, file] = await Promise.all([about(), bytes("vectors.bin")]);
  if (kind === "float32") return new Float32Array(file);
  if (kind === "float16") return fromHalf(new Uint16Array(file));
  const scales = new Float32Array(file, 0, items.length), whole = new Int8Array(file, 4 * items.length);
  return Float32Array.from(whole, (value, k) => value * scales[Math.floor(k / dim)]);
});

/**
 * The vector of a query as its tower computes it, or of an item.
 * @param {Query} query
 * @param {number} dim
 * @returns {Promise<Float32Array>}
 */
async function whole(query, dim) {
  if (query.kind === "text") return (await text()).encode(query.text);
  if (query.kind === "image") return (await image()).encode(query.pixels, query.width, query.height);
  if (query.kind === "audio") return (await audio()).encode(query.samples, query.rate);
  return (await vectors()).slice(query.row * dim, (query.row + 1) * dim);
}

/**
 * The unit vector of a query; of a truncated space, its first numbers.
 * @param {Query} query
 * @returns {Promise<Float32Array>}
 */
export async function encode(query) {
  const { dim } = await about(), vector = await whole(query, dim);
  return vector.length > dim ? unit(vector.slice(0, dim)) : vector;
}

/**
 * @param {Request} request
 * @returns {Promise<Reply>}
 */
export async function answer({ id, query, modalities, k }) {
  const began = performance.now();
  try {
    const [vector, index, rows] = await Promise.all([encode(query), about(), vectors()]);
    const modality = query.kind === "row" ? index.items[query.row].modality : query.kind;
    return { id, result: { ...rank(index, rows, vector, modality, modalities, k), vector, ms: performance.now() - began } };
  } catch (error) {
    return { id, error: error instanceof Error ? error.message : String(error) };
  }
}

addEventListener("message", async ({ data }) => postMessage(await answer(data)));
void Promise.all([about(), vectors()]).catch(() => {}); // a failure is told with the first answer
void about().then(({ towers }) => (towers.includes("text") ? text() : null)).catch(() => {});
