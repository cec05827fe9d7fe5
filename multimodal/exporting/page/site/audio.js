// The audio tower: log-mels of speech -> strided convolutions -> transformer.

import { block, layerNorm, linear, meanDirection, product, softmax, spans, unit } from "./network.js";
import { Tensors } from "./tensors.js";
import { RATE_HZ, WINDOW, logMel, resampled, trimmed } from "./mels.js";
import { mean } from "./text.js";

const HEADS = 4, N_MELS = 64, TAPS = 5, QUIET = 1e-4; // QUIET: -40 dB as a ratio of powers

export class AudioTower {
  /** @param {ArrayBuffer} weights */
  constructor(weights) {
    this.tensors = new Tensors(weights);
    this.width = this.tensors.get("first.bias").length;
    for (this.layers = 0; this.tensors.stored.has(`blocks.${this.layers}.wide.weight`);) this.layers++;
    /** @type {Map<string, Float32Array>} */
    this.kernels = new Map();
  }

  /**
   * The unit vector of a recording. A longer one is split into equal windows; those far below the loudest are left out.
   * @param {Float32Array} samples
   * @param {number} rate in Hz
   * @returns {Float32Array}
   */
  encode(samples, rate) {
    const speech = rate === RATE_HZ ? samples : resampled(samples, rate, RATE_HZ);
    if (!speech.length) throw new Error("the recording is empty");
    const parts = spans(speech.length, WINDOW).map(([start, stop]) => speech.subarray(start, stop));
    const powers = parts.map((part) => part.reduce((sum, sample) => sum + sample * sample, 0) / part.length);
    const least = Math.max(...powers) * QUIET;
    return meanDirection(parts.filter((_, k) => powers[k] >= least).map((part) => this.window(trimmed(logMel(part)))));
  }

  /** @param {Float32Array} mels (frames, N_MELS) */
  window(mels) {
    const { tensors, width } = this;
    const states = this.convolution("second", this.convolution("first", mels, N_MELS), width), n = states.length / width;
    addPositions(states, width);
    for (let layer = 0; layer < this.layers; layer++) block(tensors, `blocks.${layer}`, states, n, HEADS);
    const last = layerNorm(tensors, "norm", states), weights = Float64Array.from(linear(tensors, "attend", last, n));
    softmax(weights);
    const pooled = new Float32Array(2 * width);
    for (let k = 0; k < width; k++) {
      let sum = 0;
      for (let row = 0; row < n; row++) sum += weights[row] * last[row * width + k];
      pooled[k] = sum;
    }
    pooled.set(mean(last, width), width);
    return unit(linear(tensors, "project", pooled, 1));
  }

  /**
   * A convolution over time with stride 2, and GELU.
   * @param {string} name
   * @param {Float32Array} rows (n, into)
   * @param {number} into
   */
  convolution(name, rows, into) {
    const n = rows.length / into, out = (n + 1) >> 1, patches = new Float32Array(out * TAPS * into);
    for (let row = 0; row < out; row++) for (let tap = 0; tap < TAPS; tap++) {
      const from = 2 * row + tap - 2;
      if (from >= 0 && from < n) patches.set(rows.subarray(from * into, (from + 1) * into), (row * TAPS + tap) * into);
    }
    const states = product(patches, out, this.kernel(`${name}.weight`, into), this.tensors.get(`${name}.bias`));
    for (let k = 0; k < states.length; k++) states[k] = 0.5 * states[k] * (1 + erf(states[k] * Math.SQRT1_2));
    return states;
  }

  /**
   * A kernel as (out, taps, into), the order of the patches.
   * @param {string} name
   * @param {number} into
   */
  kernel(name, into) {
    const known = this.kernels.get(name);
    if (known) return known;
    const weight = this.tensors.get(name), kernel = new Float32Array(weight.length);
    for (let o = 0; o < weight.length / into / TAPS; o++) for (let i = 0; i < into; i++) for (let k = 0; k < TAPS; k++) {
      kernel[(o * TAPS + k) * into + i] = weight[(o * into + i) * TAPS + k];
    }
    this.kernels.set(name, kernel);
    return kernel;
  }
}

/**
 * Adds sinusoids of each position, rounded to float32 where the model's are.
 * @param {Float32Array} states
 * @param {number} width
 */
function addPositions(states, width) {
  const half = width / 2;
  for (let k = 0; k < half; k++) {
    const rate = Math.fround(Math.exp(Math.fround(Math.fround(-Math.log(10_000) * k) / half)));
    for (let row = 0, at = k; at < states.length; row++, at += width) {
      const angle = Math.fround(row * rate);
      states[at] += Math.sin(angle);
      states[at + half] += Math.cos(angle);
    }
  }
}

/**
 * The error function by its series of positive terms, exact to float32.
 * @param {number} x
 */
function erf(x) {
  const size = Math.abs(x);
  if (size > 4) return Math.sign(x);
  let term = size, sum = size;
  for (let k = 1; term > 1e-10 * sum; k++) sum += term *= (2 * size * size) / (2 * k + 1);
  return Math.sign(x) * sum * 2 / Math.sqrt(Math.PI) * Math.exp(-size * size);
}
