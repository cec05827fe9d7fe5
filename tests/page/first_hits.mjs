// The first hits of an exported page; started by benchmarks/exports/static_page.py, with {chromium, url} as its argument and
// queries, {text} or {address, kind}, as JSON on stdin. Prints one JSON list: the row, the score and the milliseconds of each.

import { text } from "node:stream/consumers";
import { chromium } from "playwright-core";

const given = JSON.parse(process.argv[2]), queries = JSON.parse(await text(process.stdin));
const browser = await chromium.launch({
  executablePath: given.chromium,
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"],
});
const page = await browser.newPage();
await page.goto(given.url);
const hits = await page.evaluate(async (queries) => {
  const [{ answer }, { decode }] = await Promise.all([import("./engine.js"), import("./sources.js")]), hits = [];
  for (const [id, { text, address, kind }] of queries.entries()) {
    const query = text === undefined ? await decode(await (await fetch(address)).blob(), kind) : { kind: "text", text };
    const { result, error } = await answer({ id, query, modalities: [], k: 1 });
    if (error) throw new Error(`${text ?? address}: ${error}`);
    hits.push([result.hits[0].row, result.hits[0].score, result.ms]);
  }
  return hits;
}, queries);
console.log(JSON.stringify(hits));
await browser.close();
