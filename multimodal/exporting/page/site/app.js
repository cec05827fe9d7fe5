// The page: keeps the address, the query and the results in step. Searches run in a worker (engine.js).

import { byId, counted, icon, iconButton, make, toast } from "./dom.js";
import { card, detail, safe } from "./cards.js";
import { canRecord, decode, kindOf, record } from "./sources.js";

/** @import { Hit, PageIndex, Query, Reply, Result, State } from "./types.d.ts" */
/** @import { Recording } from "./sources.js" */

const PAGE = 60, SPACING_MS = 80, NEW_ENTRY_MS = 3000, DOUBTFUL = 0.2; // DOUBTFUL: a best hit below is called no match

const field = /** @type {HTMLInputElement} */ (byId("q"));
const player = /** @type {HTMLAudioElement} */ (byId("player"));
const engine = new Worker(new URL("engine.js", import.meta.url), { type: "module" });

/** @type {PageIndex} */
let index;
let state = parse();
/** @type {{label: string, query: Query} | null} */
let given = null; // a file or a recording
/** @type {HTMLDialogElement | null} */
let box = null;
/** @type {Recording | null} */
let recording = null;
/** @type {number[]} */
let shown = []; // rows, in the order of the results
let turn = 0, limit = PAGE, typedAt = -Infinity, timer = 0, givenId = 0, shownKey = "";
/** @type {Map<number, (reply: Reply) => void>} */
const waiting = new Map();

engine.addEventListener("message", ({ data }) => {
  waiting.get(data.id)?.(data);
  waiting.delete(data.id);
});
engine.addEventListener("error", () => failed(new Error("this browser cannot run the search: it needs workers with modules")));

const failed = (/** @type {unknown} */ error) => toast(error instanceof Error ? error.message : String(error), true);

/**
 * @param {Query} query
 * @param {string[]} modalities
 * @param {number} k
 * @returns {Promise<Result>}
 */
function ask(query, modalities, k) {
  const id = ++turn;
  return new Promise((resolve, reject) => {
    waiting.set(id, ({ result, error }) => (result ? resolve(result) : reject(new Error(error))));
    engine.postMessage({ id, query, modalities, k });
  });
}

// --- the address ------------------------------------------------------------------------------------

/** @returns {State} */
function parse() {
  const values = new URLSearchParams(location.search);
  const row = (/** @type {string} */ name) => (/^\d+$/.test(values.get(name) ?? "") ? Number(values.get(name)) : null);
  return { q: values.get("q") ?? "", like: row("like"), item: row("item"), modalities: values.getAll("m") };
}

function address() {
  const values = new URLSearchParams();
  if (state.q) values.set("q", state.q);
  if (state.like !== null) values.set("like", String(state.like));
  for (const name of state.modalities) values.append("m", name);
  if (state.item !== null) values.set("item", String(state.item));
  return values.size ? `?${values}` : "./";
}

/**
 * @param {Partial<State>} changes
 * @param {boolean} [replace] the last entry of the history instead of adding one
 */
function go(changes, replace = false) {
  state = { ...state, ...changes };
  if (changes.q || (changes.like ?? null) !== null) given = null;
  if (replace) history.replaceState(null, "", address());
  else if (new URL(address(), location.href).href !== location.href) history.pushState(null, "", address());
  if (!("item" in changes) || Object.keys(changes).length > 1) limit = PAGE;
  void render();
}

addEventListener("popstate", () => {
  window.clearTimeout(timer); // what was typed before Back is not searched for after it
  state = parse();
  typedAt = -Infinity;
  void render();
});

// --- the results ------------------------------------------------------------------------------------

