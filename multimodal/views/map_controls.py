"""Controls of the map: dragging, zooming, hovering, the legend, the filter, and the keyboard."""

CONTROLS = r"""
const tip = byId("tip"), list = byId("list"), foundCount = byId("found"), search = byId("search"), LISTED = 60;
const on = data.kinds.map(() => true);
const words = data.rows.map(r => [r.label, r.text, r.uri, r.about].filter(Boolean).join("\n").toLowerCase());

function line(name, text) {
  if (!text) return null;
  const paragraph = make("p");
  paragraph.className = name;
  paragraph.textContent = text;
  return paragraph;
}
function player(k) {
  const audio = make("audio");
  audio.controls = true;
  audio.src = data.thumb[k];
  audio.play().catch(() => {});  // browsers may require another click before they play
  return audio;
}
function showTip(k, pin) {
  if (k < 0) { tip.hidden = true; tip.replaceChildren(); return; }
  const row = data.rows[k], kind = kindOf(k), parts = [];
  if (isSeen(k)) {
    const image = make("img");
    image.src = data.thumb[k];
    image.alt = row.label;
    parts.push(image);
  }
  const head = line("kind", data.names[kind] || kind);
  head.classList.add(kind);
  parts.push(head, line("words", row.text || row.label), line("about", row.about), line("uri", row.uri));
  if (data.thumb[k] && kind === "audio") parts.push(pin ? player(k) : line("hint", "click to hear it"));
  tip.replaceChildren(...parts.filter(Boolean));
  tip.classList.toggle("pinned", pin);
  tip.hidden = false;
  place(k);
}
function place(k) {
  const x = across(k), y = down(k), box = tip.getBoundingClientRect();
  tip.style.left = Math.max(8, Math.min(x + 16, width - box.width - 8)) + "px";
  tip.style.top = (y + 16 + box.height > height - 8 ? Math.max(8, y - box.height - 14) : y + 14) + "px";
}
function hover(x, y) {
  const k = nearest(x, y);
  canvas.classList.toggle("over", k >= 0);
  if (k === over) return;
  over = k;
  if (pinned < 0) showTip(k, false);
  ask();
}
function pin(k) {
  pinned = k;
  showTip(k, k >= 0);
  ask();
}
function moved() {
  if (pinned >= 0) place(pinned);
  else if (over >= 0) { over = -1; showTip(-1, false); }
  ask();
}
function zoomAt(x, y, times) {
  const zoom = Math.max(0.5, Math.min(MOST_ZOOM, view.zoom * times)), before = unit * view.zoom, after = unit * zoom;
  view = {
    x: view.x + (x - width / 2) * (1 / before - 1 / after),
    y: view.y + (y - height / 2) * (1 / before - 1 / after),
    zoom,
  };
  moved();
}
const zoomMiddle = times => zoomAt(width / 2, height / 2, times);
function fit() {
  view = {x: data.middle[0], y: data.middle[1], zoom: 1};
  moved();
}
function goTo(k) {
  view = {x: data.x[k], y: data.y[k], zoom: Math.max(3, view.zoom)};
  pin(k);
}

const fingers = new Map();
let dragged = false, spread = 0;
function at(event) {
  const box = canvas.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}
function drag(event, now, before) {
  fingers.set(event.pointerId, now);
  if (fingers.size === 1) {
    view.x -= (now[0] - before[0]) / (unit * view.zoom);
    view.y -= (now[1] - before[1]) / (unit * view.zoom);
    moved();
    return;
  }
  const [a, b] = [...fingers.values()], gap = Math.hypot(a[0] - b[0], a[1] - b[1]);
  if (spread) zoomAt((a[0] + b[0]) / 2, (a[1] + b[1]) / 2, gap / spread);
  spread = gap;
}
function lifted(event) {
  const was = fingers.delete(event.pointerId);
  spread = 0;
  canvas.classList.remove("dragged");
  if (!was || event.type !== "pointerup" || dragged) return;
  const k = nearest(...at(event));
  pin(k === pinned ? -1 : k);
}
canvas.addEventListener("pointerdown", event => {
  canvas.setPointerCapture(event.pointerId);
  if (!fingers.size) dragged = false;
  fingers.set(event.pointerId, at(event));
});
canvas.addEventListener("pointermove", event => {
  const now = at(event), before = fingers.get(event.pointerId);
  if (!before) { hover(...now); return; }
  if (!dragged && Math.hypot(now[0] - before[0], now[1] - before[1]) < 4) return;  // clicks are never quite still
  dragged = true;
  canvas.classList.add("dragged");
  drag(event, now, before);
});
canvas.addEventListener("pointerup", lifted);
canvas.addEventListener("pointercancel", lifted);
canvas.addEventListener("pointerleave", () => {
  if (over < 0) return;
  over = -1;
  if (pinned < 0) showTip(-1, false);
  ask();
});
canvas.addEventListener("wheel", event => {
  event.preventDefault();
  zoomAt(...at(event), Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)));
}, {passive: false});
canvas.addEventListener("dblclick", event => zoomAt(...at(event), 2));
byId("in").addEventListener("click", () => zoomMiddle(1.6));
byId("out").addEventListener("click", () => zoomMiddle(1 / 1.6));
byId("fit").addEventListener("click", fit);
thumbnails.addEventListener("change", ask);
const ARROWS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
document.addEventListener("keydown", event => {
  const typing = document.activeElement === search, way = ARROWS[event.key];
  if (event.key === "Escape") {
    if (search.value) { search.value = ""; filter(); } else pin(-1);
    return;
  }
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") { event.preventDefault(); search.focus(); }
  else if (event.key === "+" || event.key === "=") zoomMiddle(1.4);
  else if (event.key === "-") zoomMiddle(1 / 1.4);
  else if (event.key === "0") fit();
  else if (way && document.activeElement === canvas) {
    event.preventDefault();
    view.x += way[0] * 60 / (unit * view.zoom);
    view.y += way[1] * 60 / (unit * view.zoom);
    moved();
  }
});

const SHAPES = {
  image: '<rect x="1" y="1" width="10" height="10"/>', audio: '<path d="M6 0.5 11.8 11H0.2Z"/>',
  video: '<path d="M6 0 12 6 6 12 0 6Z"/>', text: '<circle cx="6" cy="6" r="5.5"/>',
};
function mark(kind) {
  const holder = make("template"), shape = SHAPES[kind] || SHAPES.text;
  holder.innerHTML = '<svg viewBox="0 0 12 12" aria-hidden="true" fill="currentColor">' + shape + "</svg>";
  holder.content.firstChild.setAttribute("class", kind);
  return holder.content.firstChild;
}
function entry(k) {
  const item = make("li"), go = make("button"), name = make("span");
  name.textContent = data.rows[k].label;
  go.type = "button";
  go.append(mark(kindOf(k)), name);
  go.addEventListener("click", () => goTo(k));
  item.append(go);
  return item;
}
function count() {
  const hits = [];
  for (let k = 0; searching && k < n; k++) if (shown[k] && hit[k]) hits.push(k);
  foundCount.textContent = !searching ? "" : hits.length ? hits.length.toLocaleString("en") + " found" : "none found";
  const entries = hits.slice(0, LISTED).map(entry);
  if (hits.length > LISTED) {
    const rest = make("li");
    rest.className = "rest";
    rest.textContent = "and " + (hits.length - LISTED).toLocaleString("en") + " more";
    entries.push(rest);
  }
  list.replaceChildren(...entries);
  list.hidden = !hits.length;
  ask();
}
function filter() {
  const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  searching = wanted.length > 0;
  for (let k = 0; k < n; k++) hit[k] = wanted.every(word => words[k].includes(word)) ? 1 : 0;
  if (pinned >= 0 && !hit[pinned]) pin(-1);
  count();
}
search.addEventListener("input", filter);
for (const toggle of document.querySelectorAll(".legend button")) {
  const kind = data.kinds.indexOf(toggle.dataset.kind);
  toggle.prepend(mark(toggle.dataset.kind));
  toggle.addEventListener("click", () => {
    on[kind] = !on[kind];
    toggle.setAttribute("aria-pressed", on[kind]);
    for (let k = 0; k < n; k++) shown[k] = on[data.kind[k]] ? 1 : 0;
    if (pinned >= 0 && !shown[pinned]) pin(-1);
    count();
  });
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColours(); ask(); });
new ResizeObserver(resize).observe(canvas);
readColours();
resize();
"""
