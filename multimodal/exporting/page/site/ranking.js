// Hits of a query: by probability over several modalities, by cosine within one. The same numbers as the index itself
// computes: a cosine is compared with those of the other rows of its modality.

import { dot } from "./network.js";

/** @import { Calibration, Hit, PageIndex } from "./types.d.ts" */

const INVERSE_TEMPERATURE = 1.25, TOP_ROWS = 32, MIN_ROWS = 10, MIN_DEVIATION = 1e-4, COSINE_TOLERANCE = 1e-5, MIN_OTHERS = 1e-12;
const PRIOR_ROWS = 10, MIN_BACKGROUND_SHARE = 0.5, NEAR = 2.25, NEAR_ROWS = 300, NEAR_PER_TENFOLD = 0.5, DEDUCTION = 3;
const SQUARED_HIGHEST = [0.6456, 0.2034, 0.3683, -0.0296];

const rounded = (/** @type {number} */ value) => Math.round(value * 1e4) / 1e4;

/**
 * The k best rows for a unit vector.
 * @param {PageIndex} index
 * @param {Float32Array} vectors (items, dim)
 * @param {Float32Array} query
 * @param {string} modality of the query
 * @param {string[]} wanted modalities of the rows; none for all
 * @param {number} k
 * @returns {{hits: Hit[], total: number, mixed: boolean}}
 */
export function rank(index, vectors, query, modality, wanted, k) {
  const counts = index.modalities, names = Object.keys(counts).filter((name) => !wanted.length || wanted.includes(name));
  const calibrated = names.every((name) => counts[name] >= MIN_ROWS), mixed = names.length > 1 && calibrated;
  const mean = index.items.length / Object.keys(counts).length, { dim } = index;
  /** @type {(Hit & {logit: number})[]} */
  const hits = [];
  for (const name of names) {
    const rows = rowsOf(index, name), cosines = new Map(rows.map((row) => [row, dot(vectors, row * dim, query, 0, dim)]));
    const order = [...rows].sort((a, b) => (cosines.get(b) ?? 0) - (cosines.get(a) ?? 0) || a - b);
    const best = order.slice(0, Math.max(k, TOP_ROWS)).map((row) => cosines.get(row) ?? 0);
    const sample = (index.calibration.sample[name] ?? rows).map((row) => cosines.get(row) ?? 0);
    const logit = calibrated ? logits(index.calibration, best.slice(0, TOP_ROWS), sample, rows.length, mean, modality, name) : null;
    let last = Infinity;
    for (const [place, score] of best.slice(0, k).entries()) {
      if (logit) last = Math.min(last, logit(score));
      hits.push({ row: order[place], score, logit: last, probability: logit ? rounded(1 / (1 + Math.exp(-last))) : null });
    }
  }
  hits.sort((a, b) => (mixed ? b.logit - a.logit : 0) || b.score - a.score || a.row - b.row);
  return { hits: hits.slice(0, k).map(({ row, score, probability }) => ({ row, score, probability })), total: names.reduce((sum, name) => sum + counts[name], 0), mixed };
}

/** @type {Map<string, number[]>} */
const known = new Map();

/**
 * @param {PageIndex} index
 * @param {string} name
 */
function rowsOf(index, name) {
  const rows = known.get(name) ?? index.items.flatMap((item, row) => (item.modality === name ? [row] : []));
  known.set(name, rows);
  return rows;
}

/**
 * How the cosines of one query with the rows of one modality become logits.
 * @param {Calibration} calibration
 * @param {number[]} top highest first
 * @param {number[]} sample
 * @param {number} n rows of the modality
 * @param {number} mean rows per modality
 * @param {string} from modality of the query
 * @param {string} to modality of the rows
 */
function logits(calibration, top, sample, n, mean, from, to) {
  const background = calibration.background[from]?.[to] ?? 0, best = top[0], last = top[top.length - 1];
  const fewer = sample.length - 1;
  const drawn = Math.sqrt((fewer * varianceWithoutHighest(sample) + PRIOR_ROWS * background ** 2) / (fewer + PRIOR_ROWS));
  const rate = INVERSE_TEMPERATURE / Math.max(drawn, MIN_BACKGROUND_SHARE * background, MIN_DEVIATION);
  const below = sample.filter((value) => value < last - COSINE_TOLERANCE), height = (/** @type {number} */ value) => Math.exp(rate * (value - best));
  const rest = below.length ? below.reduce((sum, value) => sum + height(value), 0) / below.length : height(last);
  const total = top.reduce((sum, value) => sum + height(value), 0) + Math.max(0, n - top.length) * rest;
  const [slope, intercept] = from === to ? calibration.coefficients.same : calibration.coefficients.cross;
  const centre = median(sample), rows = Math.max(2, n), near = NEAR + NEAR_PER_TENFOLD * Math.log10(Math.max(1, rows / NEAR_ROWS));
  return (/** @type {number} */ cosine) => {
    const others = Math.max(total - Math.exp(Math.min(rate * (cosine - best), 0)), MIN_OTHERS);
    const prominence = rate * (cosine - best) - Math.log(others / (rows - 1));
    const lack = Math.max(0, near - (cosine - centre) / Math.max(background, MIN_DEVIATION));
    return rounded(slope * prominence + intercept - Math.log(mean) - DEDUCTION * lack ** 2);
  };
}

/**
 * The variance of the other values, over the share of the variance that normal values keep without their highest.
 * @param {number[]} values
 */
function varianceWithoutHighest(values) {
  const n = values.length, sum = values.reduce((total, value) => total + value, 0);
  if (n <= 2) return values.reduce((total, value) => total + (value - sum / n) ** 2, 0) / n;
  const highest = values.reduce((best, value) => Math.max(best, value)), average = (sum - highest) / (n - 1);
  const squares = values.reduce((total, value) => total + (value - average) ** 2, 0) - (highest - average) ** 2;
  const square = SQUARED_HIGHEST.reduceRight((total, factor) => total * Math.log(n) + factor);
  const share = (((n - square) / (n - 1) - (n - 2 + square) / (n - 1) ** 2) * n) / (n - 1);
  return Math.max(0, squares) / (n - 1) / share;
}

/** @param {number[]} values */
function median(values) {
  const ordered = Float64Array.from(values).sort(), middle = ordered.length >> 1;
  return ordered.length % 2 ? ordered[middle] : (ordered[middle - 1] + ordered[middle]) / 2;
}
