"""Training charts: bars, lines and pies drawn with Pillow, with the position of every letter and mark.

Charts are drawn in grey at twice their size and reduced; texts are drawn at their size. Fonts of `HELD_OUT_FONTS` and
held-out names are for the evaluation.
"""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from multimodal.encoders.starter.omni.networks import CHART_HEIGHT, CHART_WIDTH
from multimodal.encoders.starter.omni.vocabulary import IS, PERCENT, ROW, pointed
from recipes.omni import names

FONTS = (
    "DejaVuSans.ttf", "DejaVuSans.ttf", "DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSansCondensed.ttf",
    "DejaVuSerif.ttf", "NimbusSans-Regular.otf", "NimbusSans-Regular.otf", "NimbusSans-Bold.otf",
    "NimbusRoman-Regular.otf", "P052-Roman.otf", "C059-Roman.otf", "URWGothic-Book.otf", "DejaVuSans-Oblique.ttf",
)  # fmt: skip
HELD_OUT_FONTS = ("URWBookman-Light.otf", "NotoSansMono-Regular.ttf", "DejaVuSansCondensed-Bold.ttf")
SIZES = (8, 9, 9, 10, 10, 11, 12)
KINDS = ("bar", "line", "pie")
STEPS = (2, 5, 10, 20, 25)
MOST_ON_AXIS = 100
BASELINE = 0.36  # of the size of a font: half the height of its letters


@dataclass
class Chart:
    """A drawn chart.

    Attributes:
        pixels: Grey, (CHART_HEIGHT, CHART_WIDTH) uint8.
        kind: One of KINDS.
        rows: Name in lower case and value of each item.
        text: The table, as the decoder writes it.
        places: (len(text), 3): where the decoder points at each character, x and y, and the value there; NaN for none.
        letters: Every drawn character in lower case, with x and y.
        marks: x and y of each bar's top or line's point.
    """

    pixels: np.ndarray
    kind: str
    rows: list[tuple[str, int]]
    text: str
    places: np.ndarray
    letters: list[tuple[str, float, float]]
    marks: list[tuple[float, float]]


@dataclass
class Style:
    """What all parts of a chart share."""

    rng: random.Random
    font: ImageFont.FreeTypeFont
    size: int
    paper: int
    ink: int
    letters: list[tuple[str, float, float]] = field(default_factory=list)
    texts: list[tuple[float, float, str, int]] = field(default_factory=list)

    def write(
        self, text: str, x: float, y: float, align: str = "m", ink: int | None = None
    ) -> list[tuple[float, float]]:
        """Notes a text to be drawn last -> x, y of its letters. x: of its left (l), middle (m) or right (r)."""
        width = self.font.getlength(text)
        left = round(x - {"l": 0.0, "m": width / 2, "r": width}[align])
        self.texts.append((left, round(y + BASELINE * self.size), text, self.ink if ink is None else ink))
        edges = [left + self.font.getlength(text[:count]) for count in range(len(text) + 1)]
        centres = [((a + b) / 2, float(y)) for a, b in itertools.pairwise(edges)]
        self.letters += [(c.lower(), *at) for c, at in zip(text, centres, strict=True)]
        return centres


@lru_cache(maxsize=256)
def load_font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """A font by the name of its file, wherever the system keeps it."""
    return ImageFont.truetype(name, size, layout_engine=ImageFont.Layout.BASIC)


def draw(
    rng: random.Random, kind: str | None = None, *, held_out_names: bool = False, held_out_fonts: bool = False
) -> Chart:
    """A random chart. kind: one of KINDS, or None for any."""
    kind = kind or rng.choices(KINDS, (0.4, 0.35, 0.25))[0]
    size = rng.choice(SIZES)
    dark = rng.random() < 0.08
    paper, ink = (
        (rng.randint(0, 40), rng.randint(200, 255)) if dark else (rng.randint(225, 255), rng.randint(0, 60))
    )
    if rng.random() < 0.5 and not dark:
        paper, ink = 255, 0
    fonts = HELD_OUT_FONTS if held_out_fonts else FONTS
    style = Style(rng, load_font(rng.choice(fonts), size), size, paper, ink)
    canvas = Image.new("L", (2 * CHART_WIDTH, 2 * CHART_HEIGHT), paper)
    pen = ImageDraw.Draw(canvas)
    top = 4.0
    if rng.random() < 0.3:
        title = " ".join(names.cased(names.name(rng), rng) for _ in range(rng.randint(1, 3)))[:24]
        style.write(title, CHART_WIDTH / 2 + rng.uniform(-20, 20), top + style.size / 2)
        top += style.size + 3
    make = pie if kind == "pie" else axes
    rows, text, places, marks = make(style, pen, kind, top, held_out_names)
    small = canvas.reduce(2)
    pen = ImageDraw.Draw(small)
    for left, base, written, shade in style.texts:
        pen.text((left, base), written, fill=shade, font=style.font, anchor="ls")
    letters = [letter for letter in style.letters if letter[0] != " "]
    return Chart(distort(small, rng), kind, rows, text, places, letters, marks)


