"""Style sheet of the report: light and dark, wide and narrow."""

STYLE = """
:root {
  --paper: #f7f6f3; --card: #ffffff; --ink: #1d2025; --soft: #5c636e; --line: #e4e1da; --track: #ebe8e1;
  --text: #b25f06; --image: #2a66c8; --audio: #7c3fc0;
  --text-wash: #fdf3e4; --image-wash: #eaf1fc; --audio-wash: #f3ebfb;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14161a; --card: #1d2026; --ink: #eceef1; --soft: #a2a9b5; --line: #2d323a; --track: #2c3038;
    --text: #f0a94e; --image: #7fb0f8; --audio: #c597f5;
    --text-wash: #2a2218; --image-wash: #1a2536; --audio-wash: #271d35;
  }
}
* { box-sizing: border-box; margin: 0; }
body {
  background: var(--paper); color: var(--ink); padding: 0 clamp(14px, 4vw, 48px) 64px;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
header, main, footer { max-width: 1120px; margin: 0 auto; }
header { padding: clamp(32px, 6vw, 72px) 0 8px; }
.brand { color: var(--soft); font-size: 14px; letter-spacing: .02em; }
h1 { font-size: clamp(30px, 5.2vw, 54px); line-height: 1.08; letter-spacing: -.025em; margin: 10px 0 16px;
  text-wrap: balance; }
h1 .text { color: var(--text); } h1 .image { color: var(--image); } h1 .audio { color: var(--audio); }
.lead { font-size: clamp(17px, 2vw, 20px); color: var(--soft); max-width: 44em; }
.facts { display: flex; flex-wrap: wrap; gap: 14px 34px; padding: 24px 0 0; }
.facts div { display: flex; flex-direction: column-reverse; }
.facts dd { font-size: 26px; font-weight: 650; letter-spacing: -.02em; line-height: 1.2; }
.facts dt { color: var(--soft); font-size: 13.5px; }
h2 { font-size: 23px; letter-spacing: -.015em; margin: 52px 0 14px; }

.question {
  display: grid; grid-template-columns: 190px 1fr; gap: 0 26px; align-items: stretch; margin-bottom: 16px;
  background: var(--card); border: 1px solid var(--line); border-radius: 16px; padding: 18px;
}
.query { display: flex; flex-direction: column; justify-content: center; gap: 10px; }
.query { border-radius: 11px; padding: 14px; }
.query h3 { font-size: 13px; font-weight: 600; }
.query.text { background: var(--text-wash); } .query.text h3 { color: var(--text); }
.query.image { background: var(--image-wash); } .query.image h3 { color: var(--image); }
.query.audio { background: var(--audio-wash); } .query.audio h3 { color: var(--audio); }
.query .name { margin: 0; }
.query blockquote { font-size: 21px; line-height: 1.25; font-weight: 600; letter-spacing: -.01em; }
.query blockquote::before { content: "“"; } .query blockquote::after { content: "”"; }

.hits { list-style: none; padding: 0; display: grid; grid-template-columns: repeat(5, minmax(0, 1fr)); gap: 14px; }
.hits li { display: flex; flex-direction: column; }
.hits li > blockquote, .hits li > .sound { flex: 1; }
img { display: block; width: 100%; aspect-ratio: 1; object-fit: cover; border-radius: 10px; background: var(--track); }
.hits .confident > :first-child { outline: 3px solid; outline-offset: 2px; border-radius: 10px; }
.hits .text.confident > :first-child { outline-color: var(--text); }
.hits .image.confident > :first-child { outline-color: var(--image); }
.hits .audio.confident > :first-child { outline-color: var(--audio); }
.probability { font-size: 12.5px; color: var(--soft); }
.confident .probability { color: var(--ink); font-weight: 600; }
.hits blockquote {
  background: var(--text-wash); border-radius: 10px; padding: 11px 12px; font-size: 14px; line-height: 1.4;
}
.sound {
  display: flex; flex-direction: column; justify-content: center; gap: 8px; min-height: 104px;
  border-radius: 10px; padding: 10px 8px; background: var(--audio-wash);
}
.query .sound { padding: 0; background: none; }
.sound svg { display: block; width: 100%; height: 52px; fill: var(--audio); }
audio { width: 100%; height: 34px; display: block; }
.name {
  font-size: 13px; color: var(--soft); margin-top: 8px; white-space: nowrap; overflow: hidden; text-overflow: ellipsis;
}
.score { display: flex; align-items: center; gap: 8px; font-size: 13px; font-variant-numeric: tabular-nums; }
.score span { flex: 1; height: 6px; border-radius: 3px; background: var(--track); overflow: hidden; }
.score i { display: block; height: 100%; border-radius: 3px; background: var(--ink); }
.text .score i { background: var(--text); } .image .score i { background: var(--image); }
.audio .score i { background: var(--audio); }
.how { grid-column: 1 / -1; display: flex; gap: 14px; justify-content: space-between; margin-top: 14px;
  color: var(--soft); font-size: 13px; }
code { font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
.how span { white-space: nowrap; }

.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 16px; }
.classification {
  display: grid; grid-template-columns: 190px 1fr; gap: 22px; background: var(--card);
  border: 1px solid var(--line); border-radius: 16px; padding: 18px;
}
.labels { list-style: none; padding: 0; display: flex; flex-direction: column; justify-content: center; gap: 9px; }
.labels .label { font-size: 15px; } .labels li:first-child { font-weight: 650; }
.labels .score { min-height: 18px; }
.image + .labels .score i { background: var(--image); } .audio + .labels .score i { background: var(--audio); }

.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 350px), 1fr)); gap: 16px; }
.generated {
  display: grid; grid-template-columns: 1fr 1fr; gap: 0 16px; background: var(--card);
  border: 1px solid var(--line); border-radius: 16px; padding: 14px;
}
.made { display: flex; flex-direction: column; justify-content: center; }
.made blockquote { font-size: 19px; line-height: 1.3; font-weight: 600; letter-spacing: -.01em; }

footer { color: var(--soft); border-top: 1px solid var(--line); margin-top: 56px; padding-top: 4px; }
footer h2 { color: var(--ink); margin-top: 26px; }
footer p { max-width: 50em; margin-bottom: 12px; }
footer strong, footer code { color: var(--ink); }
.small { display: flex; flex-wrap: wrap; gap: 8px 28px; font-size: 14px; margin: 18px 0; }
.small dt { font-size: 13px; } .small dd { color: var(--ink); overflow-wrap: anywhere; }
.licences { font-size: 13px; }

@media (max-width: 820px) {
  .question { grid-template-columns: 1fr; gap: 16px; padding: 14px; }
  .question .query { flex-direction: row; align-items: center; flex-wrap: wrap; justify-content: flex-start; }
  .query h3 { width: 4em; } .query img { width: 112px; } .query .sound { flex: 1; min-width: 200px; min-height: 0; }
  .hits { display: flex; overflow-x: auto; scroll-snap-type: x proximity; scroll-padding: 5px; padding: 5px;
    margin: -5px; }
  .hits li { flex: 0 0 148px; scroll-snap-align: start; }
  .hits li:has(audio) { flex-basis: 190px; }
  .how { margin-top: 0; }
}
@media (max-width: 480px) {
  .classification { grid-template-columns: 1fr; }
  .facts { gap: 12px 26px; } .facts dd { font-size: 22px; }
}
@media print { .question, .classification { break-inside: avoid; } audio { display: none; } }
"""
