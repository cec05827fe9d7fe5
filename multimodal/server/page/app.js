// The page: keeps the address, the query and what is shown in step. What most visits do not need is loaded at first use.

import * as api from "./api.js";
import * as chips from "./chips.js";
import * as filters from "./filters.js";
import * as media from "./media.js";
import * as selection from "./selection.js";
import * as store from "./store.js";
import { byId, counted, icon, make, number, percent, toast } from "./dom.js";
import { Grid, PAGE } from "./grid.js";
import { baseName, DOUBTFUL } from "./items.js";
import { parse, partsOf, queryKey, serialise } from "./state.js";

/** @import { Config, Facets, Item, ItemMap, Loaded, Page, Part, Recording, State } from "./types.d.ts" */

const SPACING_MS = 120; // between the queries of someone who types; the first is sent at once
const BUSY_MS = 250;
const QUESTION = /[?？]\s*$/;
const NEW_ENTRY_MS = 3000; // a pause after which typing makes a new entry in the history

const field = /** @type {HTMLInputElement} */ (byId("q"));
const player = /** @type {HTMLAudioElement} */ (byId("player"));

/** @type {Loaded} */
const loaded = {};

/**
 * A part of the page that is loaded once.
 * @template {keyof Loaded} Name
 * @param {Name} name
 * @returns {Promise<NonNullable<Loaded[Name]>>}
 */
async function lazy(name) {
  const module = loaded[name] ?? await import(`./${name}.js`);
  loaded[name] = module;
  return module;
}

let state = parse(location.search);
/** @type {Config} */
let config = { version: "", indexes: [], captions: false, drawing: false };
/** @type {Facets | null} */
let facets = null;
let facetsKey = "", shownKey = "", typedAt = -Infinity, sentAt = -Infinity, lastMs = 0, timer = 0, inputAt = 0;
/** @type {AbortController | null} */
let pending = null;

const failed = (/** @type {unknown} */ error) => toast(error instanceof Error ? error.message : String(error), true);

// --- the address ------------------------------------------------------------------------------------

/**
 * Changes the state, and with it the address and the page.
 * @param {Partial<State>} changes
 * @param {boolean} [replace] the last entry of the history instead of adding one
 */
function go(changes, replace = false) {
  state = { ...state, ...changes };
  const address = serialise(state);
  if (replace) history.replaceState(null, "", address);
  else if (address !== serialise(parse(location.search))) history.pushState(null, "", address);
  render();
}

addEventListener("popstate", () => {
  window.clearTimeout(timer); // what was typed before Back is not searched for after it
  state = parse(location.search);
  typedAt = -Infinity;
  render();
});

function render() {
  if (field.value.trim() !== state.q.trim()) field.value = state.q;
  const hasText = Boolean(state.q.trim());
  byId("plus").hidden = byId("minus").hidden = byId("open-ask").hidden = !hasText;
  loaded.answer?.follow(state.q);
  document.title = [state.q || (state.parts.length ? "query" : ""), "multimodal"].filter(Boolean).join(" · ");
  chips.draw(byId("chips"), state.index, state.parts, (parts, settled) => go({ parts }, !settled));
  byId("grid").hidden = state.view === "map";
  byId("map").hidden = state.view !== "map";
  byId("open-map").setAttribute("aria-pressed", String(state.view === "map"));
  byId("open-draw").hidden = !config.drawing || !partsOf(state).length;
  if (config.indexes.length > 1) /** @type {HTMLSelectElement} */ (byId("index")).value = indexInfo()?.name ?? "";
  byId("open-upload").hidden = !indexInfo()?.write;
  if (state.view === "map") void showMap();
  void showItem();
  void showFacets();
  void run();
}

const indexInfo = () => config.indexes.find((index) => index.name === state.index) ?? config.indexes[0];

// --- search -----------------------------------------------------------------------------------------

/** Hits that the map marks: those that are likely, or else the first few.
 * @param {Item} item
 * @param {number} rank
 */
const isMarked = (item, rank) => (item.probability ?? 0) >= DOUBTFUL || rank < 5;

