// The text tower: tokens -> transformer, and a linear map of the mean token beside it.

import { block, layerNorm, linear, meanDirection, spans, unit } from "./network.js";
import { Tensors } from "./tensors.js";
import { Tokenizer } from "./tokenizer.js";

/** @import { Vocabulary } from "./types.d.ts" */

const HEADS = 4;

export class TextTower {
  /**
   * @param {ArrayBuffer} weights
   * @param {Vocabulary} vocabulary
   */
  constructor(weights, vocabulary) {
    this.tensors = new Tensors(weights);
    this.tokenizer = new Tokenizer(vocabulary);
    const [longest, width] = this.tensors.shape("positions");
    this.longest = longest;
    this.width = width;
    for (this.layers = 0; this.tensors.stored.has(`blocks.${this.layers}.wide.weight`);) this.layers++;
  }

  /**
   * The unit vector of a text. One of more tokens than the tower takes is split into equal windows.
   * @param {string} text
   * @returns {Float32Array}
   */
  encode(text) {
    const tokens = this.tokenizer.tokens(text);
    return meanDirection(spans(tokens.length, this.longest).map(([start, stop]) => this.window(tokens.slice(start, stop))));
  }

  /** @param {number[]} tokens */
  window(tokens) {
    const { tensors, width } = this, n = tokens.length, wordWidth = tensors.shape("tokens.weight")[1];
    const words = new Float32Array(n * wordWidth), positions = tensors.get("positions");
    tokens.forEach((token, k) => words.set(tensors.row("tokens.weight", token), k * wordWidth));
    const states = linear(tensors, "widen", words, n);
    for (let k = 0; k < states.length; k++) states[k] += positions[k];
    for (let layer = 0; layer < this.layers; layer++) block(tensors, `blocks.${layer}`, states, n, HEADS);
    const vector = linear(tensors, "project", mean(layerNorm(tensors, "norm", states), width), 1);
    const direct = linear(tensors, "direct", mean(words, wordWidth), 1);
    return unit(vector.map((value, k) => value + direct[k]));
  }
}

/**
 * The mean of rows.
 * @param {Float32Array} rows
 * @param {number} width
 * @returns {Float32Array}
 */
export function mean(rows, width) {
  const sum = new Float64Array(width), n = rows.length / width;
  for (let k = 0; k < rows.length; k++) sum[k % width] += rows[k];
  return Float32Array.from(sum, (value) => value / n);
}
