// What can be searched with beside text: files and the microphone. Decoding is the browser's.

/** @import { Query } from "./types.d.ts" */

const MOST_PIXELS = 120e6, MOST_SECONDS = 30, UNKNOWN_RATE = 48_000;

/**
 * What a file is by its type, or by its name where the system does not know the type.
 * @param {File} file
 * @returns {"image" | "audio" | null}
 */
export function kindOf(file) {
  if (file.type.startsWith("image/")) return "image";
  if (file.type.startsWith("audio/")) return "audio";
  if (/\.(flac|wav|mp3|ogg|opus|m4a|aac)$/i.test(file.name)) return "audio";
  return /\.(jpe?g|png|webp|gif|avif|bmp)$/i.test(file.name) ? "image" : null;
}

/**
 * A file as a query. Rejects what the browser cannot decode.
 * @param {Blob} file
 * @param {"image" | "audio"} kind
 * @returns {Promise<Query>}
 */
export const decode = (file, kind) => (kind === "image" ? decodeImage(file) : decodeAudio(file));

/**
 * @param {Blob} file
 * @returns {Promise<Query>}
 */
async function decodeImage(file) {
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" }), { width, height } = bitmap;
  if (width * height > MOST_PIXELS) throw new Error(`an image of ${width} × ${height} pixels is too large`);
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("this browser has no canvas");
  context.fillStyle = "#fff"; // below what is transparent
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return { kind: "image", pixels: context.getImageData(0, 0, width, height).data, width, height };
}

/**
 * @param {Blob} file
 * @returns {Promise<Query>}
 */
async function decodeAudio(file) {
  const content = await file.arrayBuffer();
  const rate = Math.min(96_000, Math.max(8_000, rateOf(new DataView(content)) ?? UNKNOWN_RATE));
  const decoded = await new OfflineAudioContext(1, 1, rate).decodeAudioData(content);
  const samples = sixteenBit(decoded.getChannelData(0)), channels = decoded.numberOfChannels;
  for (let channel = 1; channel < channels; channel++) {
    sixteenBit(decoded.getChannelData(channel)).forEach((value, k) => samples[k] += value);
  }
  return { kind: "audio", samples: channels > 1 ? samples.map((value) => value / channels) : samples, rate };
}

/**
 * A copy of samples. Chromium divides 16-bit samples above 0 by 32,767 instead of 32,768; here that is undone.
 * @param {Float32Array} samples
 */
function sixteenBit(samples) {
  const isWhole = samples.every((value) => value <= 0 || Math.abs(value * 32_767 - Math.round(value * 32_767)) < 0.01);
  return samples.map((value) => (isWhole && value > 0 ? Math.round(value * 32_767) / 32_768 : value));
}

/**
 * The sampling rate in the header of a WAV, FLAC or Ogg file, so that the browser does not change it.
 * @param {DataView} view
 * @returns {number | null}
 */
export function rateOf(view) {
  if (view.byteLength < 64) return null;
  const text = (/** @type {number} */ at, /** @type {number} */ n) => String.fromCharCode(...new Uint8Array(view.buffer, at, n));
  if (text(0, 4) === "RIFF") return view.getUint32(24, true);
  if (text(0, 4) === "fLaC") return view.getUint32(18) >>> 12;
  if (text(0, 4) !== "OggS") return null;
  return text(29, 6) === "vorbis" ? view.getUint32(40, true) : 48_000;
}

/**
 * @typedef {object} Recording
 * @property {() => Query} stop ends the recording and returns it
 * @property {() => void} cancel
 */

/**
 * Starts to record. The browser asks the user first, and the promise is rejected if the answer is no.
 * @param {(level: number) => void} progress 0 to 1
 * @param {() => void} full called after MOST_SECONDS
 * @returns {Promise<Recording>}
 */
export async function record(progress, full) {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } }), context = new AudioContext();
  /** @type {Float32Array[]} */
  const blocks = [];
  let n = 0;
  const cancel = () => {
    for (const track of stream.getTracks()) track.stop();
    void context.close();
  };
  try {
    await context.audioWorklet.addModule(new URL("recorder.js", import.meta.url));
  } catch (error) {
    cancel();
    throw error;
  }
  const recorder = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0 });
  recorder.port.onmessage = ({ data }) => {
    blocks.push(data);
    n += data.length;
    progress(Math.min(1, 4 * Math.sqrt(data.reduce((/** @type {number} */ sum, /** @type {number} */ sample) => sum + sample * sample, 0) / data.length)));
    if (n >= MOST_SECONDS * context.sampleRate) full();
  };
  context.createMediaStreamSource(stream).connect(recorder);
  return {
    stop: () => {
      const rate = context.sampleRate, samples = new Float32Array(n);
      cancel();
      if (!n) throw new Error("nothing was recorded");
      let at = 0;
      for (const block of blocks) {
        samples.set(block, at);
        at += block.length;
      }
      return { kind: "audio", samples, rate };
    },
    cancel,
  };
}

export const canRecord = () => Boolean(navigator.mediaDevices && "AudioWorkletNode" in window);