async function run() {
  const key = queryKey(state);
  if (key === shownKey) return void (inputAt = 0); // such as a space after a word
  shownKey = key;
  pending?.abort();
  const abort = new AbortController(), asked = state, started = inputAt || performance.now();
  pending = abort;
  inputAt = 0;
  sentAt = performance.now();
  const busy = window.setTimeout(() => byId("results").setAttribute("aria-busy", "true"), BUSY_MS);
  const load = (/** @type {number} */ offset, /** @type {number} */ limit, /** @type {AbortSignal} */ signal) =>
    api.search(asked, offset, limit, signal);
  try {
    const page = await load(0, PAGE, abort.signal);
    lastMs = page.ms;
    grid.show(asked, page, load);
    scrollTo({ top: 0 });
    tell(asked, page);
    marked = partsOf(asked).length ? page.items.filter(isMarked).map((item) => item.id) : [];
    map?.mark(marked);
    requestAnimationFrame(() => performance.measure("query", { start: started, end: performance.now() }));
  } catch (error) {
    if (abort.signal.aborted) return;
    shownKey = "";
    if (error instanceof api.ServerError && error.status === 401) return void askKey();
    grid.clear();
    tell(asked, null);
    message(error instanceof Error ? error.message : String(error), "");
  } finally {
    window.clearTimeout(busy);
    if (pending === abort) byId("results").removeAttribute("aria-busy");
  }
}

/**
 * Says what is shown, and honestly where nothing matches.
 * @param {State} asked
 * @param {Page | null} page
 */
function tell(asked, page) {
  const status = byId("status"), note = byId("note"), isQuery = partsOf(asked).length > 0;
  byId("message").hidden = true;
  note.replaceChildren();
  status.textContent = "";
  if (!page) return;
  const n = page.items.length, best = Math.max(...page.items.map((item) => item.probability ?? 1));
  if (!n) return void nothing(asked, page);
  const shown = isQuery ? (n === PAGE ? "Best matches" : counted(n, "match", "matches")) : counted(page.total ?? n, "item");
  status.textContent = isQuery ? `${shown} · ${Math.round(page.ms)} ms` : shown;
  note.textContent = page.note;
  if (isQuery && best < DOUBTFUL) {
    note.replaceChildren(make("strong", {}, "No clear match. "),
      `The closest items are shown; the best has a probability of ${percent(best)}. `,
      make("button", { type: "button", className: "link", onclick: () => go({ least: DOUBTFUL }) }, "Hide unlikely items"));
  }
}

/**
 * @param {State} asked
 * @param {Page} page
 */
async function nothing(asked, page) {
  const isQuery = partsOf(asked).length > 0, isFiltered = asked.modality.length > 0 || Object.keys(asked.where).length > 0;
  const everything = { text: "Clear the filters", run: () => go({ modality: [], where: {}, least: 0 }) };
  if (isQuery && asked.least) {
    const what = asked.q.trim() ? `“${asked.q.trim()}”` : "the query";
    message(`Nothing here is likely to match ${what}`, "", { text: "Show the closest items", run: () => go({ least: 0 }) });
    const best = (await api.search({ ...asked, least: 0 }, 0, 1).catch(() => null))?.items[0];
    if (best && queryKey(asked) === queryKey(state)) {
      const of = facets ? ` of ${counted(facets.matching, "item")}` : "";
      byId("message-more").textContent = `The closest${of} has a probability of ${percent(best.probability)}, ` +
        `and hits below ${percent(asked.least)} are hidden.`;
    }
  } else if (isFiltered) {
    message("No item matches the filters", page.note, everything);
  } else if (!isQuery && indexInfo()) {
    message("This index is empty", `Add files with: multimodal index FOLDER --index ${indexInfo()?.name}`);
  } else {
    message("No matches", page.note);
  }
}

/**
 * @param {string} title
 * @param {string} more
 * @param {{text: string, run: () => void}} [action]
 */
function message(title, more, action) {
  const box = byId("message");
  box.hidden = false;
  const button = action && make("button", { type: "button", className: "primary", onclick: action.run }, action.text);
  box.replaceChildren(...[make("h2", {}, title), make("p", { id: "message-more" }, more), button].filter((part) => part !== undefined));
  byId("status").textContent = title;
}

