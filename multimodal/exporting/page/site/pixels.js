// An image at 64 × 64 pixels as Pillow 13 makes it: first shrunk by whole factors, then by bicubic interpolation in fixed
// point, across before down unless the image is tall; the rest is filled with the mean colour of the border.

export const SIDE = 64;
const GAP = 3; // an image is shrunk by whole factors to no less than three times the size
const SUPPORT = 2, BITS = 22;

/** @typedef {{values: Uint8Array, width: number, height: number}} Rgb values: (height, width, 3) */

/**
 * @param {Uint8ClampedArray} rgba
 * @param {number} width
 * @param {number} height
 * @returns {Uint8Array} (SIDE, SIDE, 3)
 */
export function square(rgba, width, height) {
  const scale = SIDE / Math.max(width, height);
  const across = Math.max(1, halfEven(width * scale)), down = Math.max(1, halfEven(height * scale));
  /** @type {Rgb} */
  let image = { values: new Uint8Array(3 * width * height), width, height };
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    image.values[to++] = rgba[from];
    image.values[to++] = rgba[from + 1];
    image.values[to++] = rgba[from + 2];
  }
  if (across !== width || down !== height) image = resized(image, across, down);
  return across === SIDE && down === SIDE ? image.values : padded(image);
}

/** @param {number} value rounded to the nearest whole number, a half to the even one */
const halfEven = (value) => {
  const below = Math.floor(value), rest = value - below;
  return rest > 0.5 || (rest === 0.5 && below % 2) ? below + 1 : below;
};

/**
 * @param {Rgb} image
 * @param {number} across
 * @param {number} down
 */
function resized(image, across, down) {
  const x = Math.floor(image.width / across / GAP) || 1, y = Math.floor(image.height / down / GAP) || 1;
  const box = [Math.fround(image.width / x), Math.fround(image.height / y)];
  const small = x > 1 || y > 1 ? reduced(image, x, y) : image;
  const columns = (/** @type {Rgb} */ rgb) => (rgb.width === across && box[0] === across ? rgb : bicubic(rgb, across, box[0]));
  const rows = (/** @type {Rgb} */ rgb) => (rgb.height === down && box[1] === down ? rgb : turned(bicubic(turned(rgb), down, box[1])));
  return small.height - down > 2 * (small.width - across) ? columns(rows(small)) : rows(columns(small));
}

/**
 * The mean of each x × y pixels; fewer at the right and lower edge.
 * @param {Rgb} image
 * @param {number} x
 * @param {number} y
 * @returns {Rgb}
 */
function reduced({ values, width, height }, x, y) {
  const across = Math.ceil(width / x), down = Math.ceil(height / y), result = new Uint8Array(3 * across * down);
  for (let row = 0; row < down; row++) for (let column = 0; column < across; column++) {
    const right = Math.min(width, (column + 1) * x), bottom = Math.min(height, (row + 1) * y);
    const n = (right - column * x) * (bottom - row * y), amend = n >> 1;
    const factor = Math.floor(Math.fround(2 ** 32 / Math.fround(256 * n)));
    for (let channel = 0; channel < 3; channel++) {
      let sum = amend;
      for (let v = row * y; v < bottom; v++) for (let u = column * x; u < right; u++) sum += values[3 * (v * width + u) + channel];
      result[3 * (row * across + column) + channel] = Math.floor((sum * factor) / 2 ** 24);
    }
  }
  return { values: result, width: across, height: down };
}

/** @param {number} x */
function cubic(x) {
  const a = -0.5, t = Math.abs(x);
  if (t < 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
  return t < SUPPORT ? (((t - 5) * t + 8) * t - 4) * a : 0;
}

/**
 * Changes the width of an image.
 * @param {Rgb} image
 * @param {number} across
 * @param {number} box how much of the width is meant
 * @returns {Rgb}
 */
function bicubic({ values, width, height }, across, box) {
  const scale = box / across, filter = Math.max(1, scale), support = SUPPORT * filter;
  const result = new Uint8Array(3 * across * height);
  for (let column = 0; column < across; column++) {
    const centre = (column + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5)), last = Math.min(width, Math.trunc(centre + support + 0.5));
    const shares = Array.from({ length: last - first }, (_, k) => cubic((k + first - centre + 0.5) * (1 / filter)));
    const total = shares.reduce((sum, share) => sum + share, 0);
    const whole = shares.map((share) => Math.trunc((share / total) * 2 ** BITS + (share < 0 ? -0.5 : 0.5)));
    for (let row = 0; row < height; row++) for (let channel = 0; channel < 3; channel++) {
      let sum = 2 ** (BITS - 1);
      for (let k = 0; k < whole.length; k++) sum += values[3 * (row * width + first + k) + channel] * whole[k];
      result[3 * (row * across + column) + channel] = Math.max(0, Math.min(255, Math.floor(sum / 2 ** BITS)));
    }
  }
  return { values: result, width: across, height };
}

/**
 * Rows as columns.
 * @param {Rgb} image
 * @returns {Rgb}
 */
function turned({ values, width, height }) {
  const result = new Uint8Array(values.length);
  for (let row = 0; row < height; row++) for (let column = 0; column < width; column++) for (let channel = 0; channel < 3; channel++) {
    result[3 * (column * height + row) + channel] = values[3 * (row * width + column) + channel];
  }
  return { values: result, width: height, height: width };
}

/** @param {Rgb} image */
function padded({ values, width, height }) {
  const result = new Uint8Array(3 * SIDE * SIDE), top = (SIDE - height) >> 1, left = (SIDE - width) >> 1;
  const n = 2 * (width + height), at = (/** @type {number} */ row, /** @type {number} */ column) => 3 * (row * width + column);
  for (let channel = 0; channel < 3; channel++) {
    let sum = 0; // corners count twice
    for (let column = 0; column < width; column++) sum += values[at(0, column) + channel] + values[at(height - 1, column) + channel];
    for (let row = 0; row < height; row++) sum += values[at(row, 0) + channel] + values[at(row, width - 1) + channel];
    const colour = halfEven(sum / n);
    for (let k = channel; k < result.length; k += 3) result[k] = colour;
  }
  for (let row = 0; row < height; row++) {
    result.set(values.subarray(at(row, 0), at(row + 1, 0)), 3 * ((top + row) * SIDE + left));
  }
  return result;
}
