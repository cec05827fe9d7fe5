// Layers that the towers share. Sums are made in float64 and stored in float32.

/** @import { Tensors } from "./tensors.js" */

const EPSILON = 1e-5; // of both normalisations, as in PyTorch

/**
 * rows (n, into) -> (n, out): rows · weightᵀ + bias. Four rows and two outputs at a time, so that a number that is
 * loaded is used more than once.
 * @param {Float32Array} rows
 * @param {number} n
 * @param {Float32Array} weight (out, into)
 * @param {Float32Array | null} bias (out,)
 * @returns {Float32Array}
 */
export function product(rows, n, weight, bias) {
  const into = rows.length / n, out = weight.length / into, result = new Float32Array(n * out);
  const pairs = out - (out % 2);
  let row = 0;
  for (; row + 4 <= n; row += 4) {
    const a = row * into, b = a + into, c = b + into, d = c + into;
    for (let column = 0; column < pairs; column += 2) {
      const w = column * into, v = w + into;
      let a0 = 0, b0 = 0, c0 = 0, d0 = 0, a1 = 0, b1 = 0, c1 = 0, d1 = 0;
      for (let k = 0; k < into; k++) {
        const first = weight[w + k], second = weight[v + k], x = rows[a + k], y = rows[b + k], z = rows[c + k], u = rows[d + k];
        a0 += x * first; a1 += x * second;
        b0 += y * first; b1 += y * second;
        c0 += z * first; c1 += z * second;
        d0 += u * first; d1 += u * second;
      }
      const p = bias ? bias[column] : 0, q = bias ? bias[column + 1] : 0, at = row * out + column;
      result[at] = a0 + p; result[at + 1] = a1 + q;
      result[at + out] = b0 + p; result[at + out + 1] = b1 + q;
      result[at + 2 * out] = c0 + p; result[at + 2 * out + 1] = c1 + q;
      result[at + 3 * out] = d0 + p; result[at + 3 * out + 1] = d1 + q;
    }
    for (let r = row; r < row + 4; r++) for (let column = pairs; column < out; column++) {
      result[r * out + column] = dot(rows, r * into, weight, column * into, into) + (bias ? bias[column] : 0);
    }
  }
  for (; row < n; row++) {
    for (let column = 0; column < out; column++) {
      result[row * out + column] = dot(rows, row * into, weight, column * into, into) + (bias ? bias[column] : 0);
    }
  }
  return result;
}

/**
 * @param {Float32Array} left
 * @param {number} i where its numbers start
 * @param {Float32Array} right
 * @param {number} j
 * @param {number} n
 */
export function dot(left, i, right, j, n) {
  let a = 0, b = 0, c = 0, d = 0, k = 0;
  for (; k + 4 <= n; k += 4) {
    a += left[i + k] * right[j + k];
    b += left[i + k + 1] * right[j + k + 1];
    c += left[i + k + 2] * right[j + k + 2];
    d += left[i + k + 3] * right[j + k + 3];
  }
  for (; k < n; k++) a += left[i + k] * right[j + k];
  return a + b + c + d;
}

/**
 * @param {Tensors} tensors
 * @param {string} name
 * @param {Float32Array} rows
 * @param {number} n
 */
export const linear = (tensors, name, rows, n) =>
  product(rows, n, tensors.get(`${name}.weight`), tensors.get(`${name}.bias`));

/**
 * Layer normalisation of each row.
 * @param {Tensors} tensors
 * @param {string} name
 * @param {Float32Array} rows
 * @returns {Float32Array}
 */
export function layerNorm(tensors, name, rows) {
  const weight = tensors.get(`${name}.weight`), bias = tensors.get(`${name}.bias`), width = weight.length;
  const result = new Float32Array(rows.length);
  for (let start = 0; start < rows.length; start += width) {
    let sum = 0, squares = 0;
    for (let k = 0; k < width; k++) sum += rows[start + k];
    const mean = sum / width;
    for (let k = 0; k < width; k++) squares += (rows[start + k] - mean) ** 2;
    const scale = 1 / Math.sqrt(squares / width + EPSILON);
    for (let k = 0; k < width; k++) result[start + k] = (rows[start + k] - mean) * scale * weight[k] + bias[k];
  }
  return result;
}

