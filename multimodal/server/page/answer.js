// The answer box: the text of the query as a question to the index, with the sources of the answer.

import * as api from "./api.js";
import { byId, counted, icon, make } from "./dom.js";

/** @import { Answer, Citation } from "./types.d.ts" */

let turn = 0, shownFor = "";

/** Hides the box, and drops the answer that is still awaited. */
export function close() {
  ++turn;
  shownFor = "";
  byId("answer").hidden = true;
}

/**
 * Hides the box if it answers another question.
 * @param {string} question
 */
export function follow(question) {
  if (shownFor && shownFor !== question.trim()) close();
}

/**
 * Asks, and shows the answer.
 * @param {string} index
 * @param {string} text
 * @param {(id: string) => void} open shows the item of a source
 */
export async function ask(index, text, open) {
  const mine = ++turn, box = byId("answer");
  shownFor = text.trim();
  box.hidden = false;
  box.setAttribute("aria-busy", "true");
  box.replaceChildren(make("p", { className: "soft" }, "Looking for an answer…"));
  try {
    const answer = await api.ask(index, shownFor);
    if (mine === turn) draw(box, answer, open);
  } catch (error) {
    if (mine !== turn) return;
    box.replaceChildren(make("p", { className: "reason" }, error instanceof Error ? error.message : String(error)), closing());
  } finally {
    if (mine === turn) box.removeAttribute("aria-busy");
  }
}

/**
 * @param {HTMLElement} box
 * @param {Answer} answer
 * @param {(id: string) => void} open
 */
function draw(box, answer, open) {
  const isQuoted = answer.model === "extractive"; // then the text is the quotation
  /** @type {Map<string, Citation[]>} */
  const sources = new Map();
  for (const citation of answer.citations) sources.set(citation.id, [...(sources.get(citation.id) ?? []), citation]);
  const items = [...sources].map(([id, citations]) => make("li", {},
    make("button", { type: "button", className: "link", onclick: () => open(id) }, citations[0]?.title ?? id),
    ...citations.filter((citation) => citation.quote && !isQuoted)
      .map((citation) => make("blockquote", {}, citation.quote))));
  const removed = answer.removed ? `${counted(answer.removed, "citation")} removed. ` : "";
  const unverified = answer.refused || answer.citations.length ? "" : "No source is cited. ";
  const model = isQuoted ? "Quoted from the best source." : `Written by ${answer.model}.`;
  box.replaceChildren(make("p", { className: "text" }, answer.text), make("ol", {}, ...items),
    make("p", { className: "soft" }, `${unverified}${removed}${answer.refused ? "" : model}`), closing());
}

const closing = () => {
  const button = make("button", { type: "button", className: "tool", title: "Close the answer", "aria-label": "Close the answer", onclick: close });
  button.append(icon("close"));
  return button;
};
