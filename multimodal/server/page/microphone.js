// The microphone as 16 kHz WAV, which every decoder of the server reads.

export const RATE_HZ = 16_000;
const MOST_SECONDS = 30, HEADER_BYTES = 44;

/** @import { Recording } from "./types.d.ts" */

/**
 * Starts to record. The browser asks the user first, and the promise is rejected if the answer is no.
 * @param {(level: number, seconds: number) => void} progress level: 0 to 1
 * @param {() => void} full called after MOST_SECONDS
 * @returns {Promise<Recording>}
 */
export async function record(progress, full) {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
  const context = new AudioContext();
  /** @type {Float32Array<ArrayBuffer>[]} */
  const blocks = [];
  let n = 0;
  const close = () => {
    for (const track of stream.getTracks()) track.stop();
    void context.close();
  };
  try {
    await context.audioWorklet.addModule(new URL("recorder.js", import.meta.url));
  } catch (error) {
    close();
    throw error;
  }
  const recorder = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0 });
  recorder.port.onmessage = (event) => {
    const block = /** @type {Float32Array<ArrayBuffer>} */ (event.data);
    blocks.push(block);
    n += block.length;
    const power = block.reduce((sum, sample) => sum + sample * sample, 0) / block.length;
    progress(Math.min(1, 4 * Math.sqrt(power)), n / context.sampleRate);
    if (n >= MOST_SECONDS * context.sampleRate) full();
  };
  context.createMediaStreamSource(stream).connect(recorder);
  return {
    stop: async () => {
      const rate = context.sampleRate;
      close();
      if (!n) throw new Error("nothing was recorded");
      return wav(await resample(blocks, n, rate));
    },
    cancel: close,
  };
}

/**
 * @param {Float32Array<ArrayBuffer>[]} blocks
 * @param {number} n samples in all
 * @param {number} rate in Hz
 */
async function resample(blocks, n, rate) {
  const offline = new OfflineAudioContext(1, Math.max(1, Math.round((n * RATE_HZ) / rate)), RATE_HZ);
  const buffer = offline.createBuffer(1, n, rate), source = offline.createBufferSource();
  let start = 0;
  for (const block of blocks) {
    buffer.copyToChannel(block, 0, start);
    start += block.length;
  }
  source.buffer = buffer;
  source.connect(offline.destination);
  source.start();
  return (await offline.startRendering()).getChannelData(0);
}

/**
 * Samples as a WAV file, 16 bit, mono.
 * @param {Float32Array} samples -1 to 1
 */
export function wav(samples) {
  const view = new DataView(new ArrayBuffer(HEADER_BYTES + 2 * samples.length));
  const text = (/** @type {number} */ at, /** @type {string} */ value) =>
    [...value].forEach((letter, offset) => view.setUint8(at + offset, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, view.byteLength - 8, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // channels
  view.setUint32(24, RATE_HZ, true);
  view.setUint32(28, 2 * RATE_HZ, true); // bytes per second
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, 2 * samples.length, true);
  samples.forEach((sample, k) => view.setInt16(HEADER_BYTES + 2 * k, 32767 * Math.max(-1, Math.min(1, sample)), true));
  return new Blob([view.buffer], { type: "audio/wav" });
}
