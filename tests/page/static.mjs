// Claims about an exported page, each tried in headless Chromium. Started by test_static.py with a JSON object:
//   url, folder (the page's), chromium, expected (a JSON file: texts, images, audio with their vectors, hits), microphone
//   (a WAV file), shots (a folder or "")
// Prints one JSON object per claim: name, error (null if it holds).

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";
import { back } from "./history.mjs";

const only = process.argv[3] ?? "", given = JSON.parse(process.argv[2]), expected = JSON.parse(await readFile(given.expected, "utf8"));
const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const browser = await chromium.launch({
  executablePath: given.chromium,
  args: [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run", "--autoplay-policy=no-user-gesture-required", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
    `--use-file-for-fake-audio-capture=${given.microphone}`,
  ],
});
const foreign = [], complaints = [];
const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, permissions: ["microphone"] });
const page = await context.newPage();
page.setDefaultTimeout(60_000);
context.on("request", (request) => {
  if (request.url().startsWith("http") && !request.url().startsWith(given.url)) foreign.push(request.url());
});
page.on("console", (line) => ["error", "warning"].includes(line.type()) && complaints.push(line.text()));
page.on("pageerror", (error) => complaints.push(error.stack));
page.on("dialog", (dialog) => complaints.push(dialog.message()));

async function claim(name, body) {
  if (!name.includes(only)) return;
  let error = null;
  try {
    await body();
  } catch (caught) {
    error = String(caught?.stack ?? caught);
  }
  console.log(JSON.stringify({ name, error }));
}

const until = (test, argument) => page.waitForFunction(test, argument, { polling: 50 });
const open = async (address = "") => {
  await page.goto(`${given.url}/${address}`);
  await until(() => document.querySelector("#message").hidden && document.querySelector(".card"));
};
const listed = (text) => until((part) => [...document.querySelectorAll(".card .name")].slice(0, 4).some((name) => name.textContent.includes(part)), text);
const first = (name) => until((text) => document.querySelector(".card .name")?.textContent === text && /best first/.test(document.querySelector("#status").textContent), name);
const shot = (name) => (given.shots ? page.screenshot({ path: `${given.shots}/static-${name}.png` }) : null);
const differences = (left, right) => Math.max(...left.map((value, k) => Math.abs(value - right[k])));

