// Clients of npm against a running server, unchanged. Usage: node javascript_clients.mjs BASE_URL IMAGE AUDIO OUTPUT
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";

const [base, imageFile, audioFile, output] = process.argv.slice(2);
// The packages lie in a folder of their own, outside the repository.
const require = createRequire(`${process.env.CLIENTS_FOLDER}/package.json`);
const OpenAI = require("openai").default;
const { toFile } = require("openai");
const { embedMany, generateText, streamText, experimental_generateImage: generateImage,
  experimental_transcribe: transcribe } = require("ai");
const { createOpenAI } = require("@ai-sdk/openai");
const { createOpenAICompatible } = require("@ai-sdk/openai-compatible");

const image = readFileSync(imageFile);
const audio = readFileSync(audioFile);
const uri = `data:image/jpeg;base64,${image.toString("base64")}`;
const texts = ["a red apple", "a cat"];
const client = new OpenAI({ baseURL: `${base}/v1`, apiKey: "x" });
const provider = createOpenAI({ baseURL: `${base}/v1`, apiKey: "x" });
const compatible = createOpenAICompatible({ name: "mm", baseURL: `${base}/v1` });
const messages = [{ role: "user", content: [
  { type: "text", text: "What is this?" }, { type: "image", image, mediaType: "image/jpeg" }] }];

const checks = {
  async openai_js_embeddings() {
    return (await client.embeddings.create({ model: "starter", input: texts })).data.map((row) => row.embedding);
  },
  async openai_js_chat() {
    const content = [{ type: "image_url", image_url: { url: uri } }];
    const stream = await client.chat.completions.create({
      model: "starter", messages: [{ role: "user", content }], stream: true });
    let text = "";
    for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? "";
    return text;
  },
  async openai_js_response() {
    const content = [{ type: "input_image", image_url: uri, detail: "auto" }];
    return (await client.responses.create({ model: "starter", input: [{ role: "user", content }] })).output_text;
  },
  async openai_js_transcription() {
    const file = await toFile(audio, "talk.flac");
    return (await client.audio.transcriptions.create({ model: "starter", file })).text;
  },
  async openai_js_image() {
    return (await client.images.generate({ model: "starter", prompt: "a cat" })).data[0].b64_json;
  },
  async ai_sdk_embeddings() {
    return (await embedMany({ model: compatible.textEmbeddingModel("starter"), values: texts })).embeddings;
  },
  async ai_sdk_chat() {
    return (await generateText({ model: compatible("starter"), messages })).text;
  },
  async ai_sdk_response() {
    return (await generateText({ model: provider("starter"), messages })).text;
  },
  async ai_sdk_stream() {
    let text = "";
    for await (const part of streamText({ model: provider("starter"), messages }).textStream) text += part;
    return text;
  },
  async ai_sdk_transcription() {
    return (await transcribe({ model: provider.transcription("starter"), audio })).text;
  },
  async ai_sdk_image() {
    const made = await generateImage({ model: compatible.imageModel("starter"), prompt: "a cat", size: "64x64" });
    return made.image.base64;
  },
};

const results = {};
for (const [name, check] of Object.entries(checks)) {
  try {
    results[name] = await check();
  } catch (error) {
    results[name] = { error: `${error?.stack ?? error}` };
  }
}
writeFileSync(output, JSON.stringify({ results }));
