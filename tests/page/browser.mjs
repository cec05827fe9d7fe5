// Claims about the page, each tried in headless Chromium. Started by test_page.py with a JSON object:
//   url, keyed (a server with a key), key, chromium, microphone (a WAV file), files (paths by name), shots (a folder or "")
// Prints one JSON object per claim: name, error (null if it holds), seconds.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";
import { back } from "./history.mjs";

const given = JSON.parse(process.argv[2]);
const only = process.argv[3] ?? "";
const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const browser = await chromium.launch({
  executablePath: given.chromium,
  args: [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run", "--autoplay-policy=no-user-gesture-required", "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream", `--use-file-for-fake-audio-capture=${given.microphone}`,
  ],
});
const WIDE = { viewport: { width: 1280, height: 860 } }, PHONE = { viewport: { width: 390, height: 844 }, hasTouch: true };
const foreign = [], complaints = [];

/** Claims in the same kind of window share it: a new one for each would take as long as all the claims. */
const pages = new Map();
async function pageIn(context) {
  const known = pages.get(JSON.stringify(context));
  if (known) return known;
  const page = await (await browser.newContext({ acceptDownloads: true, ...context })).newPage();
  page.setDefaultTimeout(20_000);
  page.on("request", (request) => {
    const { protocol, origin } = new URL(request.url());
    if (protocol.startsWith("http") && ![given.url, given.keyed].includes(origin)) foreign.push(request.url());
  });
  page.on("console", (line) => {
    // Of a failed request the browser itself writes a line; anything else is a fault of the page.
    if (["error", "warning"].includes(line.type()) && !line.text().startsWith("Failed to load resource")) {
      complaints.push(line.text());
    }
  });
  page.on("pageerror", (error) => complaints.push(error.stack));
  pages.set(JSON.stringify(context), page);
  return page;
}

/** Tries a claim on a page that is loaded anew. */
async function claim(name, body, { address = "", context = WIDE, url = given.url } = {}) {
  if (only && !name.includes(only)) return;
  const started = performance.now(), page = await pageIn(context);
  let error = null;
  try {
    await page.goto(`${url}/${address}`);
    if (url === given.url) await settled(page);
    await body(page);
  } catch (caught) {
    error = String(caught?.stack ?? caught);
  }
  await page.unrouteAll({ behavior: "ignoreErrors" });
  console.log(JSON.stringify({ name, error, seconds: (performance.now() - started) / 1000 }));
}

const cards = (page) => page.locator("#grid .card");
const names = async (page, n = 6) => (await page.locator("#grid .card .name").allTextContents()).slice(0, n);
const parameters = (page) => new URL(page.url()).searchParams;
/** Waits until something holds. */
const until = (page, test, argument) => page.waitForFunction(test, argument, { polling: 50 });
/** Waits until hits or a message are there. */
const settled = (page) => until(page, () => document.querySelector("#grid .card, #message:not([hidden]), #map:not([hidden])"));
const first = (page, name) => until(page, (text) => document.querySelector("#grid .card .name")?.textContent === text, name);
const listed = (page, text) =>
  until(page, (part) => [...document.querySelectorAll("#grid .card .name")].slice(0, 5).some((name) => name.textContent.includes(part)), text);
const shot = (page, name) => (given.shots ? page.screenshot({ path: `${given.shots}/${name}.png` }) : null);

/** Waits until the address holds a query: the hits of an older one may name the same items. */
const asked = (page, text) => until(page, (query) => new URL(location.href).searchParams.get("q") === query, text);