async function render() {
  if (field.value.trim() !== state.q.trim()) field.value = state.q;
  document.title = [state.q, index.title].filter(Boolean).join(" · ");
  drawChips();
  drawModalities();
  showItem();
  const query = currentQuery(), key = JSON.stringify([state.q.trim(), state.like, state.modalities, limit, given && givenId]);
  if (key === shownKey) return;
  shownKey = key;
  const mine = ++turn;
  byId("note").textContent = "";
  if (!query) return list();
  const results = byId("results");
  results.setAttribute("aria-busy", "true");
  try {
    const result = await ask(query, state.modalities, limit);
    if (turn > mine + 1) return; // a newer query was asked
    performance.mark("answered");
    draw(result.hits.map(({ row }) => row), result.hits, result.mixed, result.total);
    const best = Math.max(...result.hits.map(({ probability }) => probability ?? 1));
    byId("note").textContent = best < DOUBTFUL ? "Nothing here is likely to match." : "";
    byId("status").textContent = `${counted(result.total, "item")}, best first · ${Math.round(result.ms)} ms`;
  } catch (error) {
    if (turn > mine + 1) return;
    shownKey = "";
    failed(error);
  } finally {
    if (turn <= mine + 1) results.removeAttribute("aria-busy");
  }
}

/** @returns {Query | null} */
function currentQuery() {
  if (given) return given.query;
  if (state.like !== null && index.items[state.like]) return { kind: "row", row: state.like };
  const text = state.q.trim();
  return text && index.towers.includes("text") ? { kind: "text", text } : null;
}

/** All items, as they lie in the index. */
function list() {
  const rows = index.items.flatMap((item, row) => (!state.modalities.length || state.modalities.includes(item.modality) ? [row] : []));
  draw(rows.slice(0, limit), null, false, rows.length);
  byId("results").removeAttribute("aria-busy");
  byId("status").textContent = counted(rows.length, "item");
}

/**
 * @param {number[]} rows
 * @param {Hit[] | null} hits
 * @param {boolean} mixed
 * @param {number} total
 */
function draw(rows, hits, mixed, total) {
  shown = rows;
  player.pause();
  const cards = rows.map((row, k) => card(index.items[row], row, hits?.[k] ?? null, mixed, { open: (item) => go({ item }), more, play }));
  const grid = byId("grid");
  grid.classList.toggle("unranked", !hits);
  grid.replaceChildren(make("ol", { className: "page", role: "list" }, ...cards));
  byId("further").hidden = rows.length >= total;
}

const more = (/** @type {number} */ like) => go({ like, q: "", item: null });

/**
 * @param {number} row
 * @param {HTMLElement} button
 */
function play(row, button) {
  const item = index.items[row], source = safe(item.media), isSame = player.dataset["row"] === String(row);
  if (!source) return;
  if (isSame && !player.paused) return player.pause();
  for (const other of document.querySelectorAll(".card .play")) other.replaceChildren(icon("play"));
  player.dataset["row"] = String(row);
  if (!isSame) player.src = source;
  player.currentTime = item.start_s ?? 0;
  player.onpause = player.onended = () => button.replaceChildren(icon("play"));
  player.onplay = () => button.replaceChildren(icon("pause"));
  player.play().catch(failed);
}

function showItem() {
  const row = state.item;
  box?.close(); // its event comes later, and finds another box
  box = null;
  if (row === null || !index.items[row]) return;
  const step = (/** @type {number} */ by) => {
    const next = shown[shown.indexOf(row) + by];
    if (next !== undefined) go({ item: next }, true);
  };
  const own = box = detail(index.items[row], row, { more, step, closed: () => {
    if (box !== own) return;
    box = null;
    go({ item: null });
    /** @type {HTMLElement | null} */ (document.querySelector(`.card[data-row="${row}"] .open`))?.focus();
  } });
  own.showModal();
  /** @type {HTMLElement | null} */ (own.querySelector("button.close"))?.focus();
}

function drawChips() {
  const chips = byId("chips"), like = state.like === null ? null : index.items[state.like];
  const label = given ? given.label : like ? `like ${like.name}` : "";
  chips.hidden = !label;
  if (!label) return chips.replaceChildren();
  const remove = () => {
    given = null;
    go({ like: null });
    field.focus();
  };
  chips.replaceChildren(make("li", { className: "chip" }, make("span", { className: "part" }, make("span", { className: "label" }, label)),
    iconButton("close", `Remove “${label}”`, remove, "")));
}

