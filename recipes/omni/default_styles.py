"""Charts by the defaults of matplotlib and seaborn, for evaluation only: the network is never trained on them."""

from __future__ import annotations

import io
import random

import numpy as np
from PIL import Image

from recipes.omni import charts, names

MIN_AXIS, MAX_AXIS = 20, 100
SMALL = (3.2, 2.4)  # inches, at 100 dpi: letters stay legible at the size that the network sees
STYLES = ("matplotlib", "matplotlib, small", "seaborn", "seaborn, small")


def draw(rng: random.Random, kind: str, style: str) -> tuple[np.ndarray, list[tuple[str, int]]]:
    """A chart of 3 to 6 items with default colours, fonts and axes.

    Args:
        rng: Of names and values.
        kind: "bar", "line" or "pie".
        style: One of STYLES; "small" figures are half as wide as the default, and have smaller texts.

    Returns:
        Pixels (h, w, 3) uint8, and name in lower case and value of each item.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    if style.startswith("seaborn"):
        import seaborn

        seaborn.set_theme()
    else:
        plt.rcdefaults()
    count = rng.randint(3, 6)
    words: list[str] = []
    while len(words) < count:
        word = names.name(rng, held_out=True)
        if len(word) <= (7 if count <= 4 else 5) and word not in words:
            words.append(word)
    most = rng.randint(MIN_AXIS, MAX_AXIS)
    values = charts.shares(rng, count) if kind == "pie" else [rng.randint(1, most) for _ in range(count)]
    figure, axes = plt.subplots(figsize=SMALL if style.endswith("small") else None)
    if style.endswith("small"):
        plt.rcParams["font.size"] = 10
    shown = [word.capitalize() for word in words]
    if kind == "bar":
        axes.bar(shown, values)
    elif kind == "line":
        axes.plot(shown, values)
    else:
        axes.pie(values, labels=shown, autopct="%d%%")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100)
    plt.close(figure)
    rows = [(word.lower(), value) for word, value in zip(words, values, strict=True)]
    return np.asarray(Image.open(file).convert("RGB")), rows