/** axe finds nothing in a part of the page: the whole page takes several times as long. */
async function accessible(page, part = "html") {
  await page.evaluate(axe);
  const { violations } = await page.evaluate((part) => window.axe.run(part, { resultTypes: ["violations"] }), part);
  assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" ").slice(0, 300)}`), []);
}

async function drop(page, name, type) {
  const content = (await readFile(given.files[name])).toString("base64");
  await page.evaluate(async ([data, name, type]) => {
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0)), transfer = new DataTransfer();
    transfer.items.add(new File([bytes], name, { type }));
    for (const kind of ["dragenter", "dragover", "drop"]) {
      document.body.dispatchEvent(new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true }));
    }
  }, [content, name, type]);
}

// --- 1 type-ahead -----------------------------------------------------------------------------------

await claim("a question is answered above the hits, with its source", async (page) => {
  await page.fill("#q", "Where were the lost keys last time?");
  await page.press("#q", "Enter");
  const answer = page.locator("#answer .text");
  await answer.waitFor();
  assert.match(await answer.textContent(), /fridge/);
  await shot(page, "answer");
  await accessible(page, "#answer");
  await page.click("#answer ol button");
  await page.waitForSelector("dialog[open]");
  assert.match(parameters(page).get("item"), /lost-keys\.txt$/);
  await page.keyboard.press("Escape");
  await page.fill("#q", "Which horse won the derby in Lisbon?");
  await until(page, () => document.querySelector("#answer").hidden);
  await page.click("#open-ask");
  await until(page, () => document.querySelector("#answer .text")?.textContent.startsWith("The sources do not answer"));
});

await claim("hits appear while typing, and the address holds the query", async (page) => {
  await page.locator("#q").pressSequentially("a guitar", { delay: 30 });
  await listed(page, "guitar");
  await until(page, () => new URL(location.href).searchParams.get("q") === "a guitar");
  assert.match(await page.locator("#status").textContent(), /matches · \d+ ms/);
  await page.reload();
  await listed(page, "guitar");
  assert.equal(await page.inputValue("#q"), "a guitar");
  await shot(page, "hits");
});

await claim("Back returns to the query before, not to the letter before", async (page) => {
  await page.locator("#q").pressSequentially("a guitar", { delay: 20 });
  await listed(page, "guitar");
  await page.keyboard.press("Enter");
  await page.locator("#q").fill("a banana");
  await asked(page, "a banana");
  await listed(page, "banana");
  await back(page);
  await asked(page, "a guitar");
  await listed(page, "guitar");
  assert.equal(await page.inputValue("#q"), "a guitar");
  await back(page);
  await until(page, () => document.querySelector("#q").value === "");
});

await claim("Enter before the first hits keeps the entry before, and Back drops what is not sent yet", async (page) => {
  await page.evaluate(() => {
    // Two queries in one turn of the event loop: the second waits for its turn.
    const field = document.querySelector("#q");
    const type = (text) => { field.value = text; field.dispatchEvent(new Event("input", { bubbles: true })); };
    type("a");
    history.back();
    type("a guitar");
  });
  await until(page, () => !location.search && document.querySelector("#q").value === "");
  await page.waitForTimeout(400);
  assert.equal(await page.inputValue("#q"), "");
  await page.evaluate(() => {
    const field = document.querySelector("#q");
    field.value = "a guitar";
    field.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true, cancelable: true }));
  });
  await asked(page, "a guitar");
  await back(page);
  await until(page, () => document.querySelector("#q").value === "");
});

await claim("the answer to an older query is never shown over a newer one", async (page) => {
  await page.route("**/v1/search", async (route) => {
    if (route.request().postData().includes("banana")) await new Promise((resolve) => setTimeout(resolve, 800));
    await route.continue().catch(() => {});
  });
  await page.locator("#q").fill("a banana");
  await page.waitForTimeout(300);
  await page.locator("#q").fill("a guitar");
  await listed(page, "guitar");
  await page.waitForTimeout(900);
  assert(!(await names(page, 1))[0].includes("banana"));
});

// --- 2 grid -----------------------------------------------------------------------------------------

await claim("100,000 items scroll without loading what is passed, and few cards are in the document", async (page) => {
  const offsets = [];
  await page.route("**/page/items", (route) => {
    const { offset, limit } = route.request().postDataJSON();
    offsets.push(offset);
    const data = Array.from({ length: limit }, (_, k) => ({
      id: `item ${offset + k}`, uri: null, modality: "text", text: `item ${offset + k}`, metadata: {}, start_s: null, end_s: null,
    }));
    return route.fulfill({ json: { data, total: 100_000, offset } });
  });
  await page.reload();
  await until(page, () => document.querySelector("#status").textContent === "100,000 items");
  const before = offsets.length;
  const frames = await page.evaluate(async () => {
    const times = [], height = document.documentElement.scrollHeight;
    let last = performance.now();
    for (let step = 1; step <= 60; step++) {
      scrollTo(0, (height * step) / 60);
      await new Promise(requestAnimationFrame);
      times.push(performance.now() - last);
      last = performance.now();
    }
    return times.sort((a, b) => a - b);
  });
  await until(page, () => [...document.querySelectorAll("#grid .card .name")].some((name) => name.textContent === "item 99999"));
  assert(offsets.length - before < 25, `${offsets.length - before} pages of 1,667 were loaded`);
  assert((await cards(page).count()) < 700);
  assert(frames[30] < 100, `the median frame took ${frames[30]} ms`);
  await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight / 2));
  await until(page, () => [...document.querySelectorAll("#grid .card .name")].some((name) => /^item 5\d{4}$/.test(name.textContent)));
});

await claim("further hits are loaded when they are scrolled to", async (page) => {
  await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
  await until(page, () => document.querySelectorAll("#grid .card").length > 60);
}, { address: "?q=animal" });

await claim("thumbnails are loaded lazily", async (page) => {
  assert(await page.locator("#grid img[loading=lazy]").count() > 5);
  await until(page, () => [...document.querySelectorAll("#grid img")].filter((image) => image.naturalWidth).length > 3);
}, { address: "?q=apple&m=image" });

// --- 3 files ----------------------------------------------------------------------------------------

await claim("a dropped image is searched with, and Back and reload keep it", async (page) => {
  await drop(page, "red-apple.jpg", "image/jpeg");
  await until(page, () => document.querySelector("#chips .chip img"));
  await listed(page, "apple");
  await page.reload();
  await listed(page, "apple");
  assert.match(await page.locator("#chips .label").textContent(), /red-apple\.jpg/);
  await back(page);
  await until(page, () => document.querySelector("#chips").hidden);
});

await claim("an audio file that is picked is searched with", async (page) => {
  await page.setInputFiles("#file", given.files["guitar.flac"]);
  await listed(page, "guitar");
});

await claim("an image is pasted", async (page) => {
  const content = (await readFile(given.files["red-apple.jpg"])).toString("base64");
  await page.evaluate(async (data) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0))], "", { type: "image/jpeg" }));
    dispatchEvent(new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true }));
  }, content);
  await listed(page, "apple");
});

await claim("a file of another kind is refused with its name", async (page) => {
  await drop(page, "broken.txt", "text/plain");
  await page.locator(".toast.failure", { hasText: "broken.txt" }).waitFor();
});

// --- 4 microphone -----------------------------------------------------------------------------------

await claim("speech is recorded as 16 kHz WAV and searched with", async (page) => {
  const sent = page.waitForRequest((request) => request.url().endsWith("/v1/search") && request.postData().includes("audio"));
  await page.click("#speak");
  await page.locator("#speak.recording").waitFor();
  await page.waitForTimeout(1900);
  await page.click("#speak");
  const { parts } = (await sent).postDataJSON();
  const wav = Buffer.from(parts[0].audio.split(",")[1], "base64");
  assert.equal(wav.toString("latin1", 0, 4) + wav.toString("latin1", 8, 12), "RIFFWAVE");
  assert.equal(wav.readUInt32LE(24), 16_000);
  assert(wav.length > 32_000, `only ${wav.length} bytes were recorded`);
  await until(page, () => document.querySelector("#chips .label")?.textContent.includes("recording"));
  await listed(page, "guitar");
}, { context: { ...WIDE, permissions: ["microphone"] } });

// --- 5 and 6 more like this, chips ------------------------------------------------------------------

await claim("more like this searches with the item, shown as a chip", async (page) => {
  await cards(page).first().hover();
  await cards(page).first().locator(".more").click();
  await until(page, () => document.querySelector("#chips .label")?.textContent.startsWith("like "));
  assert.match(parameters(page).get("p"), /^i~1~/);
  assert.equal(await page.inputValue("#q"), "");
  await settled(page);
}, { address: "?q=apple&m=image" });

await claim("a chip is excluded, weighted and removed", async (page) => {
  await page.locator("#q").fill("red");
  await page.keyboard.press("Shift+Enter");
  await page.locator("#q").fill("apple");
  await page.click("#minus");
  await until(page, () => document.querySelectorAll("#chips .chip").length === 2);
  assert.deepEqual(parameters(page).getAll("p"), ["t~1~red", "t~-0.5~apple"]);
  await page.locator(".chip.negative").getByRole("button", { name: "Exclude" }).click();
  await until(page, () => new URL(location.href).searchParams.getAll("p")[1] === "t~0.5~apple");
  const slider = page.getByRole("slider", { name: "Weight of “red”" });
  await slider.focus();
  await page.keyboard.press("ArrowRight");
  await until(page, () => new URL(location.href).searchParams.getAll("p")[0] === "t~1.1~red");
  await page.getByRole("button", { name: "Remove “apple”" }).click();
  await until(page, () => document.querySelectorAll("#chips .chip").length === 1);
  await back(page);
  await until(page, () => document.querySelectorAll("#chips .chip").length === 2);
});

// --- 7 filters --------------------------------------------------------------------------------------

await claim("filters narrow the hits, and their counts follow each other", async (page) => {
  await page.click("#open-filters");
  const notes = page.getByRole("checkbox", { name: /^notes/ });
  await notes.check();
  await until(page, () => document.querySelector("#status").textContent === "24 items");
  assert.deepEqual(JSON.parse(parameters(page).get("where")), { album: ["notes"] });
  assert.match(await page.locator("#modalities").textContent(), /Text24/);
  assert.equal(await page.locator("#open-filters").textContent(), "Filters (1)");
  assert.match(await page.locator("#filters").textContent(), /pictures64/);
  await page.getByRole("button", { name: /^Images/ }).waitFor({ state: "detached" });
  await page.getByRole("button", { name: "Clear the filters" }).click();
  await page.getByRole("button", { name: /^Images/ }).click();
  await until(page, () => document.querySelector("#status").textContent === "64 items");
  await back(page);
  await back(page);
  await until(page, () => document.querySelector("#status").textContent === "24 items");
});

await claim("another index is chosen", async (page) => {
  await page.selectOption("#index", "inbox");
  await until(page, () => document.querySelector("#status").textContent === "2 items");
  assert.equal(parameters(page).get("index"), "inbox");
});

// --- 8 detail ---------------------------------------------------------------------------------------

await claim("a hit in a recording is played at its second, by range requests", async (page) => {
  const ranges = [];
  page.on("request", (request) => request.url().includes("/media") && ranges.push(request.headers()["range"] ?? ""));
  await page.locator(".card", { has: page.locator(".place") }).first().locator("a.open").click();
  await until(page, () => document.querySelector("dialog audio")?.readyState > 0);
  const start = await page.evaluate(() => document.querySelector("dialog audio").currentTime);
  const shown = (await page.locator("dialog header .soft").textContent()).match(/(\d+):(\d+)–/);
  assert(start > 1);
  assert.equal(Math.floor(start), 60 * Number(shown[1]) + Number(shown[2]));
  await page.locator("dialog").getByRole("button", { name: /^Play from/ }).click();
  await until(page, (from) => document.querySelector("dialog audio").currentTime > from + 0.2, start);
  assert(ranges.some((range) => range.startsWith("bytes=")), JSON.stringify(ranges));
  await page.locator("dialog .around li").nth(2).waitFor();
  assert.equal(await page.locator("dialog .around [aria-current]").count(), 1);
  await shot(page, "detail");
}, { address: "?q=guitar&m=audio&where=%7B%22album%22%3A%5B%22tour%22%5D%7D" });

await claim("the details say why an item was found, and what its metadata are", async (page) => {
  await page.locator("a.open").first().click();
  await page.locator("dialog .cosines dd").nth(1).waitFor();
  const why = await page.locator("dialog .why").textContent();
  assert.match(why, /\+ “apple”/);
  assert.match(why, /− “green”/);
  assert.match(await page.locator("dialog .facts").textContent(), /album/);
  const item = parameters(page).get("item");
  await page.keyboard.press("ArrowRight");
  await until(page, (before) => new URL(location.href).searchParams.get("item") !== before, item);
  await page.keyboard.press("Escape");
  await until(page, () => !document.querySelector("dialog") && !new URL(location.href).searchParams.has("item"));
  await back(page);
  await page.locator("dialog").waitFor();
  await page.reload();
  await page.locator("dialog h2").waitFor();
}, { address: "?q=apple&p=t~-0.3~green&m=image" });

await claim("audio is played in the grid", async (page) => {
  await page.locator(".card .play").first().click();
  await until(page, () => document.querySelector("#player").currentTime > 0.1);
}, { address: "?q=guitar&m=audio" });

// --- 9 keyboard -------------------------------------------------------------------------------------

await claim("everything is reached by the keyboard", async (page) => {
  await page.locator("#q").blur();
  await page.keyboard.press("/");
  assert.equal(await page.evaluate(() => document.activeElement.id), "q");
  await page.keyboard.press("ArrowDown");
  const rank = () => page.evaluate(() => Number(document.activeElement.closest(".card")?.dataset.rank ?? -1));
  await until(page, () => document.activeElement.closest(".card"));
  await page.keyboard.press("ArrowRight");
  assert.equal(await rank(), 1);
  await page.keyboard.press("ArrowDown");
  assert.equal(await rank(), 7);
  await page.keyboard.press("Enter");
  await page.locator("dialog").waitFor();
  await page.keyboard.press("Escape");
  await until(page, () => document.activeElement.closest(".card")?.dataset.rank === "7");
  await page.keyboard.press("x");
  await page.locator("#selection", { hasText: "1 item selected" }).waitFor();
  await page.keyboard.press("?");
  await page.locator("dialog", { hasText: "Keyboard" }).waitFor();
  await page.keyboard.press("Escape");
  await page.keyboard.press("Home");
  await page.keyboard.press("ArrowUp");
  assert.equal(await page.evaluate(() => document.activeElement.id), "q");
  await page.keyboard.press("Escape");
  await until(page, () => document.querySelector("#q").value === "");
}, { address: "?q=apple" });

// --- 10 accessibility -------------------------------------------------------------------------------

for (const [name, context] of Object.entries({
  "light": WIDE, "dark on a phone": { ...PHONE, colorScheme: "dark" },
})) {
  await claim(`axe finds nothing, and nothing overflows: ${name}`, async (page) => {
    await page.click("#open-filters");
    await page.locator("#filters .group").first().waitFor();
    await accessible(page);
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.equal(overflow, 0);
    await shot(page, `filters ${name}`);
    await page.click("#open-filters");
    await page.click("#open-select");
    await page.locator("a.open").first().click();
    await page.locator("#selection").waitFor();
    await page.click("#open-select");
    await page.locator("a.open").first().click();
    await page.locator("dialog .around li").first().waitFor();
    await accessible(page, "dialog");
    await shot(page, `detail ${name}`);
  }, { context, address: "?q=a%20musical%20instrument&p=t~-0.5~drum" });
}

await claim("nothing moves for those who asked for less motion", async (page) => {
  const moving = await page.evaluate(() => [...document.querySelectorAll("*")].filter((element) => {
    const style = getComputedStyle(element);
    return style.transitionDuration !== "0s" || style.animationName !== "none";
  }).length);
  assert.equal(moving, 0);
}, { context: { ...WIDE, reducedMotion: "reduce" } });

// --- 11 empty state ---------------------------------------------------------------------------------

await claim("where nothing is likely the page says so, with the best probability", async (page) => {
  await page.locator("#message", { hasText: "Nothing here is likely to match “qqqq zzzz”" }).waitFor();
  await page.locator("#message-more", { hasText: "of 126 items has a probability of" }).or(page.locator("#message-more", { hasText: "has a probability of" })).waitFor();
  await accessible(page, "#message");
  await shot(page, "empty");
  await page.getByRole("button", { name: "Show the closest items" }).click();
  await until(page, () => document.querySelector("#grid .card"));
  assert.equal(await page.locator("#message").isVisible(), false);
}, { address: "?q=qqqq%20zzzz&least=0.99" });

await claim("filters that nothing meets are named as the reason", async (page) => {
  await page.locator("#message", { hasText: "No item matches the filters" }).waitFor();
  await page.getByRole("button", { name: "Clear the filters" }).first().click();
  await until(page, () => document.querySelector("#grid .card"));
}, { address: "?m=image&where=%7B%22album%22%3A%5B%22notes%22%5D%7D" });

// --- 12 upload --------------------------------------------------------------------------------------

await claim("files are added one by one, and each failure has its reason", async (page) => {
  await page.click("#open-upload");
  await page.setInputFiles("#upload-files", [given.files["red-apple.jpg"], given.files["broken.jpg"]]);
  await page.locator(".uploads .done", { hasText: "red-apple.jpg" }).waitFor();
  const failure = page.locator(".uploads .failed", { hasText: "broken.jpg" });
  await failure.waitFor();
  assert((await failure.locator(".reason").textContent()).length > 10);
  await page.locator("dialog [role=status]", { hasText: "1 file added, 1 failed" }).waitFor();
  await accessible(page, "dialog");
  await page.keyboard.press("Escape");
  await until(page, () => document.querySelector("#status").textContent === "3 items");
}, { address: "?index=inbox" });

// --- 13 captions and drawings -----------------------------------------------------------------------

await claim("an item is captioned, and a query is drawn by its seed", async (page) => {
  await page.locator("a.open").first().click();
  await page.getByRole("button", { name: "Caption" }).click();
  await page.locator(".caption", { hasText: "apple" }).waitFor();
  await page.keyboard.press("Escape");
  await page.click("#open-draw");
  const images = page.locator(".drawings img");
  await images.first().waitFor({ timeout: 60_000 });
  const pixels = () => page.evaluate(() => [...document.querySelectorAll(".drawings img")].map((image) => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 64, height: 64 });
    canvas.getContext("2d").drawImage(image, 0, 0, 64, 64);
    return canvas.toDataURL();
  }));
  await page.locator("dialog [type=submit]").click();
  await images.nth(1).waitFor();
  await page.fill("#seed", "0");
  await page.locator("dialog [type=submit]").click();
  await images.nth(2).waitFor();
  await until(page, () => [...document.querySelectorAll(".drawings img")].every((image) => image.naturalWidth));
  const [again, other, initial] = await pixels();
  assert.equal(again, initial);
  assert.notEqual(other, initial);
  await shot(page, "drawing");
  await page.getByRole("button", { name: "Search with it" }).first().click();
  await until(page, () => document.querySelector("#chips .label")?.textContent === "drawing-0.png");
}, { address: "?q=red%20apple&m=image" });

// --- 14 map -----------------------------------------------------------------------------------------

await claim("the map shows the items, and a point opens its item", async (page) => {
  await page.locator("#map .soft", { hasText: "items" }).waitFor();
  await accessible(page, "#map");
  await shot(page, "map");
  const box = await page.locator("#map canvas").boundingBox();
  let opened = false;
  for (let k = 0; k < 400 && !opened; k++) {
    const x = box.x + box.width * (0.3 + 0.4 * ((k % 20) / 20)), y = box.y + box.height * (0.3 + 0.4 * (Math.floor(k / 20) / 20));
    await page.mouse.move(x, y);
    opened = await page.locator("#map canvas.over").count() > 0;
    if (opened) await page.mouse.click(x, y);
  }
  await page.locator("dialog h2").waitFor();
  assert(parameters(page).get("item"));
}, { address: "?view=map" });

// --- 15 selection -----------------------------------------------------------------------------------

await claim("selected items are exported as JSON and CSV", async (page) => {
  await page.click("#open-select");
  await page.locator("a.open").nth(0).click();
  await page.locator("a.open").nth(2).click();
  await page.locator("#selection", { hasText: "2 items selected" }).waitFor();
  const save = async (name) => {
    const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name }).click()]);
    return readFile(await download.path(), "utf8");
  };
  const items = JSON.parse(await save("Export JSON"));
  assert.equal(items.length, 2);
  assert(items.every((item) => item.id && item.probability >= 0));
  const lines = (await save("Export CSV")).trim().split("\r\n");
  assert.equal(lines[0], "id,uri,modality,score,probability,start_s,end_s,text,metadata");
  assert.equal(lines.length, 3);
  await page.getByRole("button", { name: "More like these" }).click();
  await until(page, () => document.querySelectorAll("#chips .chip").length === 2);
}, { address: "?q=apple&m=image" });

// --- the server -------------------------------------------------------------------------------------

await claim("a server with a key asks for it once", async (page) => {
  await page.fill("#key", given.key);
  await page.keyboard.press("Enter");
  await settled(page);
  await until(page, () => [...document.querySelectorAll("#grid img")].some((image) => image.naturalWidth));
  await page.reload();
  await settled(page);
  assert.equal(await page.locator("#key").count(), 0);
}, { url: given.keyed });

await claim("an error of the server is shown in its own words", async (page) => {
  await page.locator("#message", { hasText: "no item of the index has the id" }).waitFor();
}, { address: "?p=i~1~missing" });

await claim("the page asked no other host, and the browser complained about nothing", async () => {
  assert.deepEqual(foreign, []);
  assert.deepEqual(complaints, []);
});

await browser.close();
