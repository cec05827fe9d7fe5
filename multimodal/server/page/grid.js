// The grid of items: pages of cards, of which only those near the window are in the document.
//
// Each page is a list of PAGE cards of known height. While all items are browsed, there is an empty page for every PAGE
// items of the index, so that the scroll bar covers all of them, and what is scrolled past is never loaded. Hits of a
// search come page by page, up to MOST_HITS.

import { card } from "./cards.js";
import { make } from "./dom.js";

/** @import { CardActions } from "./cards.js" */
/** @import { Item, Page, State } from "./types.d.ts" */

export const PAGE = 60; // divisible by every number of columns, so that no page ends in the middle of a row
const COLUMNS = [[1800, 10], [1120, 6], [900, 5], [680, 4], [500, 3], [0, 2]];
const MOST_HITS = 1200;
const KEPT_PAGES = 60; // of which the items stay in memory
const SETTLE_MS = 70; // what is scrolled past faster is not loaded
const MARGIN = "1000px 0px";

/** @typedef {{list: HTMLUListElement, items: Item[] | null, near: boolean, timer: number, abort: AbortController | null}} Sheet */

export class Grid {
  /**
   * @param {HTMLElement} element
   * @param {CardActions} actions
   * @param {(message: string) => void} failed
   */
  constructor(element, actions, failed) {
    this.element = element;
    this.actions = actions;
    this.failed = failed;
    /** @type {Sheet[]} */
    this.sheets = [];
    /** @type {State | null} */
    this.state = null;
    this.total = 0;
    this.mixed = false;
    this.current = 0;
    this.columns = 1;
    /** @type {(offset: number, limit: number, signal: AbortSignal) => Promise<Page>} */
    this.load = async () => ({ items: [], total: 0, note: "", ms: 0 });
    this.observer = new IntersectionObserver((entries) => entries.forEach((entry) => this.moved(entry)), {
      rootMargin: MARGIN,
    });
    new ResizeObserver(() => this.layout()).observe(element);
    element.addEventListener("keydown", (event) => this.key(event));
    element.addEventListener("focusin", (event) => this.focused(event));
  }

  /**
   * Shows a first page, and loads the others as they come near.
   * @param {State} state
   * @param {Page} page
   * @param {Grid["load"]} load
   */
  show(state, page, load) {
    this.clear();
    this.state = state;
    this.load = load;
    this.current = 0;
    this.mixed = new Set(page.items.map((item) => item.modality)).size > 1;
    this.total = page.total ?? page.items.length;
    this.element.classList.toggle("unranked", page.total !== null);
    const n = Math.ceil(this.total / PAGE), full = page.total === null && page.items.length === PAGE;
    const sheets = Array.from({ length: full ? n + 1 : n }, (_, position) => this.sheet(position));
    this.layout();
    const first = sheets[0];
    if (first) {
      first.items = page.items;
      this.fill(first, 0);
    }
    this.element.replaceChildren(...sheets.map((sheet) => sheet.list));
    for (const sheet of sheets) this.observer.observe(sheet.list);
  }

  clear() {
    this.observer.disconnect();
    for (const sheet of this.sheets) this.leave(sheet);
    this.sheets = [];
    this.total = 0;
    this.element.replaceChildren();
  }

  /** The items that were loaded, in order. */
  get loaded() {
    return this.sheets.flatMap((sheet) => sheet.items ?? []);
  }

  /** @param {number} position */
  sheet(position) {
    const n = Math.max(0, Math.min(PAGE, this.total - position * PAGE));
    const list = make("ul", { className: "page", role: "list", "aria-label": `Results ${position * PAGE + 1} and on` });
    list.dataset["n"] = String(n);
    /** @type {Sheet} */
    const sheet = { list, items: null, near: false, timer: 0, abort: null };
    this.sheets.push(sheet);
    return sheet;
  }

  /** Columns and heights; the height of a card follows from its width, so that it is known before it is drawn. */
  layout() {
    const width = this.element.clientWidth;
    if (!width) return;
    this.columns = COLUMNS.find(([least]) => width >= (least ?? 0))?.[1] ?? 2;
    const style = getComputedStyle(this.element);
    const gap = parseFloat(style.getPropertyValue("--gap")), caption = parseFloat(style.getPropertyValue("--caption"));
    const row = (width - gap * (this.columns - 1)) / this.columns + caption + gap;
    this.element.style.setProperty("--columns", String(this.columns));
    for (const sheet of this.sheets) {
      const height = Math.ceil(Number(sheet.list.dataset["n"]) / this.columns) * row;
      sheet.list.style.setProperty("--height", `${height.toFixed(1)}px`);
    }
  }

  /** @param {IntersectionObserverEntry} entry */
  moved(entry) {
    const position = this.sheets.findIndex((sheet) => sheet.list === entry.target), sheet = this.sheets[position];
    if (!sheet) return;
    if (entry.isIntersecting) this.enter(sheet, position);
    else this.leave(sheet);
  }

  /**
   * @param {Sheet} sheet
   * @param {number} position
   */
  enter(sheet, position) {
    sheet.near = true;
    if (sheet.items) {
      this.fill(sheet, position);
      return;
    }
    if (sheet.timer || sheet.abort) return;
    sheet.timer = window.setTimeout(() => {
      sheet.timer = 0;
      void this.fetch(sheet, position);
    }, SETTLE_MS);
  }

