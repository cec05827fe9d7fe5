// The service worker: keeps the files of the page, so that it opens and searches without a network.
//
// files.json lists them with a version that changes with their content. "needed" are kept before the page counts as
// installed; "later" (other towers, media) are kept afterwards, one by one; anything else is kept when it is first used.

// @ts-nocheck: the names of a ServiceWorkerGlobalScope are not among TypeScript's libraries for pages.
const VERSION = "VERSION", PREFIX = `multimodal ${registration.scope} `, CACHE = PREFIX + VERSION;

addEventListener("install", (event) => event.waitUntil(install()));
addEventListener("activate", (event) => event.waitUntil(activate()));
addEventListener("message", (event) => event.waitUntil(keepTheRest()));
addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  if (event.request.method === "GET" && url.href.startsWith(registration.scope)) event.respondWith(respond(event.request, url));
});

const list = async (cache) => (await cache.match("files.json"))?.json() ?? { needed: [], later: [] };

async function install() {
  const cache = await caches.open(CACHE);
  await cache.add(new Request("files.json", { cache: "no-cache" }));
  const { needed } = await list(cache);
  await cache.addAll(needed.map((path) => new Request(path, { cache: "no-cache" })));
  await skipWaiting();
}

async function activate() {
  for (const name of await caches.keys()) if (name.startsWith(PREFIX) && name !== CACHE) await caches.delete(name);
  await clients.claim();
}

async function keepTheRest() {
  const cache = await caches.open(CACHE), { later } = await list(cache);
  for (const path of later) {
    if (await cache.match(path)) continue;
    await cache.add(path).catch(() => {}); // offline, or no space is left: it is loaded when it is used
  }
  for (const client of await clients.matchAll()) client.postMessage("kept");
}

async function respond(request, url) {
  const cache = await caches.open(CACHE), bare = url.origin + url.pathname;
  const kept = (await cache.match(bare)) ?? (request.mode === "navigate" ? await cache.match("./") : undefined);
  if (kept) return part(request, kept);
  const answer = await fetch(request);
  if (answer.status === 200 && answer.type === "basic") await cache.put(bare, answer.clone()).catch(() => {});
  return answer;
}

/** Players ask for a part of a file; a kept file is whole. */
async function part(request, kept) {
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.get("range") ?? "");
  if (!range) return kept;
  const file = await kept.blob(), first = Number(range[1]), last = Math.min(file.size - 1, range[2] ? Number(range[2]) : Infinity);
  if (first > last) return new Response(null, { status: 416, headers: { "content-range": `bytes */${file.size}` } });
  return new Response(file.slice(first, last + 1, file.type), {
    status: 206,
    headers: { "content-type": file.type, "content-length": String(last + 1 - first), "content-range": `bytes ${first}-${last}/${file.size}` },
  });
}