async function showFacets() {
  const key = JSON.stringify([state.index, state.modality, state.where]);
  if (key !== facetsKey) {
    facetsKey = key;
    try {
      const counts = await api.facets(state);
      if (key !== facetsKey) return;
      facets = counts;
    } catch (error) {
      if (key === facetsKey) facetsKey = "";
      if (error instanceof api.ServerError && error.status === 401) return; // run() asks for the key
      return failed(error);
    }
  }
  if (!facets) return;
  filters.drawModalities(byId("modalities"), state, facets, go);
  filters.drawPanel(byId("filters"), state, facets, go);
  const n = filters.countActive(state);
  byId("open-filters").textContent = n ? `Filters (${n})` : "Filters";
}

/** For a server with a key: asks for it. */
function askKey() {
  if (document.getElementById("key")) return;
  const key = make("input", { type: "password", id: "key", autocomplete: "current-password", required: true });
  const form = make("form", { className: "message", onsubmit: (/** @type {Event} */ event) => {
    event.preventDefault();
    void api.signIn(key.value).then(() => location.reload(), failed);
  } }, make("h2", {}, "This server asks for a key"), make("label", { for: "key" }, "API key"), key,
  make("button", { type: "submit", className: "primary" }, "Continue"));
  grid.clear();
  byId("results").append(form);
  key.focus();
}

// --- the field --------------------------------------------------------------------------------------

/** Whether the query makes a new entry in the history, rather than going on with the one being typed. */
const isNewEntry = () => performance.now() - typedAt > NEW_ENTRY_MS;

field.addEventListener("input", () => {
  const now = performance.now();
  inputAt ||= now;
  window.clearTimeout(timer);
  const send = () => {
    const isNew = isNewEntry();
    typedAt = performance.now();
    go({ q: field.value }, !isNew);
  };
  const wait = sentAt + Math.max(SPACING_MS, 1.5 * lastMs) - now;
  if (wait <= 0) send();
  else timer = window.setTimeout(send, wait);
});
field.addEventListener("blur", () => (typedAt = -Infinity));

/** @param {number} weight */
function keepText(weight) {
  const value = field.value.trim();
  if (!value) return;
  window.clearTimeout(timer);
  typedAt = -Infinity;
  go({ q: "", parts: [...state.parts, { kind: "text", value, weight }] });
  field.focus();
}

const ask = () => void lazy("answer")
  .then((answer) => answer.ask(state.index, state.q, (id) => go({ item: id })), failed);

field.addEventListener("keydown", (event) => {
  if (event.key === "Enter") {
    event.preventDefault();
    if (event.altKey) return keepText(-0.5);
    if (event.shiftKey) return keepText(1);
    window.clearTimeout(timer);
    go({ q: field.value }, !isNewEntry()); // a fast typist has sent nothing yet: the entry before stays
    typedAt = -Infinity;
    if (QUESTION.test(field.value)) ask();
  } else if (event.key === "ArrowDown") {
    event.preventDefault();
    void grid.focus(0);
  } else if (event.key === "Escape") {
    event.preventDefault();
    if (field.value) go({ q: "" });
    else field.blur();
  } else if (event.key === "Backspace" && !field.value && state.parts.length) {
    go({ parts: state.parts.slice(0, -1) });
  }
});
byId("search").addEventListener("submit", (event) => event.preventDefault());
byId("plus").addEventListener("click", () => keepText(1));
byId("minus").addEventListener("click", () => keepText(-0.5));

// --- files and speech -------------------------------------------------------------------------------

/**
 * @param {Blob} file
 * @param {string} name
 * @param {"image" | "audio"} kind
 */
async function searchFile(file, name, kind) {
  const value = await store.keep(file, name, kind);
  go({ parts: [...state.parts.filter((part) => part.kind !== "file"), { kind: "file", value, weight: 1 }], item: "" });
}

/** @type {Recording | null} */
let recording = null;

function stopSpeaking() {
  const button = byId("speak");
  button.classList.remove("recording");
  button.setAttribute("aria-pressed", "false");
  button.setAttribute("aria-label", "Search with your voice");
  button.replaceChildren(icon("microphone"));
  recording = null;
}

