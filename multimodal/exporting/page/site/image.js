// The image tower: a ConvNet on 64 × 64 pixels.

import { batchNorm, linear, product, unit } from "./network.js";
import { Tensors } from "./tensors.js";
import { SIDE, square } from "./pixels.js";

/** @typedef {{values: Float32Array, side: number, width: number}} Maps values: (side, side, width) */

export class ImageTower {
  /** @param {ArrayBuffer} weights */
  constructor(weights) {
    this.tensors = new Tensors(weights);
    /** @type {Map<string, Float32Array>} */
    this.kernels = new Map();
  }

  /**
   * The unit vector of an image.
   * @param {Uint8ClampedArray} rgba over white
   * @param {number} width
   * @param {number} height
   * @returns {Float32Array}
   */
  encode(rgba, width, height) {
    return this.forward(square(rgba, width, height));
  }

  /** @param {Uint8Array} pixels (64, 64, 3) */
  forward(pixels) {
    /** @type {Maps} */
    let maps = { values: Float32Array.from(pixels, (value) => Math.fround(value / 127.5) - 1), side: SIDE, width: 3 };
    maps = relu(this.convolution("maps.0", maps, 2));
    maps = this.residual("maps.4", relu(this.convolution("maps.2", maps, 2)));
    maps = this.residual("maps.8", this.residual("maps.7", relu(this.convolution("maps.5", maps, 2))));
    maps = this.inverted("maps.11", relu(this.convolution("maps.9", maps, 2)));
    const { values, width } = maps, n = values.length / width, sum = new Float64Array(width), most = new Float32Array(width).fill(-Infinity);
    for (let k = 0; k < values.length; k++) {
      sum[k % width] += values[k];
      most[k % width] = Math.max(most[k % width], values[k]);
    }
    return unit(linear(this.tensors, "project", Float32Array.from([...sum.map((value) => value / n), ...most]), 1));
  }

  /**
   * @param {string} name
   * @param {Maps} maps
   */
  residual(name, maps) {
    return relu(sum(maps, this.convolution(`${name}.second`, relu(this.convolution(`${name}.first`, maps, 1)), 1)));
  }

  /**
   * @param {string} name
   * @param {Maps} maps
   */
  inverted(name, maps) {
    const wide = relu(this.depthwise(`${name}.spread`, relu(this.convolution(`${name}.widen`, maps, 1))));
    return relu(sum(maps, this.convolution(`${name}.narrow`, wide, 1)));
  }

  /**
   * Convolution and batch normalisation.
   * @param {string} name
   * @param {Maps} maps
   * @param {number} stride
   * @returns {Maps}
   */
  convolution(name, maps, stride) {
    const [out, into, size] = this.tensors.shape(`${name}.0.weight`), side = Math.ceil(maps.side / stride);
    const patches = size === 1 ? maps.values : windows(maps, side, stride);
    const values = product(patches, side * side, this.kernel(`${name}.0.weight`, out, into, size), null);
    return { values: this.normalised(name, values, out), side, width: out };
  }

  /**
   * A 3 × 3 convolution of each channel by itself, and batch normalisation.
   * @param {string} name
   * @param {Maps} maps
   * @returns {Maps}
   */
  depthwise(name, { values, side, width }) {
    const weight = this.tensors.get(`${name}.0.weight`), result = new Float32Array(values.length);
    for (let y = 0; y < side; y++) for (let x = 0; x < side; x++) for (let channel = 0; channel < width; channel++) {
      let total = 0;
      for (let dy = -1; dy <= 1; dy++) for (let dx = -1; dx <= 1; dx++) {
        if (y + dy < 0 || y + dy >= side || x + dx < 0 || x + dx >= side) continue;
        total += values[((y + dy) * side + x + dx) * width + channel] * weight[channel * 9 + (dy + 1) * 3 + dx + 1];
      }
      result[(y * side + x) * width + channel] = total;
    }
    return { values: this.normalised(name, result, width), side, width };
  }

  /**
   * A kernel as (out, size, size, into), the order of the patches.
   * @param {string} name
   * @param {number} out
   * @param {number} into
   * @param {number} size
   */
  kernel(name, out, into, size) {
    const known = this.kernels.get(name);
    if (known) return known;
    const weight = this.tensors.get(name), area = size * size, kernel = new Float32Array(weight.length);
    for (let o = 0; o < out; o++) for (let i = 0; i < into; i++) for (let k = 0; k < area; k++) {
      kernel[(o * area + k) * into + i] = weight[(o * into + i) * area + k];
    }
    this.kernels.set(name, kernel);
    return kernel;
  }

  /**
   * @param {string} name
   * @param {Float32Array} values changed in place
   * @param {number} width
   */
  normalised(name, values, width) {
    const [scale, shift] = batchNorm(this.tensors, `${name}.1`);
    for (let start = 0; start < values.length; start += width) {
      for (let k = 0; k < width; k++) values[start + k] = values[start + k] * scale[k] + shift[k];
    }
    return values;
  }
}

/**
 * The 3 × 3 surroundings of each pixel, or of each second one, with zeros around the image.
 * @param {Maps} maps
 * @param {number} out side of the result
 * @param {number} stride
 */
function windows({ values, side, width }, out, stride) {
  const result = new Float32Array(out * out * 9 * width);
  let at = 0;
  for (let y = 0; y < out; y++) for (let x = 0; x < out; x++) {
    for (let dy = -1; dy <= 1; dy++) for (let dx = -1; dx <= 1; dx++, at += width) {
      const row = y * stride + dy, column = x * stride + dx, start = (row * side + column) * width;
      if (row >= 0 && row < side && column >= 0 && column < side) result.set(values.subarray(start, start + width), at);
    }
  }
  return result;
}

/** @param {Maps} maps */
function relu(maps) {
  const { values } = maps;
  for (let k = 0; k < values.length; k++) if (values[k] < 0) values[k] = 0;
  return maps;
}

/**
 * @param {Maps} left
 * @param {Maps} right changed
 */
function sum(left, right) {
  for (let k = 0; k < right.values.length; k++) right.values[k] += left.values[k];
  return right;
}
