"""Style sheet of the map: light and dark, wide and narrow."""

STYLE = """
:root {
  --paper: #f7f6f3; --card: #ffffff; --ink: #1d2025; --soft: #5c636e; --line: #e0ddd5; --faint: #cfccc4;
  --text: #b25f06; --image: #2a66c8; --audio: #7c3fc0; --video: #0f8a7d;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14161a; --card: #1d2026; --ink: #eceef1; --soft: #a2a9b5; --line: #30353d; --faint: #3b414b;
    --text: #f0a94e; --image: #7fb0f8; --audio: #c597f5; --video: #55cdbf;
  }
}
* { box-sizing: border-box; margin: 0; }
html, body { height: 100%; }
body {
  background: var(--paper); color: var(--ink); display: flex; flex-direction: column; overflow: hidden;
  font: 15px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
header { display: flex; flex-wrap: wrap; align-items: center; gap: 10px 22px; padding: 12px 18px;
  background: var(--card); border-bottom: 1px solid var(--line); }
h1 { font-size: 18px; letter-spacing: -.01em; line-height: 1.2; }
.sub { color: var(--soft); font-size: 13px; }
.title { flex: 1 1 220px; min-width: 0; }
.title h1, .sub { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.legend { display: flex; flex-wrap: wrap; gap: 6px; }
button {
  font: inherit; font-size: 14px; color: var(--ink); background: var(--paper); border: 1px solid var(--line);
  border-radius: 999px; padding: 4px 12px; cursor: pointer; display: inline-flex; align-items: center; gap: 7px;
}
button:hover { border-color: var(--soft); }
button:focus-visible, input:focus-visible, canvas:focus-visible, summary:focus-visible {
  outline: 2px solid var(--image); outline-offset: 2px; }
canvas:focus-visible { outline-offset: -3px; }
button[aria-pressed="false"] { color: var(--soft); opacity: .6; }
button[aria-pressed="false"] svg { filter: grayscale(1); }
.legend svg { width: 12px; height: 12px; }
.count { color: var(--soft); font-variant-numeric: tabular-nums; }
.find { display: flex; align-items: center; gap: 10px; }
input[type="search"] {
  font: inherit; color: var(--ink); background: var(--paper); border: 1px solid var(--line); border-radius: 999px;
  padding: 5px 14px; width: min(250px, 60vw);
}
#found { color: var(--soft); font-size: 13px; min-width: 5.5em; }
main { position: relative; flex: 1; min-height: 0; overflow: hidden; }
canvas { position: absolute; inset: 0; width: 100%; height: 100%; display: block; cursor: grab; touch-action: none; }
canvas.dragged { cursor: grabbing; } canvas.over { cursor: pointer; }
.zoom { position: absolute; right: 16px; bottom: 16px; display: flex; flex-direction: column; gap: 6px; }
.zoom button { width: 36px; height: 36px; padding: 0; justify-content: center; background: var(--card);
  font-size: 17px; }
#tip {
  position: absolute; max-width: min(300px, 80vw); background: var(--card); border: 1px solid var(--line);
  border-radius: 12px; padding: 10px 12px; box-shadow: 0 6px 24px rgb(0 0 0 / .18); font-size: 14px;
  pointer-events: none; z-index: 2;
}
#tip[hidden] { display: none; }
#tip.pinned { pointer-events: auto; border-color: var(--soft); }
#tip img { display: block; max-width: 150px; max-height: 150px; min-width: 64px; border-radius: 8px; margin-bottom: 8px;
  object-fit: contain; background: var(--paper); }
#tip audio { width: 250px; max-width: 100%; height: 36px; margin-top: 8px; display: block; }
#tip .kind { font-size: 12px; font-weight: 600; }
#tip .words { overflow-wrap: anywhere; white-space: pre-line; max-height: 11em; overflow: auto; }
#tip .uri, #tip .about, #tip .hint { color: var(--soft); font-size: 12px; overflow-wrap: anywhere; margin-top: 4px; }
.text { color: var(--text); } .image { color: var(--image); } .audio { color: var(--audio); }
.video { color: var(--video); }
#list { position: absolute; left: 16px; top: 14px; width: min(260px, 70vw); max-height: calc(100% - 76px);
  overflow: auto;
  background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 6px; list-style: none; }
#list[hidden] { display: none; }
#list button { width: 100%; border: 0; border-radius: 8px; background: none; padding: 5px 8px; text-align: left; }
#list button:hover, #list button:focus-visible { background: var(--paper); }
#list svg { flex: none; width: 11px; height: 11px; }
#list span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
#list .rest { color: var(--soft); font-size: 13px; padding: 4px 8px; }
details { position: absolute; left: 16px; bottom: 16px; max-width: min(430px, calc(100% - 90px));
  background: var(--card); border: 1px solid var(--line); border-radius: 12px; font-size: 13.5px; }
summary { cursor: pointer; padding: 7px 13px; color: var(--soft); }
details p { padding: 0 13px 10px; }
noscript p { padding: 24px; }
@media (max-width: 560px) { header { padding: 10px 12px; gap: 8px 12px; } .find { width: 100%; }
  input[type="search"] { flex: 1; width: auto; } }
"""