async function accessible(part = "html") {
  await page.evaluate(axe);
  const { violations } = await page.evaluate((part) => window.axe.run(part, { resultTypes: ["violations"] }), part);
  assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" ").slice(0, 300)}`), []);
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth), 0);
}

/** Drops a file of the page's own folder, or bytes. */
const drop = (address, type) => page.evaluate(async ([address, type]) => {
  const content = await (await fetch(address)).blob(), transfer = new DataTransfer();
  transfer.items.add(new File([content], address.split("/").pop(), { type }));
  for (const kind of ["dragenter", "dragover", "drop"]) document.body.dispatchEvent(new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true }));
}, [address, type]);

/** Vectors of files, as the page decodes and encodes them. */
const encoded = (kind, addresses) => page.evaluate(async ([kind, addresses]) => {
  const [{ encode }, { decode }] = await Promise.all([import("./engine.js"), import("./sources.js")]), vectors = [];
  for (const address of addresses) vectors.push([...await encode(await decode(await (await fetch(address)).blob(), kind))]);
  return vectors;
}, [kind, addresses]);

await open();

await claim("texts, odd ones too, have the vectors of the model", async () => {
  const vectors = await page.evaluate(async (texts) => {
    const { encode } = await import("./engine.js"), vectors = [];
    for (const text of texts) vectors.push([...await encode({ kind: "text", text })]);
    return vectors;
  }, expected.texts.map(({ text }) => text));
  const worst = expected.texts.map(({ vector }, k) => differences(vector, vectors[k]));
  const wrong = expected.texts.filter((_, k) => !(worst[k] <= 1e-6)).map(({ text }) => text);
  assert.deepEqual(wrong, []);
});

await claim("images have the vectors of the model", async () => {
  const vectors = await encoded("image", expected.images.map(({ address }) => address));
  const worst = Object.fromEntries(expected.images.map(({ address, vector }, k) => [address, differences(vector, vectors[k])]));
  assert.deepEqual(Object.entries(worst).filter(([, difference]) => !(difference <= 1e-6)), []);
});

await claim("speech has the vectors of the model", async () => {
  const vectors = await encoded("audio", expected.audio.map(({ address }) => address));
  const worst = Object.fromEntries(expected.audio.map(({ address, vector }, k) => [address, differences(vector, vectors[k])]));
  assert.deepEqual(Object.entries(worst).filter(([, difference]) => !(difference <= 2e-5)), []);
});

await claim("the best hits and their probabilities are those of the index", async () => {
  const results = await page.evaluate(async (queries) => {
    const { answer } = await import("./engine.js"), results = [];
    for (const [id, text] of queries.entries()) results.push((await answer({ id, query: { kind: "text", text }, modalities: [], k: 3 })).result.hits);
    return results;
  }, expected.hits.map(({ text }) => text));
  const listed = JSON.parse(await readFile(`${given.folder}/index.json`, "utf8")).items;
  for (const [k, { text, name, modality, score, probability }] of expected.hits.entries()) {
    const item = listed[results[k][0].row];
    assert.deepEqual([text, item.name, item.modality], [text, name, modality]);
    assert(Math.abs(results[k][0].score - score) < 2e-3 && Math.abs(results[k][0].probability - probability) < 0.01, `${text}: ${JSON.stringify(results[k][0])}, not ${score} and ${probability}`);
  }
});

await claim("hits appear while typing, and Back returns to the query before", async () => {
  await open();
  await page.locator("#q").pressSequentially("a red apple", { delay: 20 });
  await listed("red-apple");
  await page.keyboard.press("Enter");
  await page.locator("#q").fill("a banana");
  await until(() => new URL(location.href).searchParams.get("q") === "a banana");
  await listed("banana");
  assert.match(await page.locator("#status").textContent(), /best first · \d+ ms/);
  await shot("hits");
  await back(page);
  await listed("red-apple");
  assert.equal(await page.inputValue("#q"), "a red apple");
});

await claim("modalities are chosen, and an item is opened, stepped and closed by the keyboard", async () => {
  await open("?q=apple");
  await page.getByRole("button", { name: /^Images/ }).click();
  await until(() => [...document.querySelectorAll(".card")].every((card) => card.classList.contains("image")));
  await page.keyboard.press("/");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("Enter");
  await page.locator("dialog h2").waitFor();
  const name = await page.locator("dialog h2").textContent();
  await page.keyboard.press("ArrowRight");
  await until((before) => document.querySelector("dialog[open] h2")?.textContent !== before, name);
  await until(() => document.querySelector("dialog[open] .stage img").naturalWidth === 288);
  await shot("detail");
  await accessible("dialog");
  await page.keyboard.press("Escape");
  await until(() => !document.querySelector("dialog"));
  assert.equal(new URL(page.url()).searchParams.get("item"), null);
});

await claim("a dropped image, an audio file and an item are searched with", async () => {
  await open();
  await drop(expected.images[0].address, "image/jpeg");
  await first(expected.images[0].name);
  await page.locator("#chips", { hasText: ".jpg" }).waitFor();
  await page.setInputFiles("#file", `${given.folder}/${expected.audio[0].address}`);
  await first(expected.audio[0].name);
  await page.locator(".card .more").nth(3).dispatchEvent("click");
  await page.locator("#chips", { hasText: "like " }).waitFor();
  await until(() => document.querySelector(".card .meter").textContent.trim());
  assert.match(page.url(), /like=\d+/);
  await page.evaluate(() => {
    const transfer = new DataTransfer();
    transfer.items.add(new File(["words"], "letter.doc", { type: "application/msword" }));
    dispatchEvent(new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true }));
  });
  await page.locator(".toast.failure", { hasText: "letter.doc" }).waitFor();
});

await claim("speech is recorded and searched with, and a recording is played", async () => {
  await open();
  await page.click("#speak");
  await page.locator("#speak.recording").waitFor();
  await page.waitForTimeout(2200);
  await page.click("#speak");
  await page.locator("#chips", { hasText: "recording" }).waitFor();
  await listed("guitar");
  await page.locator(".card .play").first().click();
  await until(() => document.querySelector("#player").currentTime > 0.1);
});

await claim("axe finds nothing, and nothing overflows: dark on a phone", async () => {
  await page.setViewportSize({ width: 390, height: 844 });
  await page.emulateMedia({ colorScheme: "dark" });
  await open("?q=a%20musical%20instrument");
  await until(() => document.querySelector(".card .meter"));
  await accessible();
  await shot("phone");
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize({ width: 1280, height: 860 });
  await accessible();
});

await claim("names, texts, metadata and ids are shown as text, whatever they hold", async () => {
  await open("?q=quartz%20sphinx%20judges");
  await until(() => [...document.querySelectorAll(".card .name")].some((name) => name.textContent.includes("<img src=x")));
  await page.locator(".card", { hasText: "<img src=x" }).first().locator(".open").click();
  await page.locator("dialog dd", { hasText: "<script>alert(1)</script>" }).waitFor();
  assert.equal(await page.locator("dialog .button").count(), 0);
  assert.equal(await page.evaluate(() => document.querySelectorAll("img[src='x'], .grid script, dialog script").length), 0);
});

await claim("after the first visit the page searches without a network", async () => {
  await open();
  await until(() => document.querySelector("#about").dataset.kept === "true");
  await context.setOffline(true);
  await page.reload();
  await open("?q=a%20red%20apple&m=image");
  await first("red-apple.jpg");
  await until(() => document.querySelector(".card img").naturalWidth > 0);
  await drop(expected.images[0].address, "image/jpeg");
  await first(expected.images[0].name);
  await context.setOffline(false);
});

await claim("opened from the disk, the page says that it must be served", async () => {
  const other = await context.newPage();
  await other.goto(`file://${given.folder}/index.html`);
  await other.locator("#message", { hasText: "must be served over HTTP" }).waitFor();
  await other.waitForFunction(() => getComputedStyle(document.querySelector("#message")).visibility === "visible", null, { polling: 200 });
  await other.close();
});

await claim("the page asked no other host, and the browser complained about nothing", async () => {
  assert.deepEqual([foreign, complaints], [[], []]);
});

await browser.close();