async function speak() {
  const button = byId("speak");
  const finish = async () => {
    const ended = recording;
    stopSpeaking();
    if (!ended) return;
    try {
      await searchFile(await ended.stop(), "your recording", "audio");
    } catch (error) {
      failed(error);
    }
  };
  if (recording) return finish();
  try {
    const microphone = await lazy("microphone");
    recording = await microphone.record((level) => button.style.setProperty("--level", level.toFixed(2)), finish);
    button.classList.add("recording");
    button.setAttribute("aria-pressed", "true");
    button.setAttribute("aria-label", "Stop recording and search");
    button.replaceChildren(icon("stop"));
  } catch (error) {
    stopSpeaking();
    const refused = error instanceof DOMException && error.name === "NotAllowedError";
    failed(refused ? "The browser does not allow the microphone for this page" : error);
  }
}

// --- items ------------------------------------------------------------------------------------------

/** @param {Item} item */
const openItem = (item) => {
  opened.set(item.id, item);
  go({ item: item.id }, loaded.detail?.isOpen());
};
/** @type {Map<string, Item>} */
const opened = new Map(); // neighbours and points of the map, which are in no page of hits

async function showItem() {
  if (!state.item) return loaded.detail?.close();
  const id = state.item, rank = grid.rankOf(id);
  let item = rank >= 0 ? grid.itemAt(rank) : opened.get(id) ?? null;
  try {
    item ??= await api.item(state.index, id);
  } catch (error) {
    if (state.item === id) go({ item: "" }, true);
    return failed(error);
  }
  const detail = await lazy("detail").catch(failed);
  if (!detail || !item || state.item !== id) return;
  player.pause();
  detail.open(state, item, config, {
    close: () => {
      go({ item: "" });
      void grid.focus(Math.max(0, grid.rankOf(id)));
    },
    step: (step) => {
      const next = grid.itemAt(grid.rankOf(state.item) + step);
      if (next) openItem(next);
    },
    open: openItem,
    more,
    add: (other, weight) => add(other, weight),
    draw: (other) => draw([{ kind: "item", value: other.id, weight: 1 }], `from ${baseName(other.uri ?? other.id)}`),
    nameOf: nameOfPart,
  });
}

/** @param {Item} item */
function more(item) {
  go({ q: "", parts: [{ kind: "item", value: item.id, weight: 1 }], item: "" });
  void grid.focus(0);
}

/**
 * @param {Item} item
 * @param {number} weight
 */
function add(item, weight) {
  const others = state.parts.filter((part) => part.kind !== "item" || part.value !== item.id);
  go({ parts: [...others, { kind: "item", value: item.id, weight }], item: "" });
}

/** @param {Part} part */
async function nameOfPart(part) {
  if (part.kind === "text") return `“${part.value}”`;
  if (part.kind === "item") return baseName(part.value);
  return (await store.find(part.value))?.name ?? "a file";
}

/**
 * @param {Part[]} parts
 * @param {string} title
 */
function draw(parts, title) {
  void lazy("drawing").then((drawing) =>
    drawing.open(state.index, parts, title, (blob, name) => void searchFile(blob, name, "image")), failed);
}

/**
 * Plays a card in place, from the second of the hit to its end.
 * @param {Item} item
 * @param {HTMLElement} button
 */
function play(item, button) {
  const playing = player.dataset["id"] === item.id && !player.paused;
  player.pause();
  if (playing) return;
  player.dataset["id"] = item.id;
  player.src = api.media(state.index, item.id);
  player.onloadedmetadata = () => {
    player.currentTime = item.start_s ?? 0;
  };
  player.ontimeupdate = () => {
    if (item.end_s && player.currentTime >= item.end_s) player.pause();
  };
  player.onplay = () => button.replaceChildren(icon("pause"));
  player.onpause = player.onended = () => button.replaceChildren(icon("play"));
  player.play().catch((error) => {
    if (error.name !== "AbortError") failed("This browser cannot play the file");
  });
}

const grid = new Grid(byId("grid"), {
  href: (item) => serialise({ ...state, item: item.id }),
  open: (item) => {
    if (!isSelecting()) return openItem(item);
    select(item, !selection.has(item.id), false);
  },
  play,
  more,
  select,
  isSelected: selection.has,
}, failed);

/** @type {ItemMap | null} */
let map = null;
/** @type {string[]} */
let marked = [];

