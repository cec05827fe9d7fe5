// Small helpers for the document. Text is always set as text, never as HTML.

const SVG = "http://www.w3.org/2000/svg";
const ICONS = /** @type {Record<string, string>} */ ({
  attach: "M4 16.5V6a2 2 0 0 1 2-2h12a2 2 0 0 1 2 2v12a2 2 0 0 1-2 2H6a2 2 0 0 1-2-2v-1.5l5-5 4 4 3-3 4 4M15.5 8.5h.01",
  audio: "M4 10v4M8 6v12M12 3v18M16 7v10M20 10v4",
  close: "M6 6l12 12M18 6L6 18",
  image: "M4 16.5V6a2 2 0 0 1 2-2h12a2 2 0 0 1 2 2v12a2 2 0 0 1-2 2H6a2 2 0 0 1-2-2v-1.5l5-5 4 4 3-3 4 4M15.5 8.5h.01",
  microphone: "M12 3a3 3 0 0 1 3 3v5a3 3 0 0 1-6 0V6a3 3 0 0 1 3-3zM5.5 11a6.5 6.5 0 0 0 13 0M12 17.5V21",
  minus: "M5 12h14",
  next: "M9 5l7 7-7 7",
  pause: "M8 5v14M16 5v14",
  play: "M7 4.5v15l12-7.5z",
  plus: "M12 5v14M5 12h14",
  previous: "M15 5l-7 7 7 7",
  stop: "M7 7h10v10H7z",
  text: "M5 6h14M5 12h14M5 18h9",
  video: "M4 6h11v12H4zM15 10.5l5-3v9l-5-3",
});

/**
 * Creates an element. Properties that start with "on" are listeners, "data-" and "aria-" ones and those in
 * ATTRIBUTES are attributes, all others are properties.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, unknown>} [properties]
 * @param {...(Node | string | null | undefined | false)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
    else if (name.includes("-") || ATTRIBUTES.has(name)) element.setAttribute(name, String(value));
    else /** @type {any} */ (element)[name] = value;
  }
  for (const child of children) if (child || child === "") element.append(child);
  return element;
}
const ATTRIBUTES = new Set(["role", "for", "list", "class"]);

/**
 * The element with an id.
 * @template {HTMLElement} [T=HTMLElement]
 * @param {string} id
 * @returns {T}
 */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no element #${id}`);
  return /** @type {T} */ (element);
}

/**
 * A line drawing in the colour of the text, hidden from screen readers.
 * @param {string} name
 */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.classList.add("icon", `icon-${name}`);
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name] ?? ICONS["text"] ?? "");
  svg.append(path);
  return svg;
}

/**
 * A button with an icon, whose name is read out and shown on hover.
 * @param {string} name of the icon
 * @param {string} label
 * @param {(event: MouseEvent) => void} onclick
 * @param {string} [className]
 */
export function iconButton(name, label, onclick, className = "tool") {
  return make("button", { type: "button", title: label, "aria-label": label, className, onclick }, icon(name));
}

/**
 * A bar for a share, 0 to 1, and its number; screen readers skip the bar.
 * @param {number} share
 * @param {string} shown
 */
export function meter(share, shown) {
  const fill = make("i");
  fill.style.width = `${(100 * Math.min(1, Math.max(0, share))).toFixed(1)}%`;
  return make("span", { className: "meter" }, make("span", { "aria-hidden": "true" }, fill), shown);
}

/**
 * Shows a message for some seconds; screen readers read it out.
 * @param {string} text
 * @param {boolean} [failure]
 */
export function toast(text, failure = false) {
  const element = make("p", { className: failure ? "toast failure" : "toast" }, text);
  const close = iconButton("close", "Dismiss", () => element.remove());
  element.append(close);
  byId("toasts").append(element);
  setTimeout(() => element.remove(), failure ? 12000 : 5000);
}

/**
 * A modal dialog; `onclose` runs however it is closed. Focus, Escape and the backdrop are the browser's.
 * @param {string} label
 * @param {string} className
 * @param {() => void} onclose
 */
export function dialog(label, className, onclose) {
  const element = make("dialog", { "aria-label": label, className });
  element.addEventListener("close", () => {
    element.remove();
    onclose();
  });
  element.addEventListener("click", (event) => {
    if (event.target === element) element.close();
  });
  document.body.append(element);
  return element;
}

const NUMBERS = new Intl.NumberFormat("en");

/** @param {number} value */
export const number = (value) => NUMBERS.format(value);

/**
 * @param {number} count
 * @param {string} noun
 * @param {string} [plural]
 */
export const counted = (count, noun, plural = `${noun}s`) => `${number(count)} ${count === 1 ? noun : plural}`;

/** @param {number | null | undefined} probability */
export function percent(probability) {
  if (probability === null || probability === undefined) return "";
  if (probability > 0 && probability < 0.01) return "< 1 %";
  return `${Math.round(100 * probability)} %`;
}

/**
 * Seconds as a time of a player: 8 -> "0:08".
 * @param {number} seconds
 */
export function clock(seconds) {
  const whole = Math.floor(seconds), hours = Math.floor(whole / 3600), minutes = Math.floor((whole % 3600) / 60);
  const tail = String(whole % 60).padStart(2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${tail}` : `${minutes}:${tail}`;
}
