// Sound as the audio tower takes it: resampled to 16 kHz, as log-mels relative to the loudest band.

export const RATE_HZ = 16_000, WINDOW = 95_840; // samples: 5.99 s
const N_FFT = 400, HOP = 160, N_MELS = 64, MIN_HZ = 60, MAX_HZ = 7600;
const FLOOR_DB = -80, SILENCE_DB = -60, MARGIN = 10, LEAST = 1600;
const ZEROS = 6, ROLLOFF = 0.99; // of the filter that resamples
const BINS = N_FFT / 2 + 1;

/**
 * Resamples by a windowed sinc.
 * @param {Float32Array} samples
 * @param {number} from in Hz
 * @param {number} to in Hz
 */
export function resampled(samples, from, to) {
  const divisor = common(from, to), old = from / divisor, fresh = to / divisor;
  const base = Math.min(old, fresh) * ROLLOFF, reach = Math.ceil((ZEROS * old) / base);
  const phases = Array.from({ length: fresh }, (_, phase) => {
    const shares = new Float32Array(2 * reach + old);
    let first = shares.length, last = 0;
    for (let k = 0; k < shares.length; k++) {
      const t = ((k - reach) / old - phase / fresh) * base;
      if (Math.abs(t) >= ZEROS) continue; // there the window is 0
      first = Math.min(first, k);
      last = k + 1;
      const hann = Math.cos((t * Math.PI) / ZEROS / 2) ** 2;
      shares[k] = (t === 0 ? 1 : Math.sin(t * Math.PI) / (t * Math.PI)) * hann * (base / old);
    }
    return { shares, first, last };
  });
  const result = new Float32Array(Math.ceil((fresh * samples.length) / old));
  for (let k = 0; k < result.length; k++) {
    const { shares, first, last } = phases[k % fresh], start = Math.floor(k / fresh) * old - reach;
    let sum = 0;
    for (let tap = Math.max(first, -start); tap < Math.min(last, samples.length - start); tap++) sum += shares[tap] * samples[start + tap];
    result[k] = sum;
  }
  return result;
}

/**
 * @param {number} a
 * @param {number} b
 * @returns {number}
 */
const common = (a, b) => (b ? common(b, a % b) : a);

/**
 * Log-mels (frames, N_MELS) in -1 to 1; a frame is 10 ms.
 * @param {Float32Array} samples
 */
export function logMel(samples) {
  const n = Math.max(LEAST, samples.length), padded = new Float32Array(n + N_FFT), half = N_FFT / 2;
  padded.set(samples, half);
  for (let k = 1; k <= half; k++) { // reflected at both ends
    padded[half - k] = padded[half + k];
    padded[half + n - 1 + k] = padded[half + n - 1 - k];
  }
  const frames = Math.floor(n / HOP) + 1, mels = new Float64Array(frames * N_MELS), bank = filters(), table = trigonometry();
  const even = new Float64Array(half + 1), odd = new Float64Array(half + 1), power = new Float64Array(BINS);
  let loudest = -Infinity;
  for (let frame = 0; frame < frames; frame++) {
    const start = frame * HOP;
    for (let k = 0; k <= half; k++) { // x[k] and x[N - k] meet the same cosine, and opposite sines
      const left = padded[start + k] * table.hann[k], right = k && k < half ? padded[start + N_FFT - k] * table.hann[k] : 0;
      even[k] = left + right;
      odd[k] = left - right;
    }
    for (let bin = 0; bin < BINS; bin++) {
      let real = 0, imaginary = 0, angle = 0;
      for (let k = 0; k <= half; k++) {
        real += even[k] * table.cosine[angle];
        imaginary += odd[k] * table.sine[angle];
        angle += bin;
        if (angle >= N_FFT) angle -= N_FFT;
      }
      power[bin] = real * real + imaginary * imaginary;
    }
    for (let mel = 0; mel < N_MELS; mel++) {
      const { first, shares } = bank[mel];
      let sum = 0;
      for (let k = 0; k < shares.length; k++) sum += power[first + k] * shares[k];
      const decibels = 10 * Math.log10(Math.max(sum, 1e-12));
      mels[frame * N_MELS + mel] = decibels;
      loudest = Math.max(loudest, decibels);
    }
  }
  return Float32Array.from(mels, (value) => (Math.max(value - loudest, FLOOR_DB) - FLOOR_DB) / (-FLOOR_DB / 2) - 1);
}

/**
 * Without the silence at both ends, but for a margin.
 * @param {Float32Array} mels
 */
export function trimmed(mels) {
  const frames = mels.length / N_MELS, least = Math.fround(SILENCE_DB / (-FLOOR_DB / 2) + 1);
  let first = frames, last = 0;
  for (let frame = 0; frame < frames; frame++) {
    if (!mels.subarray(frame * N_MELS, (frame + 1) * N_MELS).some((value) => value > least)) continue;
    first = Math.min(first, frame);
    last = frame;
  }
  return mels.slice(Math.max(0, first - MARGIN) * N_MELS, (last + MARGIN + 1) * N_MELS);
}

/** @type {{hann: Float64Array, cosine: Float64Array, sine: Float64Array} | null} */
let tables = null;

function trigonometry() {
  const of = (/** @type {(angle: number) => number} */ f) => Float64Array.from({ length: N_FFT }, (_, k) => f((2 * Math.PI * k) / N_FFT));
  tables ??= { hann: of((angle) => Math.fround(0.5 - 0.5 * Math.cos(angle))), cosine: of(Math.cos), sine: of(Math.sin) };
  return tables;
}

/** @type {{first: number, shares: number[]}[] | null} */
let bands = null;

/** Triangular filters on the HTK mel scale. */
function filters() {
  if (bands) return bands;
  const toMel = (/** @type {number} */ hz) => 2595 * Math.log10(1 + hz / 700), low = toMel(MIN_HZ), high = toMel(MAX_HZ);
  const points = Array.from({ length: N_MELS + 2 }, (_, k) => 700 * (10 ** ((low + ((high - low) * k) / (N_MELS + 1)) / 2595) - 1));
  bands = Array.from({ length: N_MELS }, (_, mel) => {
    const [left, centre, right] = points.slice(mel, mel + 3), step = RATE_HZ / N_FFT;
    const first = Math.max(0, Math.ceil(left / step)), shares = [];
    for (let bin = first; bin < BINS && bin * step < right; bin++) {
      shares.push(Math.max(0, Math.min((bin * step - left) / (centre - left), (right - bin * step) / (right - centre))));
    }
    return { first, shares };
  });
  return bands;
}