const NAMES = /** @type {Record<string, string>} */ ({ text: "Text", image: "Images", audio: "Audio", video: "Video" });

function drawModalities() {
  const names = Object.keys(index.modalities);
  byId("modalities").replaceChildren(...(names.length < 2 ? [] : names.map((name) => {
    const pressed = state.modalities.includes(name);
    const modalities = pressed ? state.modalities.filter((other) => other !== name) : [...state.modalities, name];
    return make("button", { type: "button", className: `toggle ${name}`, "aria-pressed": pressed, "data-name": name, onclick: () => {
      go({ modalities });
      /** @type {HTMLElement | null} */ (document.querySelector(`.toggle[data-name="${name}"]`))?.focus();
    } }, NAMES[name] ?? name, " ", make("span", { className: "count" }, index.modalities[name].toLocaleString("en")));
  })));
}

// --- the query --------------------------------------------------------------------------------------

/** Whether the query makes a new entry in the history, rather than going on with the one being typed. */
const isNewEntry = () => performance.now() - typedAt > NEW_ENTRY_MS;

field.addEventListener("input", () => {
  window.clearTimeout(timer);
  timer = window.setTimeout(() => {
    const isNew = isNewEntry();
    typedAt = performance.now();
    go({ q: field.value, like: null, item: null }, !isNew);
  }, SPACING_MS);
});
field.addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown") {
    event.preventDefault();
    /** @type {HTMLElement | null} */ (document.querySelector(".card .open"))?.focus();
  } else if (event.key === "Escape") {
    event.preventDefault();
    if (field.value) go({ q: "" });
    else field.blur();
  }
});
byId("search").addEventListener("submit", (event) => {
  event.preventDefault();
  window.clearTimeout(timer);
  go({ q: field.value, like: null, item: null }, !isNewEntry()); // a fast typist has sent nothing yet
  typedAt = -Infinity;
});
byId("further").addEventListener("click", () => {
  const before = shown.length;
  limit += PAGE;
  void render().then(() => /** @type {HTMLElement | undefined} */ ([...document.querySelectorAll(".card .open")][before])?.focus());
});

/** @param {File | null | undefined} file */
async function take(file) {
  if (!file) return;
  const kind = kindOf(file), name = file.name || "pasted image";
  if (!kind) return toast(`${name} is neither an image nor audio`, true);
  if (!index.towers.includes(kind)) return toast(`this page does not search with ${kind === "image" ? "images" : "audio"}`, true);
  try {
    searchWith(name, await decode(file, kind));
  } catch {
    toast(`${name} could not be read by this browser`, true);
  }
}

/**
 * @param {string} label
 * @param {Query} query
 */
function searchWith(label, query) {
  state = { ...state, q: "", like: null, item: null };
  given = { label, query };
  givenId++;
  limit = PAGE;
  history.pushState(null, "", address());
  void render();
}

async function speak() {
  const button = byId("speak");
  if (recording) return stopSpeaking();
  try {
    recording = await record((level) => button.style.setProperty("--level", level.toFixed(2)), stopSpeaking);
    button.classList.add("recording");
    button.setAttribute("aria-pressed", "true");
    button.replaceChildren(icon("stop"));
  } catch {
    toast("The microphone is not available: allow it in the settings of the browser", true);
  }
}

function stopSpeaking(cancel = false) {
  const button = byId("speak"), ended = recording;
  recording = null;
  button.classList.remove("recording");
  button.setAttribute("aria-pressed", "false");
  button.replaceChildren(icon("microphone"));
  if (cancel) return ended?.cancel();
  try {
    if (ended) searchWith("recording", ended.stop());
  } catch (error) {
    failed(error);
  }
}

