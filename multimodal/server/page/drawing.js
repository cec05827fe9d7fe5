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
      const result = await api.draw(index, parts, Number(seed.value) || 0, abort.signal);
      drawings.prepend(drawing(result, title, (blob, name) => {
        box.close();
        search(blob, name);
      }));
      status.textContent = "";
      seed.value = String((result.seed + 1) % (MOST_SEED + 1));
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
 * @param {{image: string, seed: number}} result
 * @param {string} title
 * @param {(image: Blob, name: string) => void} search
 */
function drawing(result, title, search) {
  const name = `drawing-${result.seed}.png`;
  const use = async () => search(await (await fetch(result.image)).blob(), name);
  return make("li", {}, make("img", { src: result.image, alt: `${title}, drawn with seed ${result.seed}` }),
    make("span", { className: "soft" }, `seed ${result.seed}`),
    make("button", { type: "button", onclick: () => void use() }, "Search with it"),
    make("a", { className: "button", href: result.image, download: name }, "Save"));
}
