// The parts of a query beside the text of the field: each with its sign, its weight, and a button to remove it.

import * as api from "./api.js";
import * as store from "./store.js";
import { icon, iconButton, make } from "./dom.js";
import { baseName, cut } from "./items.js";

/** @import { Part } from "./types.d.ts" */

const LEAST = 0.1, MOST = 2, STEP = 0.1;
let drawn = "";

/**
 * @param {HTMLElement} list
 * @param {string} index
 * @param {Part[]} parts
 * @param {(parts: Part[], settled: boolean) => void} change settled: the user let go of the slider
 */
export function draw(list, index, parts, change) {
  const key = JSON.stringify([index, parts.map(({ kind, value }) => [kind, value])]);
  list.hidden = !parts.length;
  if (key !== drawn) {
    drawn = key;
    list.replaceChildren(...parts.map((part) => make("li", { className: "chip" }, face(index, part), ...controls())));
  }
  for (const [position, part] of parts.entries()) {
    const chip = list.children[position];
    if (chip instanceof HTMLElement) update(chip, part, position, parts, change);
  }
}

function controls() {
  return [
    make("input", { type: "range", min: String(LEAST), max: String(MOST), step: String(STEP) }),
    make("output", {}),
    iconButton("close", "Remove", () => {}, "tool remove"),
  ];
}

/**
 * @param {HTMLElement} chip
 * @param {Part} part
 * @param {number} position
 * @param {Part[]} parts
 * @param {(parts: Part[], settled: boolean) => void} change
 */
function update(chip, part, position, parts, change) {
  const sign = /** @type {HTMLButtonElement} */ (chip.querySelector("button.sign"));
  const slider = /** @type {HTMLInputElement} */ (chip.querySelector("input"));
  const remove = /** @type {HTMLButtonElement} */ (chip.querySelector("button.remove"));
  const output = /** @type {HTMLOutputElement} */ (chip.querySelector("output"));
  const name = chip.dataset["name"] ?? part.value, negative = part.weight < 0;
  /** @param {number} weight */
  const weighted = (weight) => parts.map((old, other) => (other === position ? { ...old, weight } : old));
  chip.classList.toggle("negative", negative);
  sign.replaceChildren(icon(negative ? "minus" : "plus"));
  sign.setAttribute("aria-pressed", String(negative));
  sign.setAttribute("aria-label", `Exclude ${name}`);
  sign.title = negative ? "Excluded: press to include" : "Included: press to exclude";
  sign.onclick = () => change(weighted(-part.weight), true);
  slider.setAttribute("aria-label", `Weight of ${name}`);
  if (document.activeElement !== slider) slider.value = String(Math.abs(part.weight));
  output.textContent = Math.abs(part.weight).toFixed(1);
  const weigh = (/** @type {boolean} */ settled) => () =>
    change(weighted((negative ? -1 : 1) * Number(slider.value)), settled);
  slider.oninput = weigh(false);
  slider.onchange = weigh(true);
  remove.setAttribute("aria-label", `Remove ${name}`);
  remove.onclick = () => change(parts.filter((_, other) => other !== position), true);
}

/**
 * What a part looks like; also gives the chip its name.
 * @param {string} index
 * @param {Part} part
 */
function face(index, part) {
  const sign = make("button", { type: "button", className: "sign" });
  const label = make("span", { className: "label" }), picture = make("span", { className: "face" });
  const box = make("span", { className: "part" }, sign, picture, label);
  const name = (/** @type {string} */ text) => {
    label.textContent = cut(text, 32);
    requestAnimationFrame(() => box.parentElement && (box.parentElement.dataset["name"] = text));
  };
  if (part.kind === "text") {
    picture.remove();
    name(`“${part.value}”`);
  } else if (part.kind === "item") {
    const image = make("img", { alt: "", width: 28, height: 28 });
    image.addEventListener("error", () => image.replaceWith(icon("audio")));
    image.src = api.thumb(index, part.value);
    picture.append(image);
    name(`like ${baseName(part.value)}`);
  } else {
    name("a file");
    void store.find(part.value).then((kept) => {
      if (!kept) name("a file that this browser does not have");
      else if (kept.kind === "image") picture.append(make("img", { alt: "", width: 28, height: 28, src: kept.uri }));
      else picture.append(icon("audio"));
      if (kept) name(kept.name);
    });
  }
  return box;
}
