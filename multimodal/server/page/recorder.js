// Runs in the audio thread of the browser: passes on what the microphone records.

// @ts-nocheck: the names of an AudioWorkletGlobalScope are not among TypeScript's libraries for pages.
class Recorder extends AudioWorkletProcessor {
  process(inputs) {
    const samples = inputs[0]?.[0];
    if (samples) this.port.postMessage(samples.slice());
    return true;
  }
}
registerProcessor("recorder", Recorder);
