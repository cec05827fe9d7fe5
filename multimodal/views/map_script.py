"""Drawing of the map on one canvas, so that ten thousand points are a single element.

The data are embedded as JSON: lists x, y, kind (an index into `kinds`), rows ({label, text, uri, about}) and thumb (a
data URI or null), one entry per point. Shape and colour of a glyph both encode its modality. `map_controls` holds the
rest of the script.
"""

DRAWING = r"""
"use strict";
const byId = name => document.getElementById(name), make = name => document.createElement(name);
const data = JSON.parse(byId("data").textContent), n = data.rows.length;
const canvas = byId("map"), pen = canvas.getContext("2d"), thumbnails = byId("thumbnails");
const MARGIN = 46, MOST_ZOOM = 400, MOST_SIDE = 72, LEAST_SIDE = 20, ROOM_TO_NAME = 74, NAMED = 400, NAME_CHARS = 28;
const shown = new Uint8Array(n).fill(1), hit = new Uint8Array(n).fill(1);  // by the legend, by the filter
const images = new Map(), colours = {};
let view = {x: data.middle[0], y: data.middle[1], zoom: 1};
let over = -1, pinned = -1, searching = false, waiting = false, width = 1, height = 1, unit = 1;
const kindOf = k => data.kinds[data.kind[k]];
const isSeen = k => data.thumb[k] && kindOf(k) !== "audio";  // images, and videos by their middle frame

function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of [...data.kinds, "paper", "ink", "faint"]) {
    colours[name] = style.getPropertyValue("--" + name).trim() || "#888";
  }
}
function resize() {
  const ratio = window.devicePixelRatio || 1, box = canvas.getBoundingClientRect();
  width = Math.max(1, box.width);
  height = Math.max(1, box.height);
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  // pixels per unit of the map; the initial view fits all points into the window
  unit = Math.min((width - 2 * MARGIN) / (data.extent[0] || 1e-9), (height - 2 * MARGIN) / (data.extent[1] || 1e-9));
  unit = Math.max(40, Math.min(unit, 3 * Math.max(width, height)));
  ask();
}
const across = k => (data.x[k] - view.x) * unit * view.zoom + width / 2;
const down = k => (data.y[k] - view.y) * unit * view.zoom + height / 2;
const radius = () => Math.min(9, (n > 4000 ? 2.2 : n > 800 ? 3.2 : 5) * Math.pow(view.zoom, 0.3));
function ask() {
  if (!waiting) { waiting = true; requestAnimationFrame(draw); }
}

function polygon(corners) {
  corners.forEach(([x, y], place) => place ? pen.lineTo(x, y) : pen.moveTo(x, y));
  pen.closePath();
}
function glyph(kind, x, y, r) {
  pen.beginPath();
  if (kind === "image") pen.rect(x - r * 0.9, y - r * 0.9, r * 1.8, r * 1.8);
  else if (kind === "audio") polygon([[x, y - r * 1.2], [x + r * 1.1, y + r * 0.8], [x - r * 1.1, y + r * 0.8]]);
  else if (kind === "video") polygon([[x, y - r * 1.2], [x + r * 1.2, y], [x, y + r * 1.2], [x - r * 1.2, y]]);
  else pen.arc(x, y, r, 0, 2 * Math.PI);
}
function thumbnail(k) {
  if (!images.has(k)) {
    const image = new Image();
    image.onload = ask;
    image.src = data.thumb[k];
    images.set(k, image);
  }
  const image = images.get(k);
  return image.complete && image.naturalWidth ? image : null;
}
function inView(edge) {
  const visible = [];
  for (let k = 0; k < n; k++) {
    if (!shown[k]) continue;
    const x = across(k), y = down(k);
    if (x > -edge && y > -edge && x < width + edge && y < height + edge) visible.push(k);
  }
  return visible;
}
function draw() {
  waiting = false;
  pen.clearRect(0, 0, width, height);
  const r = radius(), visible = inView(r + MOST_SIDE);
  if (searching) {
    pen.fillStyle = colours.faint;
    for (const k of visible) if (!hit[k]) { glyph(kindOf(k), across(k), down(k), r * 0.8); pen.fill(); }
  }
  const lively = visible.filter(k => hit[k]), room = Math.sqrt(width * height / Math.max(1, lively.length));
  const side = Math.min(MOST_SIDE, room * 0.42), asThumbnails = thumbnails.checked && side >= LEAST_SIDE, taken = [];
  pen.globalAlpha = n > 4000 ? 0.75 : 0.9;
  for (const k of lively) {
    const kind = kindOf(k), image = asThumbnails && isSeen(k) ? thumbnail(k) : null;
    if (image) { taken.push(framed(image, k, side, colours[kind])); continue; }
    pen.fillStyle = colours[kind];
    glyph(kind, across(k), down(k), r);
    pen.fill();
    if (n <= 4000) { pen.lineWidth = 1; pen.strokeStyle = colours.paper; pen.stroke(); }
  }
  pen.globalAlpha = 1;
  if (room > ROOM_TO_NAME) captions(lively, taken, r, asThumbnails);
  for (const k of [over, pinned]) if (k >= 0 && shown[k]) marked(k, r);
}
function framed(image, k, side, colour) {
  const scale = side / Math.max(image.naturalWidth, image.naturalHeight);
  const w = image.naturalWidth * scale, h = image.naturalHeight * scale, x = across(k) - w / 2, y = down(k) - h / 2;
  pen.drawImage(image, x, y, w, h);
  pen.strokeStyle = colour;
  pen.lineWidth = 1.5;
  pen.strokeRect(x, y, w, h);
  return [x, y, w, h];
}
// names beside the glyphs, where they overlap neither a thumbnail nor another name
function captions(visible, taken, r, asThumbnails) {
  pen.font = "12px system-ui, sans-serif";
  pen.textBaseline = "middle";
  pen.lineWidth = 3;
  pen.strokeStyle = colours.paper;
  pen.fillStyle = colours.ink;
  pen.globalAlpha = 0.85;
  for (const k of visible.slice(0, NAMED)) {
    if (asThumbnails && isSeen(k)) continue;
    const name = data.rows[k].label, label = name.length > NAME_CHARS ? name.slice(0, NAME_CHARS - 1) + "…" : name;
    const w = pen.measureText(label).width, y = down(k) - 8;
    const x = [across(k) + r + 5, across(k) - r - 5 - w].find(x => taken.every(
      ([left, top, wide, high]) => x > left + wide || left > x + w || y > top + high || top > y + 16));
    if (x === undefined) continue;
    taken.push([x, y, w, 16]);
    pen.strokeText(label, x, y + 8);
    pen.fillText(label, x, y + 8);
  }
  pen.globalAlpha = 1;
}
function marked(k, r) {
  pen.strokeStyle = colours.ink;
  pen.lineWidth = 2;
  pen.beginPath();
  pen.arc(across(k), down(k), r + 5, 0, 2 * Math.PI);
  pen.stroke();
}
function nearest(x, y) {
  let best = -1, least = Math.pow(Math.max(14, radius() + 6), 2);
  for (let k = 0; k < n; k++) {
    if (!shown[k] || !hit[k]) continue;
    const dx = across(k) - x, dy = down(k) - y, far = dx * dx + dy * dy;
    if (far < least) { least = far; best = k; }
  }
  return best;
}
"""