/**
 * A pre-norm transformer block over one sequence; the MLP has squared ReLU. Changes the states (n, width).
 * @param {Tensors} tensors
 * @param {string} name
 * @param {Float32Array} states
 * @param {number} n
 * @param {number} heads
 */
export function block(tensors, name, states, n, heads) {
  add(states, attention(tensors, `${name}.attention`, layerNorm(tensors, `${name}.attention_norm`, states), n, heads));
  const wide = linear(tensors, `${name}.wide`, layerNorm(tensors, `${name}.wide_norm`, states), n);
  for (let k = 0; k < wide.length; k++) wide[k] = wide[k] > 0 ? wide[k] * wide[k] : 0;
  add(states, linear(tensors, `${name}.narrow`, wide, n));
}

/**
 * @param {Float32Array} target
 * @param {Float32Array} values
 */
function add(target, values) {
  for (let k = 0; k < target.length; k++) target[k] += values[k];
}

/**
 * Multi-head self-attention.
 * @param {Tensors} tensors
 * @param {string} name
 * @param {Float32Array} states (n, width)
 * @param {number} n
 * @param {number} heads
 */
function attention(tensors, name, states, n, heads) {
  const joint = linear(tensors, `${name}.into`, states, n), width = states.length / n, size = width / heads;
  const mixed = new Float32Array(n * width), weights = new Float64Array(n), root = Math.sqrt(size);
  for (let head = 0; head < heads; head++) {
    for (let to = 0; to < n; to++) {
      const query = to * 3 * width + head * size, at = to * width + head * size;
      for (let from = 0; from < n; from++) {
        weights[from] = dot(joint, query, joint, from * 3 * width + width + head * size, size) / root;
      }
      softmax(weights);
      for (let k = 0; k < size; k++) {
        let sum = 0;
        for (let from = 0; from < n; from++) sum += weights[from] * joint[from * 3 * width + 2 * width + head * size + k];
        mixed[at + k] = sum;
      }
    }
  }
  return linear(tensors, `${name}.out`, mixed, n);
}

/** @param {Float64Array} values changed in place */
export function softmax(values) {
  let most = -Infinity, sum = 0;
  for (const value of values) most = Math.max(most, value);
  for (let k = 0; k < values.length; k++) sum += values[k] = Math.exp(values[k] - most);
  for (let k = 0; k < values.length; k++) values[k] /= sum;
}

/**
 * Divides a vector by its length, in place.
 * @template {Float32Array | Float64Array} T
 * @param {T} vector
 * @returns {T}
 */
export function unit(vector) {
  let squares = 0;
  for (const value of vector) squares += value * value;
  const length = Math.max(Math.sqrt(squares), 1e-12);
  for (let k = 0; k < vector.length; k++) vector[k] /= length;
  return vector;
}

/**
 * The mean direction of vectors.
 * @param {Float32Array[]} vectors
 * @returns {Float32Array}
 */
export function meanDirection(vectors) {
  const sum = new Float64Array(vectors[0].length);
  for (const vector of vectors) vector.forEach((value, k) => sum[k] += value);
  return Float32Array.from(unit(sum));
}

/**
 * The fewest spans of at most `most` that split n, without overlap.
 * @param {number} n
 * @param {number} most
 * @returns {[number, number][]}
 */
export function spans(n, most) {
  const count = Math.max(1, Math.ceil(n / most));
  return Array.from({ length: count }, (_, k) => [Math.floor((n * k) / count), Math.floor((n * (k + 1)) / count)]);
}

/** As PyTorch and PyTorch's batch normalisation: the scale and the shift of each channel.
 * @param {Tensors} tensors
 * @param {string} name
 * @returns {[Float64Array, Float64Array]}
 */
export function batchNorm(tensors, name) {
  const [weight, bias, mean, variance] = ["weight", "bias", "running_mean", "running_var"].map((part) => tensors.get(`${name}.${part}`));
  const scale = Float64Array.from(weight, (value, k) => value / Math.sqrt(variance[k] + EPSILON));
  return [scale, Float64Array.from(bias, (value, k) => value - mean[k] * scale[k])];
}
