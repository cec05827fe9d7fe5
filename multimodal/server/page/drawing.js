// Images drawn from a query, by the decoder of the index's space. The same seed draws the same image.

import * as api from "./api.js";
import { dialog, iconButton, make } from "./dom.js";

/** @import { Part } from "./types.d.ts" */

const MOST_SEED = 999_999;

/**
 * @param {string} index
 * @param {Part[]} parts
 * @param {string} title what is drawn
 * @param {(image: Blob, name: string) => void} search with a drawing
 */
export function open(index, parts, title, search) {
  const abort = new AbortController();
  const box = dialog("Draw", "panel", () => abort.abort());
  const seed = make("input", { type: "number", id: "seed", min: "0", max: String(MOST_SEED), value: "0", inputMode: "numeric" });
  const status = make("p", { role: "status", className: "soft" }), drawings = make("ul", { className: "drawings", role: "list" });
  const submit = make("button", { type: "submit", className: "primary" }, "Draw");
  const run = async () => {
    submit.disabled = true;
    status.textContent = "Drawing…";
    try {
      const number = Math.floor(Number(seed.value)) || 0;
      const image = await api.draw(index, parts, number, abort.signal);
      drawings.prepend(drawing(image, number, title, (name) => {
        box.close();
        search(image, name);
      }));
      status.textContent = "";
      seed.value = String((number + 1) % (MOST_SEED + 1));
    } catch (error) {
      if (!abort.signal.aborted) status.textContent = error instanceof Error ? error.message : String(error);
    } finally {
      submit.disabled = false;
    }
  };
  const form = make("form", { onsubmit: (/** @type {Event} */ event) => {
    event.preventDefault();
    void run();
  } }, make("label", { for: "seed" }, "Seed"), seed, submit);
  box.append(make("header", {}, make("h2", {}, `Draw ${title}`), iconButton("close", "Close", () => box.close(), "tool close")),
    form, status, drawings);
  box.showModal();
  submit.focus();
  void run();
}

/**
 * @param {Blob} image
 * @param {number} seed
 * @param {string} title
 * @param {(name: string) => void} search
 */
function drawing(image, seed, title, search) {
  const name = `drawing-${seed}.png`, url = URL.createObjectURL(image);
  return make("li", {}, make("img", { src: url, alt: `${title}, drawn with seed ${seed}` }),
    make("span", { className: "soft" }, `seed ${seed}`),
    make("button", { type: "button", onclick: () => search(name) }, "Search with it"),
    make("a", { className: "button", href: url, download: name }, "Save"));
}
