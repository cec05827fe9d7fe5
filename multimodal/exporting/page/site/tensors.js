// Reads safetensors files, whose weights are float16 or float32.

/** @import { Tensor } from "./types.d.ts" */

/** @type {Float32Array | null} */
let halves = null;

/** float16 as its 16 bits -> its value, for all of them. */
function halfTable() {
  if (halves) return halves;
  halves = new Float32Array(65_536);
  for (let bits = 0; bits < 65_536; bits++) {
    const exponent = (bits >> 10) & 31, fraction = bits & 1023;
    const size = exponent === 0 ? fraction * 2 ** -24
      : exponent === 31 ? (fraction ? NaN : Infinity) : (1 + fraction / 1024) * 2 ** (exponent - 15);
    halves[bits] = bits & 0x8000 ? -size : size;
  }
  return halves;
}

/**
 * @param {Uint16Array} bits
 * @returns {Float32Array}
 */
export function fromHalf(bits) {
  const table = halfTable(), values = new Float32Array(bits.length);
  for (let k = 0; k < bits.length; k++) values[k] = table[bits[k]];
  return values;
}

/**
 * A file as bytes.
 * @param {string} path relative to the page
 */
export async function bytes(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(`${path} could not be loaded: the server answered ${answer.status}`);
  return answer.arrayBuffer();
}

/** The tensors of one tower, converted to float32 when they are first used. */
export class Tensors {
  /** @param {ArrayBuffer} file */
  constructor(file) {
    const length = Number(new DataView(file).getBigUint64(0, true)), first = 8 + length;
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(file, 8, length)));
    /** @type {Map<string, Tensor>} */
    this.stored = new Map();
    /** @type {Map<string, Float32Array>} */
    this.converted = new Map();
    for (const [name, { dtype, shape, data_offsets: [start, stop] }] of Object.entries(header)) {
      if (name === "__metadata__") continue;
      const part = file.slice(first + start, first + stop); // so that it is aligned
      this.stored.set(name, { shape, data: dtype === "F16" ? new Uint16Array(part) : new Float32Array(part) });
    }
  }

  /** @param {string} name */
  shape(name) {
    const tensor = this.stored.get(name);
    if (!tensor) throw new Error(`the weights have no tensor ${name}`);
    return tensor.shape;
  }

  /**
   * @param {string} name
   * @returns {Float32Array}
   */
  get(name) {
    const known = this.converted.get(name);
    if (known) return known;
    const tensor = this.stored.get(name);
    if (!tensor) throw new Error(`the weights have no tensor ${name}`);
    const values = tensor.data instanceof Uint16Array ? fromHalf(tensor.data) : tensor.data;
    this.converted.set(name, values);
    return values;
  }

  /**
   * One row of a table, without converting the others.
   * @param {string} name
   * @param {number} row
   */
  row(name, row) {
    const tensor = this.stored.get(name), width = this.shape(name)[1] ?? 1;
    const part = tensor?.data.subarray(row * width, (row + 1) * width);
    return part instanceof Uint16Array ? fromHalf(part) : /** @type {Float32Array} */ (part);
  }
}