def distort(image: Image.Image, rng: random.Random) -> np.ndarray:
    """A little blur, contrast and noise, as of an image that was resized and stored."""
    if rng.random() < 0.3:
        image = Image.blend(image, image.filter(ImageFilter.BoxBlur(1)), rng.uniform(0.1, 0.6))
    pixels = np.asarray(image)
    if rng.random() < 0.3:
        noise = np.random.default_rng(rng.getrandbits(32)).normal(0, rng.uniform(1, 10), pixels.shape)
        pixels = (pixels + noise).clip(0, 255).astype(np.uint8)
    return pixels


def pick_names(style: Style, count: int, room: float, held_out: bool) -> list[str]:
    """Different names that fit into `room` pixels, as they are written."""
    rng, taken = style.rng, dict[str, str]()
    case = rng.choice((str, str.capitalize, str.capitalize, str.upper, None))
    for attempt in range(400):
        if len(taken) == count:
            break
        plain = names.name(rng, held_out=held_out)
        shown = case(plain) if case else names.cased(plain, rng)
        if attempt > 60 and not held_out:  # little room: shorter words
            shown = shown[: rng.randint(1, 4)]
        if style.font.getlength(shown) <= room:
            taken.setdefault(shown.lower(), shown)
    while len(taken) < count:  # no held-out word is this short
        shown = rng.choice("abcdefghijklmnopqrstuvwxyz") + rng.choice("abcdefghijklmnopqrstuvwxyz")
        taken.setdefault(shown, shown)
    return list(taken.values())


@dataclass(frozen=True)
class Axis:
    """Ticks from `low` to `high`, and a plot from `bottom` to `top` in the same units."""

    low: int
    high: int
    step: int
    bottom: float
    top: float


def random_axis(rng: random.Random, kind: str) -> Axis:
    """Ticks at multiples of a round step up to 20 to 100; lines need not begin at zero."""
    while True:
        step, count = rng.choice(STEPS), rng.randint(2, 10)
        low = 0 if kind == "bar" or rng.random() < 0.55 else step * rng.randint(1, 8)
        high = low + step * count
        if 20 <= high <= MOST_ON_AXIS and (count <= 6 or step * count >= 50 or rng.random() < 0.3):
            break
    top = high + (0.0 if rng.random() < 0.4 else rng.uniform(0, 0.9) * step)
    bottom = low - (0.0 if kind == "bar" or rng.random() < 0.4 else rng.uniform(0, 0.9) * step)
    return Axis(low, high, step, bottom, top)


