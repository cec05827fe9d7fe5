"""Evaluates the network on fresh charts, scenes and speech: `python -m recipes.omni.judge --work RUNS`.

Values are judged by place (in the order of the axis) and by name (the answer to a question), names by the edit distance
to the name at the same place. Charts by matplotlib's and seaborn's defaults are never trained on.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from multimodal.encoders.starter.omni.model import chart_pixels
from multimodal.encoders.starter.omni.networks import OmniNet
from multimodal.encoders.starter.omni.reading import read_charts
from multimodal.encoders.starter.omni.tables import ChartTable
from multimodal.encoders.starter.omni.vocabulary import MAX_TOKENS, to_text, to_tokens
from multimodal.encoders.starter.omni.writing import write_texts
from multimodal.evaluation.figure import wilson
from multimodal.evaluation.metrics.text import edits
from recipes.omni import charts, default_styles, speech
from recipes.starter.captioner import captions
from recipes.starter.captioner.caption_data import describe
from recipes.starter.data.concepts import read
from recipes.starter.figures import evaluate, judges
from recipes.starter.towers.train_speech import pad_clips

SEED = 2_024
BATCH = 50
# A task that does not reach these percentages is refused.
MIN_VALUES, MIN_BY_NAME, MIN_SCENES, MAX_WRONG_LETTERS = 85.0, 80.0, 85.0, 15.0
SPEAKERS = ("unseen voices", "flite kal16", "flite rms", "festival", "untouched festival ked")

Rows = list[tuple[str, int]]


def share(hits: int, total: int) -> dict[str, float]:
    """Percent with its 95 % interval (Wilson)."""
    low, high = wilson(hits, total)
    return {
        "percent": round(100 * hits / total, 1), "low": round(100 * low, 1), "high": round(100 * high, 1), "n": total,
    }  # fmt: skip


def error_rate(pairs: list[tuple[str, str]], seed: int = 0) -> dict[str, float]:
    """Percent of wrong characters of (right, written) pairs, with a 95 % interval by the bootstrap over pairs."""
    wrong = np.array([edits(right, written) for right, written in pairs], float)
    sizes = np.array([len(right) for right, _ in pairs], float)
    rows = np.random.default_rng(seed).integers(0, len(pairs), (1_000, len(pairs)))
    draws = wrong[rows].sum(1) / sizes[rows].sum(1)
    low, high = np.percentile(draws, (2.5, 97.5))
    return {
        "percent": round(100 * float(wrong.sum() / sizes.sum()), 1),
        "low": round(100 * float(low), 1), "high": round(100 * float(high), 1),
        "n": len(pairs),
    }  # fmt: skip


def judge_tables(shown: list[Rows], tables: list[ChartTable | None]) -> dict[str, dict[str, float]]:
    """All figures of charts: what they show, and what was read."""
    values, by_name, largest, whole, pairs = [], [], [], [], []
    for rows, table in zip(shown, tables, strict=True):
        written = table.rows if table else ()
        for place, (name, value) in enumerate(rows):
            same_place = written[place] if len(written) == len(rows) else ("", -1)
            values.append(same_place[1] == value)
            pairs.append((name, same_place[0] if table else ""))
            said = table.answer(f"what is the value of {name}?") if table else None
            by_name.append(said is not None and said.rstrip("%") == str(value))
        top = max(value for _, value in rows)
        best = [name for name, value in rows if value == top]
        largest.append(table is not None and table.answer("which is largest?") in best)
        whole.append(list(written) == rows)
    return {
        "values by place": share(sum(values), len(values)),
        "names, wrong letters": error_rate(pairs),
        "value by name": share(sum(by_name), len(by_name)),
        "largest by name": share(sum(largest), len(largest)),
        "whole table": share(sum(whole), len(whole)),
    }


def read_all(net: OmniNet, pixels: list[np.ndarray]) -> list[ChartTable | None]:
    tables: list[ChartTable | None] = []
    for start in range(0, len(pixels), BATCH):
        batch = torch.from_numpy(np.stack(pixels[start : start + BATCH]))[:, None]
        tables += [ChartTable.parse(reading.text) for reading in read_charts(net, batch)]
    return tables


def judge_charts(net: OmniNet, count: int) -> dict[str, Any]:
    """Fresh charts of each kind with names and fonts of training, unseen words, and an unseen font."""
    result: dict[str, Any] = {}
    conditions = {
        "": {},
        ", unseen names": {"held_out_names": True},
        ", unseen font": {"held_out_fonts": True},
    }
    for kind in charts.KINDS:
        for title, options in conditions.items():
            rng = random.Random(f"{SEED} {kind} {title}")
            drawn: list[charts.Chart] = []
            while len(drawn) < count:
                chart = charts.draw(rng, kind, **options)
                if len(chart.text) < MAX_TOKENS:
                    drawn.append(chart)
            tables = read_all(net, [chart.pixels for chart in drawn])
            result[kind + title] = judge_tables([chart.rows for chart in drawn], tables)
    return result


def judge_default_styles(net: OmniNet, count: int) -> dict[str, Any]:
    """Charts by matplotlib's and seaborn's defaults, with unseen names."""
    result = {}
    for style in default_styles.STYLES:
        for kind in charts.KINDS:
            rng = random.Random(f"{SEED} {style} {kind}")
            drawn = [default_styles.draw(rng, kind, style) for _ in range(count)]
            tables = read_all(net, [chart_pixels(rgb)[0].numpy() for rgb, _ in drawn])
            result[f"{kind}, {style}"] = judge_tables([rows for _, rows in drawn], tables)
    return result


def judge_scenes(net: OmniNet, work: Path, every: int = 1) -> dict[str, Any]:
    """Exact captions of the images that the captioner is judged by."""
    names = [concept.name for concept in read(work / "world.jsonl")]
    known, held, result = set(names), captions.held_out(len(names)), {}

    def exact(pixels: Tensor, right: list[str]) -> dict[str, float]:
        said = write_images(net, pixels)
        return share(sum(a == to_text(to_tokens(b)) for a, b in zip(said, right, strict=True)), len(right))

    for kind in ("clean", "ground", "both", "untouched ground"):
        result[f"picture, {kind}"] = exact(judges.images(work, kind)[::every], names[::every])
    rows = judges.drawn_by_openmoji(work)[::every]
    result["picture, OpenMoji"] = exact(judges.images(work, "openmoji")[rows], [names[row] for row in rows])
    combined: dict[str, list[captions.Scene]] = {
        "picture, colour + thing never together": [(captions.Subject(a, b),) for a, b in held.coloured],
        "picture, two things never together": [
            (captions.Subject(a), captions.Subject(b)) for a, b in held.pairs
        ],
    }
    for title, scenes in combined.items():
        result[title] = exact(
            judges.scenes(work, scenes, 17), [describe(scene, names, known) for scene in scenes]
        )
    return result


def write_images(net: OmniNet, pixels: Tensor, beams: int = 1) -> list[str]:
    said = []
    with torch.inference_mode():
        for part in pixels.split(64):
            memory = net.image_memory(part)
            said += [to_text(row.tokens) for row in write_texts(net, "describe", memory, beams=beams)]
    return said


def write_speech(net: OmniNet, clips: list[Tensor], beams: int = 1) -> list[str]:
    order = sorted(range(len(clips)), key=lambda row: len(clips[row]))
    said = [""] * len(clips)
    with torch.inference_mode():
        for start in range(0, len(order), 32):
            rows = order[start : start + 32]
            memory, blocked, *_ = net.speech_memory(*pad_clips([clips[row] for row in rows]))
            written = write_texts(net, "transcribe", memory, blocked, beams=beams)
            for row, sequence in zip(rows, written, strict=True):
                said[row] = to_text(sequence.tokens)
    return said


def judge_speech(net: OmniNet, work: Path, every: int) -> dict[str, Any]:
    """Wrong letters: open phrases by unseen voices, and names by unseen voices and speakers."""

    def wrong(data: Any, rows: np.ndarray) -> dict[str, float]:
        mels, starts = torch.from_numpy(data["mels"]), data["starts"]
        clips = [mels[starts[row] : starts[row + 1]].float() / 127.5 - 1 for row in rows]
        right = [speech.spoken(str(data["texts"][row])) for row in rows]
        return error_rate(list(zip(right, write_speech(net, clips), strict=True)))

    opened = np.load(work / "omni_open.npz")
    result = {"open phrases, unseen voices": wrong(opened, np.arange(len(opened["texts"])))}
    data = judges.clips(work)
    for title in SPEAKERS:
        rows = [np.flatnonzero(data["speakers"] == who)[::every] for who in evaluate.SPEAKERS[title]]
        result[f"names, {title}"] = wrong(data, np.concatenate(rows))
    return result


def full(net: OmniNet, work: Path, *, count: int = 60, every: int = 12) -> dict[str, Any]:
    """Every figure of the card."""
    return {
        "charts": judge_charts(net, count),
        "default styles": judge_default_styles(net, count // 4),
        "scenes": judge_scenes(net, work, every),
        "speech": judge_speech(net, work, every),
    }


def good_tasks(figures: dict[str, Any]) -> list[str]:
    """What is good enough to be offered."""
    drawn, scenes, spoken = figures["charts"], figures["scenes"], figures["speech"]

    def reads(kind: str) -> bool:
        return (
            drawn[f"{kind}, unseen names"]["values by place"]["percent"] >= MIN_VALUES
            and drawn[f"{kind}, unseen names"]["value by name"]["percent"] >= MIN_BY_NAME
        )

    good = {
        "describe": scenes["picture, clean"]["percent"] >= MIN_SCENES,
        "axes": reads("bar") and reads("line"),
        "pie": reads("pie"),
        "transcribe": spoken["open phrases, unseen voices"]["percent"] <= MAX_WRONG_LETTERS,
    }
    return [task for task, is_good in good.items() if is_good]


def load_net(file: Path) -> OmniNet:
    """The network of a checkpoint of the trainer."""
    net = OmniNet()
    net.load_state_dict(torch.load(file, weights_only=True)["net"])
    return net.eval().requires_grad_(False)


def main() -> None:
    parser = argparse.ArgumentParser(prog="recipes.omni.judge", description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", choices=("charts", "default styles", "scenes", "speech"))
    parser.add_argument("--count", type=int, default=200, help="charts of each kind")
    parser.add_argument("--every", type=int, default=8, help="only each so many-th scene or clip")
    args = parser.parse_args()
    torch.set_num_threads(1)
    net = load_net(args.work / "omni_state.pt")
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "charts": lambda: judge_charts(net, args.count),
        "default styles": lambda: judge_default_styles(net, args.count),
        "scenes": lambda: judge_scenes(net, args.work, args.every),
        "speech": lambda: judge_speech(net, args.work, args.every),
    }
    for title, part in parts.items():
        if args.only in (None, title):
            began = time.process_time()
            for row, figures in part().items():
                print(row, json.dumps(figures), flush=True)
            print(f"{title}: {time.process_time() - began:.0f} CPU seconds", flush=True)


if __name__ == "__main__":
    main()