function listen() {
  const picker = /** @type {HTMLInputElement} */ (byId("file")), drop = byId("drop"), attach = byId("attach"), speaking = byId("speak");
  const kinds = ["image", "audio"].filter((kind) => index.towers.some((tower) => tower === kind));
  attach.hidden = !kinds.length;
  attach.append(icon("attach"));
  speaking.hidden = !index.towers.includes("audio") || !canRecord();
  speaking.append(icon("microphone"));
  picker.accept = kinds.map((kind) => `${kind}/*`).join(",");
  attach.addEventListener("click", () => picker.click());
  speaking.addEventListener("click", () => void speak());
  picker.addEventListener("change", () => {
    void take(picker.files?.[0]);
    picker.value = "";
  });
  let depth = 0;
  const hasFile = (/** @type {DragEvent} */ event) => Boolean(event.dataTransfer?.types.includes("Files"));
  addEventListener("dragenter", (event) => {
    if (hasFile(event)) drop.hidden = !++depth;
  });
  addEventListener("dragover", (event) => {
    if (hasFile(event)) event.preventDefault(); // else the browser would open the file
  });
  addEventListener("dragleave", (event) => {
    if (hasFile(event) && --depth <= 0) drop.hidden = true;
  });
  addEventListener("drop", (event) => {
    depth = 0;
    drop.hidden = true;
    if (!hasFile(event)) return;
    event.preventDefault();
    void take(event.dataTransfer?.files[0]);
  });
  addEventListener("paste", (event) => {
    const file = event.clipboardData?.files[0];
    if (!file) return;
    event.preventDefault();
    void take(file);
  });
}

// --- the keyboard -----------------------------------------------------------------------------------

addEventListener("keydown", (event) => {
  if (event.key === "Escape" && recording) return stopSpeaking(true);
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target instanceof HTMLInputElement) return;
  const own = /** @type {HTMLElement | null} */ (event.target instanceof Element ? event.target.closest(".card") : null);
  if (event.key === "/") {
    event.preventDefault();
    field.focus();
    field.select();
  } else if (own && event.key.startsWith("Arrow")) {
    event.preventDefault();
    move(own, event.key);
  } else if (own && event.key === "m") more(Number(own.dataset["row"]));
  else if (own && event.key === "p") /** @type {HTMLElement | null} */ (own.querySelector(".play"))?.click();
});

/**
 * Moves the focus to a card beside, above or below.
 * @param {HTMLElement} own
 * @param {string} key
 */
function move(own, key) {
  const cards = /** @type {HTMLElement[]} */ ([...document.querySelectorAll(".card")]), top = cards[0].offsetTop;
  const columns = cards.filter((other) => other.offsetTop === top).length;
  const by = key === "ArrowLeft" ? -1 : key === "ArrowRight" ? 1 : key === "ArrowUp" ? -columns : columns;
  const next = cards[cards.indexOf(own) + by];
  if (next) /** @type {HTMLElement | null} */ (next.querySelector(".open"))?.focus();
  else if (by < 0) field.focus();
}

// --- start ------------------------------------------------------------------------------------------

async function keepOffline() {
  if (!("serviceWorker" in navigator)) return; // as over http, but for localhost
  try {
    await navigator.serviceWorker.register("sw.js");
  } catch {
    return; // without storage, as in some private windows, the page needs the network
  }
  const { active } = await navigator.serviceWorker.ready;
  navigator.serviceWorker.addEventListener("message", () => byId("about").dataset["kept"] = "true");
  active?.postMessage("keep");
}

async function start() {
  const answer = await fetch("index.json");
  if (!answer.ok) throw new Error(`index.json could not be loaded: the server answered ${answer.status}`);
  index = await answer.json();
  const message = byId("message");
  message.hidden = true;
  message.classList.remove("starting");
  byId("title").textContent = index.title;
  byId("about").replaceChildren(make("span", {}, `${counted(index.items.length, "item")}, searched in this browser by ${index.model}`),
    make("a", { href: "README.md" }, "About and licences"));
  field.disabled = !index.towers.includes("text");
  listen();
  await render();
  await keepOffline();
}

start().catch(failed);