def axes(
    style: Style, pen: ImageDraw.ImageDraw, kind: str, top: float, held_out: bool
) -> tuple[list[tuple[str, int]], str, np.ndarray, list[tuple[float, float]]]:
    """Bars or a line on axes."""
    rng, axis = style.rng, random_axis(style.rng, kind)
    tick_width = style.font.getlength(str(axis.high))
    left = tick_width + rng.uniform(6, 14)
    right = CHART_WIDTH - rng.uniform(3, 16)
    upper, lower = top + rng.uniform(3, 14), CHART_HEIGHT - style.size - rng.uniform(5, 12)
    if rng.random() < 0.12:  # a label below the names
        lower -= style.size + 2
        style.write(names.name(rng), (left + right) / 2, CHART_HEIGHT - style.size / 2 - 2)
    if rng.random() < 0.15:  # a small plot
        upper += rng.uniform(0, 30)
        right -= rng.uniform(0, 40)

    def at(value: float) -> float:
        y = lower - (value - axis.bottom) / (axis.top - axis.bottom) * (lower - upper)
        return round(2 * y) / 2

    ticks = range(axis.low, axis.high + 1, axis.step)
    plot_frame(style, pen, (left, upper, right, lower), [at(tick) for tick in ticks])
    gap = rng.uniform(3, 6)
    tick_places = {tick: style.write(str(tick), left - gap, at(tick), "r") for tick in ticks}
    count = rng.randint(3, 6)
    margin = rng.uniform(0, 0.45) if kind == "bar" else rng.uniform(-0.38, 0.2)  # of the distance of items
    slot = (right - left) / (count + 2 * margin)
    centres = [left + (margin + 0.5 + number) * slot for number in range(count)]
    room = min(slot - 3, 2 * centres[0] - 2, 2 * (CHART_WIDTH - centres[-1]) - 2)
    shown = pick_names(style, count, room, held_out)
    least = max(1, math.ceil(axis.bottom))
    values = [rng.randint(least, math.floor(axis.top)) for _ in range(count)]
    marks = [(round(2 * x) / 2, at(value)) for x, value in zip(centres, values, strict=True)]
    base = lower + rng.uniform(2, 5) + style.size / 2
    written = [style.write(text, x, base) for text, x in zip(shown, centres, strict=True)]
    (bars if kind == "bar" else line)(style, pen, marks, slot, at(axis.bottom))
    rows = [(text.lower(), value) for text, value in zip(shown, values, strict=True)]
    parts = [(f"{axis.low}{IS}{axis.high}", [*[(x, at(axis.low)) for x, _ in tick_places[axis.low]], None,
                                              *[(x, at(axis.high)) for x, _ in tick_places[axis.high]]])]  # fmt: skip
    parts += [
        (f"{name}{IS}{value}", [*places, mark, *[None] * len(str(value))])
        for (name, value), places, mark in zip(rows, written, marks, strict=True)
    ]
    text, places = table(parts)
    fill_values(text, places, [value for _, value in rows])
    return rows, text, places, marks


def table(parts: list[tuple[str, list]]) -> tuple[str, np.ndarray]:
    """Joins rows of (text, position or None per character) -> the text, and (characters, 3) positions, NaN for none."""
    text = ROW.join(part for part, _ in parts)
    flat: list = []
    for part, places in parts:
        flat += [*places, None] if len(part) == len(places) else [None] * (len(part) + 1)
    result = np.full((len(text), 3), np.nan, np.float32)
    for number, place in enumerate(flat[: len(text)]):
        if place is not None and pointed(text[: number + 1]):
            result[number, :2] = place
    return text, result


def fill_values(text: str, places: np.ndarray, values: list[int]) -> None:
    """Notes the value at the `:` behind each name."""
    colons = [at for at, character in enumerate(text) if character == IS][1:]
    for at, value in zip(colons, values, strict=True):
        places[at, 2] = value


def plot_frame(
    style: Style, pen: ImageDraw.ImageDraw, box: tuple[float, float, float, float], ticks: list[float]
) -> None:
    """Background, grid, spines and tick marks."""
    rng = style.rng
    left, upper, right, lower = (round(2 * edge) for edge in box)
    light = style.paper > 128
    if rng.random() < 0.25:
        fill = style.paper + (-1 if light else 1) * rng.randint(8, 40)
        pen.rectangle((left, upper, right, lower), fill=fill)
        style.paper = fill
    if rng.random() < 0.45:
        shade = rng.randint(150, 255) if light else rng.randint(60, 130)
        for y in ticks:
            pen.line((left, round(2 * y), right, round(2 * y)), fill=shade, width=rng.choice((1, 2)))
    width, shade = rng.choice((1, 2, 2, 3)), style.ink if rng.random() < 0.7 else (130 if light else 150)
    spines = rng.choice(("box", "box", "corner", "bottom", "none"))
    if spines == "box":
        pen.rectangle((left, upper, right, lower), outline=shade, width=width)
    if spines in ("corner", "bottom"):
        pen.line((left, lower, right, lower), fill=shade, width=width)
    if spines == "corner":
        pen.line((left, upper, left, lower), fill=shade, width=width)
    if rng.random() < 0.6:
        for y in ticks:
            pen.line((left - rng.choice((4, 5, 6)), round(2 * y), left, round(2 * y)), fill=shade, width=2)


def contrasting(style: Style) -> int:
    """A grey that differs from the paper."""
    while True:
        shade = style.rng.randint(0, 255)
        if abs(shade - style.paper) > 45:
            return shade


