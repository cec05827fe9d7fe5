// Times from a typed letter to the hits on the page; started by benchmarks/page.py. Prints one JSON object.

import { chromium } from "playwright-core";

const QUERIES = ["a red apple", "guitar", "a cat at home", "blue car", "birthday cake", "dog on the meadow", "piano", "rocket"];
const given = JSON.parse(process.argv[2]);
const browser = await chromium.launch({
  executablePath: given.chromium,
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"],
});
const page = await browser.newPage({ viewport: { width: 1280, height: 860 } });
await page.goto(given.url);
await page.waitForSelector("#grid .card");
const measured = () => page.evaluate(() => performance.getEntriesByName("query").length);
for (const query of QUERIES) {
  // A letter at a time, each after the hits of the one before, so that each is a measurement of its own.
  await page.fill("#q", "");
  await page.waitForTimeout(400);
  for (const letter of query) {
    const before = await measured();
    await page.locator("#q").pressSequentially(letter);
    if (letter !== " ") await page.waitForFunction((n) => performance.getEntriesByName("query").length > n, before);
    await page.waitForTimeout(220);
  }
}
const queries = await page.evaluate(() => performance.getEntriesByName("query").map((entry) => entry.duration));
await page.fill("#q", "");
await page.waitForTimeout(800);
const scrolled = await page.evaluate(async () => {
  const times = [], height = document.documentElement.scrollHeight;
  let last = performance.now();
  for (let step = 1; step <= 120; step++) {
    scrollTo(0, (height * step) / 120);
    await new Promise(requestAnimationFrame);
    times.push(performance.now() - last);
    last = performance.now();
  }
  return { frame: times.sort((a, b) => a - b)[60] };
});
console.log(JSON.stringify({ queries: queries.slice(2), ...scrolled }));
await browser.close();