  /** @param {Sheet} sheet */
  leave(sheet) {
    sheet.near = false;
    window.clearTimeout(sheet.timer);
    sheet.timer = 0;
    sheet.abort?.abort();
    sheet.abort = null;
    if (sheet.list.childElementCount && !sheet.list.contains(document.activeElement)) sheet.list.replaceChildren();
  }

  /**
   * @param {Sheet} sheet
   * @param {number} position
   */
  async fetch(sheet, position) {
    const abort = new AbortController();
    sheet.abort = abort;
    try {
      const page = await this.load(position * PAGE, PAGE, abort.signal);
      if (abort.signal.aborted) return;
      sheet.items = page.items;
      if (page.total === null) this.grow(sheet, position);
      this.forget(position);
      if (sheet.near) this.fill(sheet, position);
    } catch (error) {
      if (!abort.signal.aborted) this.failed(error instanceof Error ? error.message : String(error));
    } finally {
      if (sheet.abort === abort) sheet.abort = null;
    }
  }

  /**
   * After a page of hits: its real length, and a page for what follows.
   * @param {Sheet} sheet
   * @param {number} position
   */
  grow(sheet, position) {
    const n = sheet.items?.length ?? 0;
    this.total = position * PAGE + n;
    sheet.list.dataset["n"] = String(n);
    if (n === PAGE && this.total < MOST_HITS) {
      const next = this.sheet(this.sheets.length);
      this.element.append(next.list);
      this.observer.observe(next.list);
    }
    this.layout();
  }

  /** @param {number} position of a page that stays */
  forget(position) {
    const loaded = this.sheets.filter((sheet) => sheet.items && !sheet.near);
    if (loaded.length <= KEPT_PAGES || this.total <= MOST_HITS) return;
    const distance = (/** @type {Sheet} */ sheet) => Math.abs(this.sheets.indexOf(sheet) - position);
    loaded.sort((a, b) => distance(b) - distance(a));
    for (const sheet of loaded.slice(0, loaded.length - KEPT_PAGES)) sheet.items = null;
  }

  /**
   * @param {Sheet} sheet
   * @param {number} position
   */
  fill(sheet, position) {
    const state = this.state;
    if (!state || sheet.list.childElementCount) return;
    sheet.list.append(...(sheet.items ?? []).map((item, offset) => {
      const element = card(state, item, this.mixed, this.actions), rank = position * PAGE + offset;
      element.setAttribute("aria-setsize", String(this.total));
      element.setAttribute("aria-posinset", String(rank + 1));
      element.dataset["rank"] = String(rank);
      if (rank === this.current) linkOf(element).tabIndex = 0;
      return element;
    }));
  }

  /** @param {FocusEvent} event */
  focused(event) {
    const element = cardOf(event.target);
    if (!element) return;
    const before = this.cardAt(this.current);
    if (before) linkOf(before).tabIndex = -1;
    this.current = Number(element.dataset["rank"]);
    linkOf(element).tabIndex = 0;
  }

  /** @param {number} rank */
  cardAt(rank) {
    const element = this.sheets[Math.floor(rank / PAGE)]?.list.children[rank % PAGE];
    return element instanceof HTMLElement ? element : null;
  }

  /** @param {number} rank */
  itemAt(rank) {
    return this.sheets[Math.floor(rank / PAGE)]?.items?.[rank % PAGE] ?? null;
  }

  /** @param {string} id */
  rankOf(id) {
    for (const [position, sheet] of this.sheets.entries()) {
      const offset = sheet.items?.findIndex((item) => item.id === id) ?? -1;
      if (offset >= 0) return position * PAGE + offset;
    }
    return -1;
  }

  /**
   * Moves the focus to a card, which is loaded first if need be.
   * @param {number} rank
   */
  async focus(rank) {
    const target = Math.max(0, Math.min(this.total - 1, rank)), position = Math.floor(target / PAGE);
    const sheet = this.sheets[position];
    if (!sheet) return;
    if (!sheet.items) await this.fetch(sheet, position);
    this.fill(sheet, position);
    const element = this.cardAt(target);
    if (!element) return;
    linkOf(element).focus({ preventScroll: true });
    element.scrollIntoView({ block: "nearest" });
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.target instanceof HTMLAnchorElement)) return;
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns, Home: -Infinity };
    const step = event.key in steps ? steps[/** @type {keyof typeof steps} */ (event.key)] : null;
    const item = this.itemAt(this.current);
    if (step !== null) {
      event.preventDefault();
      if (step === -this.columns && this.current < this.columns) document.getElementById("q")?.focus();
      else void this.focus(this.current + step);
    } else if (event.key === "m" && item) {
      this.actions.more(item);
    } else if (event.key === "x" && item) {
      const box = this.cardAt(this.current)?.querySelector("input");
      box?.click();
    } else if ((event.key === "p" || event.key === " ") && item) {
      event.preventDefault();
      const button = this.cardAt(this.current)?.querySelector("button.play");
      if (button instanceof HTMLButtonElement) button.click();
    }
  }

  /** Boxes as the selection has them. */
  refreshSelection() {
    for (const box of this.element.querySelectorAll("input.pick")) {
      const id = cardOf(box)?.dataset["id"];
      if (box instanceof HTMLInputElement && id) box.checked = this.actions.isSelected(id);
    }
  }
}

/**
 * @param {EventTarget | null} target
 * @returns {HTMLElement | null}
 */
const cardOf = (target) => (target instanceof Element ? target.closest("li.card") : null);

/**
 * @param {HTMLElement} element a card
 * @returns {HTMLElement}
 */
const linkOf = (element) => /** @type {HTMLElement} */ (element.querySelector("a.open"));
