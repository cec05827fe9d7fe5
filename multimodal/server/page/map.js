// A map of the index on one canvas: each point is an item, similar items are close. The hits of the query are marked.

import * as api from "./api.js";
import { byId, counted, iconButton, make, number } from "./dom.js";

/** @import { Point, PointMap } from "./types.d.ts" */

const MARGIN = 40, MOST_ZOOM = 200, REACH = 14, THUMB = 56, MOST_THUMBS = 80;

/**
 * @typedef {object} MapActions
 * @property {(id: string) => void} open
 * @property {(message: string) => void} failed
 */

export class ItemMap {
  /**
   * @param {HTMLElement} section
   * @param {MapActions} actions
   */
  constructor(section, actions) {
    this.section = section;
    this.actions = actions;
    this.index = /** @type {string | null} */ (null);
    /** @type {PointMap} */
    this.data = { method: "", total: 0, points: [], notes: [] };
    /** @type {Set<string>} */
    this.hits = new Set();
    /** @type {Set<string>} */
    this.modalities = new Set();
    /** @type {Map<string, HTMLImageElement>} */
    this.images = new Map();
    this.view = { x: 0.5, y: 0.5, zoom: 1 };
    this.over = -1;
    this.canvas = make("canvas", { tabIndex: 0, role: "img" });
    this.label = make("p", { className: "tip", hidden: true });
    this.status = make("p", { className: "soft", role: "status" });
    const zoom = make("div", { className: "zoom" },
      iconButton("plus", "Zoom in (+)", () => this.zoom(1.6)), iconButton("minus", "Zoom out (−)", () => this.zoom(1 / 1.6)));
    section.append(this.canvas, this.label, zoom, this.status);
    this.listen();
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  /**
   * @param {string} index
   * @param {string[]} modalities
   */
  async show(index, modalities) {
    this.modalities = new Set(modalities);
    if (this.index !== index) {
      this.index = index;
      this.status.textContent = "The map is being computed…";
      try {
        this.data = await api.map(index);
        this.images.clear();
        this.view = { x: 0.5, y: 0.5, zoom: 1 };
        this.status.textContent = [`${counted(this.data.points.length, "item")}, ${this.data.method}`, ...this.data.notes].join(". ");
        this.canvas.setAttribute("aria-label",
          `Map of ${number(this.data.points.length)} items; the grid shows the same items as a list`);
      } catch (error) {
        this.index = null;
        this.status.textContent = "";
        this.actions.failed(error instanceof Error ? error.message : String(error));
      }
    }
    this.draw();
  }

  /** @param {string[]} ids */
  mark(ids) {
    this.hits = new Set(ids);
    this.draw();
  }

  get unit() {
    return Math.min(this.canvas.clientWidth, this.canvas.clientHeight) - 2 * MARGIN;
  }

  /** @param {Point} point */
  place(point) {
    const scale = this.unit * this.view.zoom, { clientWidth, clientHeight } = this.canvas;
    return [(point.x - this.view.x) * scale + clientWidth / 2, (point.y - this.view.y) * scale + clientHeight / 2];
  }

  draw() {
    if (this.section.hidden) return;
    const { canvas } = this, ratio = devicePixelRatio || 1, pen = canvas.getContext("2d");
    if (!pen) return;
    canvas.width = Math.round(canvas.clientWidth * ratio);
    canvas.height = Math.round(canvas.clientHeight * ratio);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    const style = getComputedStyle(document.documentElement), colour = (/** @type {string} */ name) =>
      style.getPropertyValue(`--${name}`).trim() || "#888";
    const colours = /** @type {Record<string, string>} */ (Object.fromEntries(
      ["text", "image", "audio", "video", "track", "ink"].map((name) => [name, colour(name)])));
    const radius = Math.min(8, (this.data.points.length > 4000 ? 2 : 4) * this.view.zoom ** 0.3);
    const near = [];
    for (const [k, point] of this.data.points.entries()) {
      const [x = 0, y = 0] = this.place(point);
      if (x < -THUMB || y < -THUMB || x > canvas.clientWidth + THUMB || y > canvas.clientHeight + THUMB) continue;
      if (this.modalities.size && !this.modalities.has(point.modality)) continue;
      near.push({ k, x, y, point });
    }
    const thumbs = near.length <= MOST_THUMBS && this.view.zoom > 1;
    for (const { k, x, y, point } of near) {
      const faded = this.hits.size > 0 && !this.hits.has(point.id);
      const image = thumbs && !faded && point.modality === "image" ? this.thumb(point.id) : null;
      pen.globalAlpha = faded ? 0.8 : 0.95;
      if (image) {
        const scale = THUMB / Math.max(image.naturalWidth, image.naturalHeight);
        pen.drawImage(image, x - (image.naturalWidth * scale) / 2, y - (image.naturalHeight * scale) / 2,
          image.naturalWidth * scale, image.naturalHeight * scale);
      } else {
        pen.fillStyle = faded ? colours["track"] ?? "" : colours[point.modality] ?? "#888";
        pen.beginPath();
        pen.arc(x, y, radius, 0, 2 * Math.PI);
        pen.fill();
      }
      if (k === this.over) {
        pen.globalAlpha = 1;
        pen.strokeStyle = colours["ink"] ?? "";
        pen.lineWidth = 2;
        pen.beginPath();
        pen.arc(x, y, radius + 4, 0, 2 * Math.PI);
        pen.stroke();
      }
    }
  }

  /** @param {string} id */
  thumb(id) {
    let image = this.images.get(id);
    if (!image) {
      image = new Image();
      image.onload = () => this.draw();
      image.src = api.thumb(this.index ?? "", id);
      this.images.set(id, image);
    }
    return image.complete && image.naturalWidth ? image : null;
  }

  /**
   * @param {number} times
   * @param {number} [x]
   * @param {number} [y]
   */
  zoom(times, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) {
    const before = this.unit * this.view.zoom;
    this.view.zoom = Math.max(0.5, Math.min(MOST_ZOOM, this.view.zoom * times));
    const after = this.unit * this.view.zoom;
    this.view.x += (x - this.canvas.clientWidth / 2) * (1 / before - 1 / after);
    this.view.y += (y - this.canvas.clientHeight / 2) * (1 / before - 1 / after);
    this.draw();
  }

  /**
   * @param {number} x
   * @param {number} y
   */
  nearest(x, y) {
    let best = -1, least = REACH ** 2;
    for (const [k, point] of this.data.points.entries()) {
      if (this.modalities.size && !this.modalities.has(point.modality)) continue;
      const [px = 0, py = 0] = this.place(point), distance = (px - x) ** 2 + (py - y) ** 2;
      if (distance < least) [best, least] = [k, distance];
    }
    return best;
  }

  /** @param {number} k */
  point(k) {
    this.over = k;
    const point = this.data.points[k];
    this.label.hidden = !point;
    this.canvas.classList.toggle("over", Boolean(point));
    if (point) {
      const [x = 0, y = 0] = this.place(point);
      this.label.textContent = point.label;
      this.label.style.left = `${Math.min(x + 12, this.canvas.clientWidth - this.label.offsetWidth - 8)}px`;
      this.label.style.top = `${y + 14}px`;
    }
    this.draw();
  }

  listen() {
    const { canvas } = this;
    /** @type {{x: number, y: number, moved: boolean} | null} */
    let held = null;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      held = { x: event.offsetX, y: event.offsetY, moved: false };
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!held) {
        const k = this.nearest(event.offsetX, event.offsetY);
        if (k !== this.over) this.point(k);
        return;
      }
      const dx = event.offsetX - held.x, dy = event.offsetY - held.y, scale = this.unit * this.view.zoom;
      if (!held.moved && Math.hypot(dx, dy) < 4) return; // a click is never quite still
      held = { x: event.offsetX, y: event.offsetY, moved: true };
      this.view.x -= dx / scale;
      this.view.y -= dy / scale;
      this.point(-1);
    });
    canvas.addEventListener("pointerup", (event) => {
      const point = held && !held.moved && this.data.points[this.nearest(event.offsetX, event.offsetY)];
      held = null;
      if (point) this.actions.open(point.id);
    });
    canvas.addEventListener("pointercancel", () => (held = null));
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY * 0.0016), event.offsetX, event.offsetY);
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      const way = ways[/** @type {keyof typeof ways} */ (event.key)], scale = this.unit * this.view.zoom;
      if (way) {
        event.preventDefault();
        this.view.x += (60 * (way[0] ?? 0)) / scale;
        this.view.y += (60 * (way[1] ?? 0)) / scale;
        this.draw();
      } else if (event.key === "+" || event.key === "=") this.zoom(1.4);
      else if (event.key === "-") this.zoom(1 / 1.4);
    });
  }
}

export const section = () => byId("map");
