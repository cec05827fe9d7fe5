"""Writes README.md, the card of the network, beside its weights, from figures.json."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from recipes.omni.judge import MAX_WRONG_LETTERS, MIN_BY_NAME, MIN_SCENES, MIN_VALUES
from recipes.omni.train import CHARTS, CLIPS, SCENES

HEADINGS = ("values by place", "names, wrong letters", "value by name", "largest by name", "whole table")
INTRODUCTION = """# starter-omni

One small encoder-decoder that was trained on three tasks at once: to caption scenes, to read charts (bars, lines and
pies with printed percentages), and to transcribe speech. {size} M parameters are stored, in float16
({megabytes} MB): those of the tasks that are offered.

**Offered**: {offered}. **Not learned well enough, and refused by the pipelines**: {refused}.
Charts are offered from {values} % of the values right by place and {named} % by name, with names that training never
draws; captions from {scenes} % of clean images, and speech up to {wrong} % wrong characters.

| part | network | parameters |
|---|---|---|
{parts}

The decoder writes characters. A chart is written as a table, from which questions are answered by rules (the table
first, as in DePlot, Liu et al. 2023). While it writes, one attention head points at the letter, tick or mark that it
reads, and the position it points at is an input of the next step. Two ticks are read first, so that a position becomes
a value of the axis; the scaling is arithmetic, not learned (as in ChartOCR, Luo et al. 2021).
"""
TRAINING = """
## Training
`make omni` (`recipes/omni`): charts are drawn with Pillow, with the position of every letter and mark. The chart
encoder is trained to classify each cell and to locate what is in it, the decoder to write the table and to point.
Scenes are those of the starter's captioner; speech is synthesised by espeak-ng. The two towers stay as they are, and
the decoder alone learns to read their states. Every step has a batch of charts, and one of scenes or speech.
The shipped weights took {steps} steps ({charts} charts, {scenes} scenes and {clips} clips) in {minutes} minutes
on one core of a CPU, which other work shared. A speech tower that learned too, for the first 360 steps, was given up
for the starter's own. The decoder has the vector of an image, and three of four steps have scenes, since step 2,986.
Training stopped while the losses still fell.
"""
CHARTS_TEXT = """
## Charts
Percent, with 95 % intervals. Fresh charts of 3 to 6 items, axes of 20 to 100. *Values by place*: the value at the
same place of the table. *Value by name* and *largest by name*: the answers to "what is the value of <name>?" and
"which is largest?". *Unseen names*: English words that training never draws. *Unseen font*: three font files that
training never uses.
"""
ELSEWHERE = """
Charts by the defaults of matplotlib and seaborn, never trained on, with unseen names: figures of 6.4 × 4.8 inches
at 100 dpi, which the network sees at 256 × 192 pixels, where letters are 5 pixels high, and *small* ones of 3.2 ×
2.4 inches.
"""
SCENES_TEXT = """
## Scenes
Exactly right captions of every eighth of the images that the starter's captioner is judged by, decoded greedily.
"""
SPEECH_TEXT = """
## Speech
Wrong characters, decoded greedily, without the character language model that the starter's transcription uses. *Open
phrases*: the eighty free phrases of the starter's card, by espeak-ng voices that training never uses.
"""


LIMITS = """
## Limits
- Charts of 3 to 6 items with whole values on axes from 0 or more up to 100, upright names below the axis, one series.
  Stacked, grouped and horizontal bars, legends, rotated names, logarithmic axes and other languages are not read.
- The probability of a reading says a little about whether it is right. With weights of an earlier stage, of 80 bar and
  line charts with unseen names 91 % of the values were right, of the more probable half 96 %.
- Scenes of one thing are captioned, scenes of two things mostly are not. The starter's captioner is better at both: use
  it where only scenes are to be captioned.
- Most charts by the defaults of matplotlib and seaborn are misread: see the second table.
- Names are read letter by letter, in lower case. A letter of a name may be wrong where the value is right.
- Questions are answered by rules over the table; the rules know the questions of the guide, no others.
- Images are seen at 256 × 192 pixels: small texts of large charts are not legible.
- Scenes and speech have the limits of the starter: emoji, synthesised English.
"""
PARTS = {
    "chart": "residual ConvNet on grey 256 × 192 pixels, one state of 96 per 4 × 8 pixels",
    "scene": "the starter's image tower, 16 states of 288 and its vector",
    "speech": "the starter's audio tower, one state of 176 per 40 ms",
    "memory": "keys and values of all states, with positions",
    "decoder": "3 transformer layers of width 192 over characters, two of which attend to the states",
}
OFFERS = {
    "describe": "captions of scenes",
    "axes": "bar and line charts",
    "pie": "pies with printed percentages",
    "transcribe": "speech",
}


def cell(figure: dict[str, Any]) -> str:
    """Percent, and its interval."""
    return f"{figure['percent']:g} ({figure['low']:g} – {figure['high']:g})"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table; columns after the first are aligned to the right."""
    heads = list(head)
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *map(list, rows)]
    return "\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def charts_table(figures: dict[str, Any]) -> str:
    rows = ([title, *(cell(own[heading]) for heading in HEADINGS)] for title, own in figures.items())
    return table(["charts", *HEADINGS], rows)


def simple_table(heading: str, figures: dict[str, Any], unit: str) -> str:
    return table([heading, unit, "n"], ([title, cell(own), str(own["n"])] for title, own in figures.items()))


def run(output: Path, sizes: dict[str, int], trained: dict[str, float]) -> None:
    """Writes the card.

    Args:
        output: The folder with omni.safetensors, config.json and figures.json.
        sizes: Parameters of each part, by its name in PARTS.
        trained: "steps" and "minutes" of the training, and batches of "scenes" and "speech".
    """
    figures = json.loads((output / "figures.json").read_text())
    tasks = json.loads((output / "config.json").read_text())["tasks"]
    parts = "\n".join(f"| {name} | {PARTS[name]} | {size / 1e6:.2f} M |" for name, size in sizes.items())
    megabytes = (output / "omni.safetensors").stat().st_size / 1e6
    text = INTRODUCTION.format(
        size=f"{sum(sizes.values()) / 1e6:.1f}",
        megabytes=f"{megabytes:.1f}",
        parts=parts,
        values=f"{MIN_VALUES:g}",
        named=f"{MIN_BY_NAME:g}",
        scenes=f"{MIN_SCENES:g}",
        wrong=f"{MAX_WRONG_LETTERS:g}",
        offered=", ".join(OFFERS[task] for task in tasks) or "nothing",
        refused=", ".join(text for task, text in OFFERS.items() if task not in tasks) or "nothing",
    )
    text += TRAINING.format(
        steps=f"{trained['steps']:,.0f}",
        charts=f"{trained['steps'] * CHARTS:,.0f}",
        scenes=f"{trained['scenes'] * SCENES:,.0f}",
        clips=f"{trained['speech'] * CLIPS:,.0f}",
        minutes=f"{trained['minutes']:.0f}",
    )
    text += (
        CHARTS_TEXT + charts_table(figures["charts"]) + ELSEWHERE + charts_table(figures["default styles"])
    )
    text += SCENES_TEXT + simple_table("caption of", figures["scenes"], "exact, %")
    text += SPEECH_TEXT + simple_table("speech", figures["speech"], "wrong, %")
    (output / "README.md").write_text(text + LIMITS)