async function showMap() {
  const { ItemMap } = await lazy("map");
  if (!map) {
    map = new ItemMap(byId("map"), { open: (id) => go({ item: id }), failed });
    map.mark(marked);
  }
  await map.show(state.index, state.modality);
}

// --- selection --------------------------------------------------------------------------------------

let lastSelected = "";
const isSelecting = () => byId("open-select").getAttribute("aria-pressed") === "true";

/**
 * @param {Item} item
 * @param {boolean} selected
 * @param {boolean} range from the last selected item to this one
 */
function select(item, selected, range) {
  const items = grid.loaded, ends = [lastSelected, item.id].map((id) => items.findIndex((other) => other.id === id));
  const [low, high] = [Math.min(...ends), Math.max(...ends)];
  for (const other of range && low >= 0 ? items.slice(low, high + 1) : [item]) selection.set(other, selected);
  lastSelected = item.id;
  showSelection();
}

function showSelection() {
  selection.draw({
    more: (items) => {
      selection.clear();
      go({ q: "", parts: items.map((item) => ({ kind: "item", value: item.id, weight: 1 })) });
      showSelection();
    },
    clear: () => {
      selection.clear();
      showSelection();
    },
  });
  grid.refreshSelection();
}

// --- start ------------------------------------------------------------------------------------------

for (const [id, name] of Object.entries({ plus: "plus", minus: "minus", attach: "attach", speak: "microphone" })) {
  const button = byId(id);
  button.setAttribute("aria-label", button.title);
  button.append(icon(name));
}
byId("speak").hidden = !("mediaDevices" in navigator && "AudioWorkletNode" in window);
byId("speak").addEventListener("click", () => void speak());
const openHelp = () => void lazy("help").then((help) => help.open(), failed);
byId("open-help").addEventListener("click", openHelp);
byId("open-ask").addEventListener("click", ask);
byId("open-map").addEventListener("click", () => go({ view: state.view === "map" ? "grid" : "map" }));
byId("open-draw").addEventListener("click", () => void nameOfPart(partsOf(state)[0] ?? { kind: "text", value: "", weight: 1 })
  .then((name) => draw(partsOf(state), partsOf(state).length > 1 ? "the query" : name)));
byId("open-upload").addEventListener("click", () => void lazy("upload").then((upload) => upload.open(state.index, () => {
  shownKey = facetsKey = "";
  render();
}), failed));
byId("open-filters").addEventListener("click", () => {
  const panel = byId("filters");
  panel.hidden = !panel.hidden;
  byId("open-filters").setAttribute("aria-expanded", String(!panel.hidden));
});
byId("open-select").addEventListener("click", () => {
  const on = !isSelecting();
  byId("open-select").setAttribute("aria-pressed", String(on));
  byId("grid").classList.toggle("selecting", on);
});
document.querySelector("a.brand")?.addEventListener("click", (event) => {
  event.preventDefault();
  go({ q: "", parts: [], modality: [], where: {}, least: 0, item: "", view: "grid" });
});
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && recording) {
    recording.cancel();
    return stopSpeaking();
  }
  const target = event.target;
  const typing = target instanceof HTMLInputElement && target.type !== "checkbox" && target.type !== "range";
  if (typing || target instanceof HTMLSelectElement || event.ctrlKey || event.metaKey || event.altKey) return;
  if (document.querySelector("dialog[open]")) return;
  if (event.key === "/") {
    event.preventDefault();
    field.focus();
    field.select();
  } else if (event.key === "?") {
    event.preventDefault();
    openHelp();
  }
});
media.listen((file, name, kind) => void searchFile(file, name, kind));

async function start() {
  render();
  try {
    config = await api.config();
  } catch (error) {
    if (!(error instanceof api.ServerError) || error.status !== 401) failed(error);
    return;
  }
  const choice = /** @type {HTMLSelectElement} */ (byId("index"));
  choice.append(...config.indexes.map((index) =>
    make("option", { value: index.name }, `${index.name} (${number(index.items)})`)));
  choice.hidden = config.indexes.length < 2;
  choice.addEventListener("change", () => go({ index: choice.value, parts: state.parts.filter((part) => part.kind !== "item"), item: "" }));
  render();
}

void start();