def bars(
    style: Style, pen: ImageDraw.ImageDraw, marks: list[tuple[float, float]], slot: float, base: float
) -> None:
    """Bars whose tops are at the marks."""
    rng = style.rng
    width, shade, is_same = slot * rng.uniform(0.4, 0.92), contrasting(style), rng.random() < 0.6
    outline = style.ink if rng.random() < 0.25 else None
    for x, y in marks:
        fill = shade if is_same else contrasting(style)
        box = (
            round(2 * x - width),
            min(round(2 * y), round(2 * base)),
            round(2 * x + width),
            round(2 * base),
        )
        pen.rectangle(box, fill=fill, outline=outline, width=rng.choice((1, 2)))


def line(
    style: Style, pen: ImageDraw.ImageDraw, marks: list[tuple[float, float]], slot: float, base: float
) -> None:
    """A line through the marks, with or without symbols."""
    rng, shade = style.rng, contrasting(style)
    pen.line([(2 * x, 2 * y) for x, y in marks], fill=shade, width=rng.choice((2, 3, 3, 4, 5)), joint="curve")
    symbol, radius = rng.choice(("none", "none", "disc", "disc", "square")), rng.uniform(2.5, 6)
    for x, y in marks:
        box = (2 * x - radius, 2 * y - radius, 2 * x + radius, 2 * y + radius)
        if symbol == "disc":
            pen.ellipse(box, fill=shade)
        if symbol == "square":
            pen.rectangle(box, fill=shade)


def shares(rng: random.Random, count: int) -> list[int]:
    """Whole percentages of at least 6 that add up to 100."""
    cuts = sorted(rng.sample(range(1, 100 - 6 * count + count), count - 1))
    edges = [0, *cuts, 100 - 6 * count + count]
    return [b - a - 1 + 6 for a, b in itertools.pairwise(edges)]


def pie(
    style: Style, pen: ImageDraw.ImageDraw, kind: str, top: float, held_out: bool
) -> tuple[list[tuple[str, int]], str, np.ndarray, list[tuple[float, float]]]:
    """A pie with percentages in its slices and names around it, listed anticlockwise from the right."""
    rng = style.rng
    radius = rng.uniform(46, 70)
    middle = (CHART_WIDTH / 2 + rng.uniform(-14, 14), (top + CHART_HEIGHT) / 2 + rng.uniform(-6, 6))
    radius = min(radius, (CHART_HEIGHT - top) / 2 - style.size - 5)
    count = rng.randint(3, 6)
    parts = shares(rng, count)
    turn = rng.choice((0.0, 0.0, 90.0, rng.uniform(0, 360)))
    outline = rng.choice((None, None, 255, 0))
    outside, inside = rng.uniform(1.07, 1.18), rng.uniform(0.55, 0.72)
    found: list[tuple[float, float, float, int]] = []
    angle = turn
    for part in parts:
        sweep = 3.6 * part
        fill = contrasting(style)
        box = [
            2 * middle[0] - 2 * radius,
            2 * middle[1] - 2 * radius,
            2 * middle[0] + 2 * radius,
            2 * middle[1] + 2 * radius,
        ]
        pen.pieslice(box, -(angle + sweep), -angle, fill=fill, outline=outline)  # Pillow turns clockwise
        way = math.radians(angle + sweep / 2)
        found.append(((angle + sweep / 2) % 360, math.cos(way), -math.sin(way), fill))
        angle += sweep
    room = CHART_WIDTH / 2 - 14 - radius * outside * 0.75 - 3
    shown = pick_names(style, count, room, held_out)
    order = sorted(range(count), key=lambda number: found[number][0])
    rows, lines = [], []
    for number, text in zip(order, shown, strict=True):
        _, right, down, fill = found[number]
        reach = radius * outside
        x = middle[0] + reach * right
        width = style.font.getlength(text)
        x = min(x, CHART_WIDTH - width - 1) if right > 0 else max(x, width + 1)
        name_places = style.write(text, x, middle[1] + reach * down, "l" if right > 0 else "r")
        ink = (0 if fill > 110 else 255) if rng.random() < 0.85 or abs(fill - style.ink) < 70 else style.ink
        percent = f"{parts[number]}%"
        places = style.write(
            percent, middle[0] + radius * inside * right, middle[1] + radius * inside * down, "m", ink
        )
        rows.append((text.lower(), parts[number]))
        lines.append((f"{text.lower()}{IS}{parts[number]}", [*name_places, None, *places[:-1]]))
    text, pointers = table([(PERCENT, [None]), *lines])
    return rows, text, pointers, []
