// Filters by modality, metadata and probability, with the number of items for each value.

import { counted, make, number } from "./dom.js";
import { CONFIDENT } from "./items.js";

/** @import { Facets, KeyCounts, Scalar, State } from "./types.d.ts" */

const NAMES = { text: "Text", image: "Images", audio: "Audio", video: "Video" };
const SHOWN_VALUES = 12;
const LEVELS = [[0, "all"], [0.1, "10 % or more"], [0.5, "50 % or more"], [CONFIDENT, "87 % or more"]];

/** @typedef {(changes: Partial<State>) => void} Change */

/**
 * @param {HTMLElement} group
 * @param {State} state
 * @param {Facets} facets
 * @param {Change} change
 */
export function drawModalities(group, state, facets, change) {
  const names = Object.keys(facets.modalities);
  const toggle = (/** @type {string} */ name) => {
    const others = state.modality.filter((other) => other !== name);
    change({ modality: others.length < state.modality.length ? others : [...others, name] });
  };
  const every = option("All", facets.total, !state.modality.length, () => change({ modality: [] }));
  const focused = group.contains(document.activeElement) ? document.activeElement?.getAttribute("data-name") : null;
  group.replaceChildren(every, ...names.map((name) => {
    const label = NAMES[/** @type {keyof typeof NAMES} */ (name)] ?? name;
    return option(label, facets.modalities[name] ?? 0, state.modality.includes(name), () => toggle(name), name);
  }));
  for (const button of group.children) {
    if (button instanceof HTMLElement && button.dataset["name"] === focused) button.focus();
  }
}

/**
 * @param {string} label
 * @param {number} count
 * @param {boolean} pressed
 * @param {() => void} onclick
 * @param {string} [name]
 */
function option(label, count, pressed, onclick, name = "") {
  const shown = make("span", { className: "count" }, number(count));
  const properties = { type: "button", className: `toggle ${name}`, "aria-pressed": pressed, "data-name": name, onclick };
  return make("button", properties, make("span", {}, label), shown);
}

/**
 * @param {HTMLElement} panel
 * @param {State} state
 * @param {Facets} facets
 * @param {Change} change
 */
export function drawPanel(panel, state, facets, change) {
  const focused = panel.contains(document.activeElement) ? document.activeElement?.id : "";
  const level = make("select", { id: "least", onchange: () => change({ least: Number(level.value) }) });
  for (const [value, label] of LEVELS) level.append(make("option", { value: String(value) }, String(label)));
  if (!LEVELS.some(([value]) => value === state.least)) {
    level.append(make("option", { value: String(state.least) }, `${Math.round(100 * state.least)} % or more`));
  }
  level.value = String(state.least);
  const probability = make("div", { className: "group" },
    make("label", { for: "least" }, "Probability"), level,
    make("p", { className: "hint" }, "Calibrated probability that a hit is what the query means."));
  const groups = facets.keys.map((key, position) => keyGroup(key, position, state, change));
  const isFiltered = Object.keys(state.where).length > 0 || state.least > 0;
  const clear = isFiltered && make("button", {
    type: "button", className: "quiet", onclick: () => change({ where: {}, least: 0 }),
  }, "Clear the filters");
  const none = !groups.length && make("p", { className: "hint" }, "The items of this index have no metadata to filter by.");
  panel.replaceChildren(probability, ...groups, ...[none, clear].filter((part) => part !== false));
  if (focused) document.getElementById(focused)?.focus();
}

/**
 * @param {KeyCounts} key
 * @param {number} position
 * @param {State} state
 * @param {Change} change
 */
function keyGroup(key, position, state, change) {
  const chosen = state.where[key.key] ?? [];
  const has = (/** @type {Scalar} */ value) => chosen.some((other) => other === value);
  const values = [...key.values].sort((a, b) => Number(has(b.value)) - Number(has(a.value))).slice(0, SHOWN_VALUES);
  const toggle = (/** @type {Scalar} */ value) => {
    const kept = has(value) ? chosen.filter((other) => other !== value) : [...chosen, value];
    const where = { ...state.where };
    if (kept.length) where[key.key] = kept;
    else delete where[key.key];
    change({ where });
  };
  const rows = values.map(({ value, count }, row) => {
    const box = make("input", { type: "checkbox", id: `f-${position}-${row}`, onchange: () => toggle(value) });
    box.checked = has(value);
    return make("li", {}, make("label", {}, box, make("span", { className: "value" }, value === null ? "none" : String(value)),
      make("span", { className: "count" }, number(count))));
  });
  const rest = key.distinct - values.length;
  return make("fieldset", { className: "group" }, make("legend", {}, key.key), make("ul", { role: "list" }, ...rows),
    rest > 0 && make("p", { className: "hint" }, `and ${counted(rest, "rarer value")}`));
}

/** @param {State} state */
export const countActive = (state) => Object.keys(state.where).length + (state.least ? 1 : 0);
