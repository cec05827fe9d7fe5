// The keyboard shortcuts.

import { dialog, iconButton, make } from "./dom.js";

const KEYS = [
  ["/", "go to the search field"],
  ["↓", "from the field to the first result"],
  ["← → ↑ ↓", "between results"],
  ["Enter", "open the result"],
  ["m", "more like this result"],
  ["p", "play it"],
  ["x", "select it"],
  ["Shift Enter", "in the field: make the text a part of the query"],
  ["Alt Enter", "in the field: exclude the text"],
  ["Esc", "close, or clear the field"],
  ["?", "this list"],
];

export function open() {
  const box = dialog("Keyboard shortcuts", "panel", () => {});
  const rows = KEYS.flatMap(([keys, does]) => [make("dt", {}, make("kbd", {}, keys ?? "")), make("dd", {}, does ?? "")]);
  box.append(
    make("header", {}, make("h2", {}, "Keyboard"), iconButton("close", "Close", () => box.close(), "tool close")),
    make("dl", { className: "keys" }, ...rows));
  box.showModal();
}
